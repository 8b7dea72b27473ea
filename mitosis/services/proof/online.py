"""Walks over the stream of a running platform, beside its archive; and exports of it."""

from collections.abc import Callable
from typing import BinaryIO

import msgspec

from mitosis.contract import subjects
from mitosis.domain.platform import KeyRotated
from mitosis.errors import CorruptData, NotFound
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.messages import StoredMessage
from mitosis.events.reader import EventReader
from mitosis.projections.archive import Archive
from mitosis.services.proof.export import line_of, messages
from mitosis.services.proof.findings import Verified
from mitosis.services.proof.walk import Message, Walk

Progress = Callable[[int, int], None]


class ToldKey(msgspec.Struct, frozen=True):
    """A key that history tells.

    Attributes:
        key: Its id.
        public_key: In PEM form.
        position: Of the commit that tells it; it signs what comes after.
        former: The id of the key before it; empty: none.
    """

    key: str
    public_key: str
    position: int
    former: str


class KeyList(msgspec.Struct, frozen=True):
    """All of them, oldest first; the last one signs now."""

    keys: list[ToldKey]


class Exported(msgspec.Struct, frozen=True):
    """What was written: positions, how many commits, and of how many something was withheld."""

    first: int
    last: int
    commits: int
    withheld: int


async def verify_stream(
    reader: EventReader, archive: Archive | None, walk: Walk, progress: Progress
) -> Verified:
    """Walk over the whole stream, and compare it with the archive if there is one.

    Raises:
        Unavailable: NATS or Postgres does not answer.
    """
    archived = await archive.last_position() if archive else 0
    end = await reader.last_position()
    async for batch in reader.batches(follow=False, gaps=True):
        digests = [digest(subject, payload) for _, subject, payload in batch]
        if archive is not None:
            await _compare(archive, archived, walk, batch, digests)
        for (position, subject, payload), each in zip(batch, digests, strict=True):
            walk.take(Message(position, subject, payload, each))
        progress(batch[-1].position, end)
    if end > walk.position:
        walk.lost(
            walk.position + 1, end,
            f"the stream counts its messages up to {end}, but has none behind {walk.position}",
        )  # fmt: skip
    if archived > walk.position:
        walk.findings.add(
            "archive",
            f"the stream ends at position {walk.position}, its archive has commits up to "
            f"{archived}: the end was cut off",
            walk.position + 1,
            archived,
        )
    return walk.finish("stream", archived if archive else None)


async def _compare(
    archive: Archive, archived: int, walk: Walk, batch: list[StoredMessage], digests: list[str]
) -> None:
    kept = await archive.actual_digests(batch[0].position, batch[-1].position)
    for message, each in zip(batch, digests, strict=True):
        position = message.position
        if position in kept:
            if kept[position] != each:
                walk.findings.add(
                    "archive",
                    f"the commit at position {position} is not the one in the archive",
                    position,
                )
        elif position <= archived:
            walk.findings.add("archive", f"the archive lacks position {position}", position)


def verify_export(file: BinaryIO, walk: Walk) -> Verified:
    """Walk over an export.

    Raises:
        CorruptData: It is no export at all.
    """
    first = "it is empty"
    for message in messages(file):
        if isinstance(message, Message):
            walk.take(message)
        else:
            first = walk.findings.count * first or message
            walk.findings.add("unreadable", message, walk.position + 1)
    found = walk.finish("export")
    if not found.commits:
        raise CorruptData(f"this is no export of events: {first}")
    return found


async def export_stream(
    reader: EventReader, first: int, last: int, write: Callable[[bytes], object]
) -> Exported:
    """Write the commits of a range of positions, one line each; `last` 0: to the end.

    Raises:
        CorruptData: One of them is missing.
        NotFound: There is none.
    """
    count = withheld = at = 0
    async for batch in reader.batches(first, follow=False):
        for position, subject, payload in batch:
            if last and position > last:
                break
            line = line_of(position, subject, payload)
            withheld += line.endswith(b"]}\n") and b'"withheld":[' in line
            write(line)
            count, at = count + 1, position
        if last and at >= last:
            break
    if not count:
        raise NotFound(f"there is no commit from position {first} on", position=first)
    return Exported(first, at, count, withheld)


async def told_keys(reader: EventReader) -> KeyList:
    """Return the keys that history tells, oldest first."""
    found = []
    for position, subject, payload in await reader.read_aggregate(subjects.PLATFORM_TAIL):
        for topic, body in decode_commit(subject, payload, position).events:
            event = decode_event(topic, body)
            if isinstance(event, KeyRotated):
                found.append(ToldKey(event.key, event.public_key, position, event.former))
    return KeyList(found)
