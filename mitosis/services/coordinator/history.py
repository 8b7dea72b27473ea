"""Reading the store: the whole history at start, one aggregate when it is needed again."""

import asyncio
import gc
import logging
from time import monotonic
from typing import NamedTuple

from mitosis.contract import subjects
from mitosis.domain.event import Event
from mitosis.domain.platform import CheckpointSigned
from mitosis.errors import REPAIR, CorruptData, MitosisError, StoreUnavailable
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import Commit, decode_commit, digest
from mitosis.events.reader import EventReader
from mitosis.events.snapshots import Manifest, SnapshotStore
from mitosis.services.coordinator import memory
from mitosis.services.coordinator.journal import Journal
from mitosis.services.coordinator.world import Head, World

log = logging.getLogger(__name__)

END_SECONDS = 5.0  # an election takes as long
END_PAUSE_SECONDS = 0.25


class Mark(NamedTuple):
    """The newest commit of the second copy, the archive; position 0: it is empty."""

    position: int = 0
    digest: str = ""


async def read_world(
    reader: EventReader, archived: Mark, snapshots: SnapshotStore
) -> tuple[World, int, int]:
    """Fold history into a new world, from the newest snapshot that can be trusted.

    Returns:
        The world, the position of the last commit in it, and the position of the snapshot.

    Raises:
        CorruptData: A stored commit cannot be read, or does not continue its aggregate; or the
            stream is shorter than its archive, or says something else there, or has lost its end.
        StoreUnavailable: It cannot be read now, or not by one who is sure to have all of it.
    """
    began = monotonic()
    world, start = await _from_snapshot(reader, snapshots)
    if 0 < archived.position <= start:
        await _check_archived(reader, archived)
    position = start
    gc.disable()  # a fold of much history makes no cycles; the collector only costs time here
    try:
        async for batch in reader.batches(start + 1, follow=False):
            for position, subject, payload in batch:
                take_in(world, position, subject, payload)
                if position == archived.position and digest(subject, payload) != archived.digest:
                    raise _differs(f"differs from its archive at position {position}", position)
    finally:
        gc.enable()
    if position < archived.position:
        if await reader.end(archived.position) >= archived.position:
            raise StoreUnavailable("who answered for the event stream was behind: read it again")
        raise _differs(
            f"ends at position {position}, its archive has commits up to {archived.position}",
            archived.position,
        )
    await _check_end(reader, position)
    log.info(
        "history read in %.2f s: %d commits behind the snapshot at %d, %d tasks waiting or running",
        monotonic() - began,
        position - start,
        start,
        len(world.tasks),
    )
    return world, position, start


async def _from_snapshot(reader: EventReader, snapshots: SnapshotStore) -> tuple[World, int]:
    """Return the newest memory that fits this code and this stream; an empty one if none does."""
    for manifest in await snapshots.manifests():
        reason = ""
        if manifest.form != memory.form():
            reason = "another version wrote it"
        elif await _digest_at(reader, manifest.position) != manifest.digest:
            reason = "the stream is another one there"
        elif (content := await snapshots.load(manifest)) is None:
            reason = "its content is damaged"
        else:
            try:
                return memory.restore(content), manifest.position
            except CorruptData as error:
                reason = error.message
        log.warning("the snapshot at position %d is not used: %s", manifest.position, reason)
    return World(), 0


async def _check_archived(reader: EventReader, archived: Mark) -> None:
    if await _digest_at(reader, archived.position) != archived.digest:
        place = archived.position
        raise _differs(f"differs from its archive at position {place}", place)


async def _check_end(reader: EventReader, position: int) -> None:
    """Refuse a stream that counts more commits than can be read: a file of it was cut short.

    What somebody else stores meanwhile can be read, at the latest when its new leader is ready.
    """
    deadline = monotonic() + END_SECONDS
    while await reader.last_position() > position and await reader.message(position + 1) is None:
        if monotonic() >= deadline:
            raise _differs(f"has more than {position} commits, but not the next one", position + 1)
        await asyncio.sleep(END_PAUSE_SECONDS)


async def _digest_at(reader: EventReader, position: int) -> str:
    found = await reader.message(position)
    return digest(found.subject, found.payload) if found else ""


async def write_snapshot(
    snapshots: SnapshotStore, reader: EventReader, world: World, journal: Journal
) -> Manifest:
    """Store what is in memory now, when all of it is in the stream.

    Raises:
        MitosisError: It, or something that it holds, could not be stored.
    """
    position, taken = journal.position, memory.take(world)
    await journal.flush()
    at = await _digest_at(reader, position)
    return await snapshots.save(memory.form(), position, at, memory.frames(taken))


def _differs(what: str, position: int) -> CorruptData:
    return CorruptData(
        f"the event stream {what}: it has lost commits, or they were changed. {REPAIR}; or point "
        "nats_url at the right server",
        position=position,
    )


def take_in(world: World, position: int, subject: str, payload: bytes) -> None:
    """Apply one stored commit to a world.

    Raises:
        CorruptData: It cannot be read, or does not continue its aggregate.
    """
    tail = subjects.tail_of(subject)
    commit = decode_commit(subject, payload, position)
    head = world.heads.get(tail)
    if head is not None and (head.version + 1, head.digest) != (commit.version, commit.previous):
        raise CorruptData(
            f"the commit at position {position} does not continue {tail}: it has version "
            f"{commit.version}, after version {head.version}; run `mito events verify`",
            position=position,
            subject=subject,
        )
    try:
        for event in events_of(commit):
            if isinstance(event, CheckpointSigned):
                _check_signed(world, event, position)
            world.apply(tail, event, position)
    except MitosisError as error:
        error.details.setdefault("position", position)
        raise
    world.link(tail, Head(commit.last_version, position, digest(subject, payload)))
    world.forget(tail)


def _check_signed(world: World, event: CheckpointSigned, position: int) -> None:
    """Refuse a history that is another one than was signed: it must not be signed again."""
    if (event.position, event.count, event.digest) != (position - 1, world.chained, world.chain):
        raise CorruptData(
            f"history up to position {position - 1} is not what the checkpoint at position "
            f"{position} was signed over: it was changed; run `mito events verify`",
            position=position,
        )


def events_of(commit: Commit) -> list[Event]:
    """Return the events of a commit in today's form."""
    return [decode_event(topic, body) for topic, body in commit.events]


async def read_aggregate(reader: EventReader, tail: str) -> tuple[list[Event], Head] | None:
    """Return all events of an aggregate and its head, or None if there is no such one."""
    events: list[Event] = []
    head: Head | None = None
    for position, subject, payload in await reader.read_aggregate(tail):
        commit = decode_commit(subject, payload, position)
        events.extend(events_of(commit))
        head = Head(commit.last_version, position, digest(subject, payload))
    return (events, head) if head else None


async def has_done(
    reader: EventReader, tail: str, actor: str, command: str, *, start: int, upto: int
) -> bool:
    """Whether a command of somebody has changed an aggregate, between two positions.

    Raises:
        StoreUnavailable: The stream cannot be read now.
    """
    for position, subject, payload in await reader.read_aggregate(tail, upto, start=start):
        commit = decode_commit(subject, payload, position)
        if (commit.command, commit.actor) == (command, actor):
            return True
    return False


async def find_group(reader: EventReader, task: str) -> str | None:
    """Return the group of a task of which only the UUID is known, or None."""
    found = await reader.last_message(subjects.events(subjects.task_tail("*", task)))
    return None if found is None else subjects.tail_of(found.subject).split(".")[1]
