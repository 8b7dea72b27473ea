"""The three copies of history side by side: backup, stream and archive.

A restore never undoes anything: where two of them have a commit it must be the same one, and the
whole history is as long as the longest of them.
"""

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import CorruptData
from mitosis.events.envelope import digest
from mitosis.events.messages import stream_state
from mitosis.projections.commit import RawCommit
from mitosis.services.backup.commits import read_commits
from mitosis.services.backup.folder import Backup
from mitosis.services.backup.taking import Platform

WINDOW_COMMITS = 250
WINDOW_BYTES = 4 * 1024 * 1024


class Ends:
    """How far each copy goes; `whole` is the longest."""

    def __init__(self, backup: int, stream: int, archive: int) -> None:
        self.backup, self.stream, self.archive = backup, stream, archive
        self.whole = max(backup, stream, archive)


async def ends_of(platform: Platform, backup: Backup) -> Ends:
    """Return how far each copy goes.

    Raises:
        Unavailable: NATS or Postgres does not answer.
    """
    stream = (await stream_state(platform.nc, EVENTS_STREAM)).last_seq
    return Ends(backup.manifest.position, stream, await platform.archive.last_position())


async def whole_history(
    platform: Platform, backup: Backup, ends: Ends
) -> AsyncIterator[tuple[list[RawCommit], dict[int, str]]]:
    """Yield all commits from position 1 on, in pieces, with the digests that the archive has.

    Raises:
        CorruptData: Two copies differ.
        Unavailable: NATS or Postgres does not answer.
    """
    of_backup, of_stream = read_commits(backup), _Ahead(platform, ends.stream)
    position = 1
    while position <= ends.whole:
        last = min(position + WINDOW_COMMITS - 1, ends.whole)
        piece = _piece(of_backup, min(last, ends.backup) - position + 1)
        if position > ends.backup:
            piece = []
        streamed = await of_stream.upto(position + len(piece) - 1 if piece else last)
        if not piece:
            piece = streamed or list(await platform.archive.read(position, last))
        last = position + len(piece) - 1
        archived = await platform.archive.digests(position, last)
        _compare(piece, streamed, archived)
        yield piece, archived
        position = last + 1


def _piece(commits: Iterator[RawCommit], count: int) -> list[RawCommit]:
    """Take some commits, fewer when they are large."""
    found: list[RawCommit] = []
    size = 0
    for commit in islice(commits, max(count, 0)):
        found.append(commit)
        size += len(commit[2])
        if size >= WINDOW_BYTES:
            break
    return found


class _Ahead:
    """Reads the stream in pieces of given length."""

    def __init__(self, platform: Platform, end: int) -> None:
        self._batches = platform.reader.batches(1, follow=False) if end else None
        self._end = end
        self._read: list[RawCommit] = []

    async def upto(self, last: int) -> list[RawCommit]:
        """Return the next commits up to a position, as far as the stream goes."""
        wanted = min(last, self._end)
        while self._batches and (not self._read or self._read[-1][0] < wanted):
            batch = await anext(self._batches, None)
            if batch is None:
                break
            self._read.extend(batch)
        found = [commit for commit in self._read if commit[0] <= wanted]
        self._read = self._read[len(found) :]
        return found


def _compare(piece: list[RawCommit], streamed: list[RawCommit], archived: dict[int, str]) -> None:
    by_position = {position: (subject, payload) for position, subject, payload in streamed}
    for position, subject, payload in piece:
        if by_position.get(position, (subject, payload)) != (subject, payload):
            raise _differ(position, subject, "the stream", "the backup")
        found = digest(subject, payload)
        if archived.get(position, found) != found:
            raise _differ(position, subject, "the archive in Postgres", "the backup or the stream")


def _differ(position: int, subject: str, one: str, other: str) -> CorruptData:
    return CorruptData(
        f"position {position} ({subject}) is another commit in {one} than in {other}: they are "
        "not copies of one history. Nothing was restored. To go back to the backup, restore it "
        "into an empty NATS store, database and buckets",
        position=position,
        subject=subject,
    )
