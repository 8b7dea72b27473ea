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
from mitosis.services.proof.findings import SHOWN, Verified
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
    """What was written.

    Attributes:
        first, last: The positions of the first and the last commit.
        commits: How many there are.
        withheld: Of how many of them something was withheld.
        missing: How many positions in between the stream does not have.
        gaps: Where they are, first and last position of each gap; the first 100 of them.
    """

    first: int
    last: int
    commits: int
    withheld: int
    missing: int = 0
    gaps: list[tuple[int, int]] = []


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
    first = ""
    for message in messages(file):
        if isinstance(message, Message):
            walk.take(message)
        else:
            first = first or message
            walk.findings.add("unreadable", message, walk.position + 1)
    found = walk.finish("export")
    if not found.commits:
        raise CorruptData(f"this is no export of events: {first or 'it is empty'}")
    return found


async def export_stream(
    reader: EventReader, first: int, last: int, write: Callable[[bytes], object]
) -> Exported:
    """Write the commits of a range of positions, one line each; `last` 0: to the end.

    What is missing is passed over and told: what is left of a damaged history is wanted most.

    Raises:
        NotFound: There is no such commit, or not yet.
    """
    end = await reader.last_position()
    if max(first, last) > end:
        raise NotFound(
            f"there is no position {max(first, last)} yet: the newest one is {end}", position=end
        )
    written = _Written(first, write)
    async for batch in reader.batches(first, follow=False, gaps=True):
        for message in batch:
            if last and message.position > last:
                break
            written.take(message)
        if last and batch[-1].position >= last:
            break
    written.skip_to((last or end) + 1)
    if not written.commits:
        raise NotFound(
            f"the stream has no commit from position {first} to {last or end}", position=first
        )
    return Exported(
        written.first, written.last, written.commits, written.withheld, written.missing,
        written.gaps,
    )  # fmt: skip


class _Written:
    """Counts what is written, and what is not there."""

    def __init__(self, start: int, write: Callable[[bytes], object]) -> None:
        self._next, self._write = start, write
        self.first = self.last = self.commits = self.withheld = self.missing = 0
        self.gaps: list[tuple[int, int]] = []

    def take(self, message: StoredMessage) -> None:
        position, subject, payload = message
        self.skip_to(position)
        line = line_of(position, subject, payload)
        self._write(line)
        self.first, self.last = self.first or position, position
        self.withheld += line.endswith(b"]}\n") and b'"withheld":[' in line
        self.commits += 1
        self._next = position + 1

    def skip_to(self, position: int) -> None:
        if position > self._next:
            self.missing += position - self._next
            if len(self.gaps) < SHOWN:
                self.gaps.append((self._next, position - 1))


async def told_keys(reader: EventReader) -> KeyList:
    """Return the keys that history tells, oldest first."""
    found = []
    for position, subject, payload in await reader.read_aggregate(subjects.PLATFORM_TAIL):
        for topic, body in decode_commit(subject, payload, position).events:
            event = decode_event(topic, body)
            if isinstance(event, KeyRotated):
                found.append(ToldKey(event.key, event.public_key, position, event.former))
    return KeyList(found)
