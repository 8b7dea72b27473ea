r"""The loop that builds the read models: one process writes, others stand by.

    connect --> standby --lock--> compare with the stream --> project ... --> (error) --> connect

Exactly once, whatever is killed when: rows, raw commits and position are one transaction; the
position moves from the batch's begin to its end or the transaction is refused; nothing is kept in
memory between batches. The advisory lock only spares two writers the work of refusing each other.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Any, cast

from mitosis.errors import REPAIR, CorruptData, StoreUnavailable, Unavailable
from mitosis.projections.commit import Commit, CommitSource, Decode, RawCommit
from mitosis.projections.feed import Feed
from mitosis.projections.plan import fold_all, needed_rows
from mitosis.projections.postgres import shown
from mitosis.projections.progress import Progress
from mitosis.projections.rows import Tables
from mitosis.projections.store import Mark, ViewStore, differs

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 2.0
STANDBY_SECONDS = 0.25  # how often a standby tries to take over
STANDBY_WAITED_FOR_SECONDS = 0.005  # how often it looks while a read waits
READ_TIMEOUT_SECONDS = 10.0  # for one commit that is known to be there


# A batch costs projector and Postgres about 5 ms each, with one commit or with fifty. So batches
# do not begin more often than this; but a read that waits is served at once, and after a quiet
# moment a commit is taken at once. The pauses also leave the machine to those who store, when much
# is stored at once; who has been a full batch behind for a while makes none until that is made up.
LINGER_SECONDS = 0.25
PATIENCE_SECONDS = 15.0


class Runner:
    """Keeps the read models in one database up to one stream.

    Attributes:
        progress: How far they are.
        active: Whether this one writes.
    """

    def __init__(self, url: str, source: CommitSource, decode: Decode, *, stream: str) -> None:
        """Args: database, stream of commits, its decoder, and its name, bound to the tables."""
        self._url = url
        self._source = source
        self._decode = decode
        self._stream = stream
        self.progress = Progress()
        self.active = False
        self._done = Mark()
        self._archived = Mark()

    @property
    def applied_position(self) -> int:
        """Everything up to this position can be read."""
        return self.progress.applied_position

    async def wait_for(self, position: int, timeout_seconds: float) -> bool:
        """Wait until everything up to `position` can be read; False: not in this time."""
        return await self.progress.wait_for(position, timeout_seconds)

    async def run(self) -> None:
        """Project until cancelled; Postgres and NATS may go and come back.

        Raises:
            CorruptData: A commit cannot be read, or stream and archive differ: a person must
                look. Nothing is skipped.
            Misconfigured: The database is not usable with this version or this stream.
        """
        delay = FIRST_DELAY_SECONDS
        while True:
            before = self.applied_position
            try:
                await self._session()
            except Unavailable as error:
                log.warning("projection interrupted, tried again in %.2g s: %s", delay, error)
            finally:
                self.active = False
            if self.applied_position != before:
                delay = FIRST_DELAY_SECONDS
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def _session(self) -> None:
        store = await ViewStore.open(self._url)
        try:
            await self._stand_by(store)
            self._done = await store.claim(self._stream)
            self._archived = await store.archived()
            self.progress.advance(self._done.position)
            await self._check_stream()
            self.active = True
            log.info("projecting into %s from %d", shown(self._url), self._done.position)
            async with Feed(self._source, self._done.position + 1) as feed:
                clock = asyncio.get_running_loop().time
                near = clock()
                while True:
                    began = clock()
                    await self._apply(store, await feed.take())
                    if not feed.is_behind:
                        near = clock()
                    if clock() - near < PATIENCE_SECONDS:
                        await self.progress.until_wanted(LINGER_SECONDS - (clock() - began))
        finally:
            with suppress(Unavailable):
                await store.close()

    async def _stand_by(self, store: ViewStore) -> None:
        """Wait for the lock; meanwhile tell those who wait what the active one has done."""
        while not await store.try_lock():
            self.progress.advance(await store.position())
            if self.progress.is_wanted:
                await asyncio.sleep(STANDBY_WAITED_FOR_SECONDS)
            else:
                await self.progress.until_wanted(STANDBY_SECONDS)

    async def _check_stream(self) -> None:
        """Compare the stream with what was read from it before."""
        head = await self._source.last_position()
        newest = max(self._done, self._archived, key=lambda mark: mark.position)
        if head < newest.position:
            raise CorruptData(
                f"stream {self._stream} ends at position {head}, but its archive in "
                f"{shown(self._url)} has commits up to {newest.position}: the stream has lost "
                f"commits. {REPAIR}; or point nats_url at the right server",
                position=head,
                archived=newest.position,
            )
        for mark in {self._done, self._archived}:
            if mark.position:
                commit = await self._commit_at(mark.position)
                if commit.digest != mark.digest:
                    raise differs(commit, mark.digest)

    async def _commit_at(self, position: int) -> Commit:
        batches = cast(Any, self._source.batches(position))  # an async generator can be closed
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS), aclosing(batches):
                async for batch in batches:
                    if batch:
                        return self._decode(*batch[0])
        except TimeoutError:
            pass
        raise StoreUnavailable(f"the commit at position {position} could not be read in time")

    async def _apply(self, store: ViewStore, batch: Sequence[RawCommit]) -> None:
        commits = decode_all(batch, self._done.position + 1, self._decode, self._stream)
        known = [c for c in commits if c.position <= self._archived.position]
        self._done = await apply(store, self._done, commits, len(known))
        if len(known) < len(commits):
            self._archived = self._done
        self.progress.advance(self._done.position)


def decode_all(batch: Sequence[RawCommit], first: int, decode: Decode, stream: str) -> list[Commit]:
    """Return decoded commits, which must stand at successive positions from `first` on.

    Raises:
        CorruptData: One is missing, or cannot be what was written.
    """
    for expected, (position, subject, _) in enumerate(batch, first):
        if position != expected:
            raise CorruptData(
                f"stream {stream} goes on at position {position}, but {expected} is the "
                "next one: commits are missing. Look with `mito events verify`",
                position=expected,
                subject=subject,
            )
    return [decode(*raw) for raw in batch]


async def apply(store: ViewStore, done: Mark, commits: Sequence[Commit], archived: int) -> Mark:
    """Fold a batch into the rows that it builds upon, and store it; return the new position.

    Args:
        store: The tables.
        done: Where they stand.
        commits: The next ones, at least one.
        archived: How many of them the archive has already: those are compared with it.

    Raises:
        CorruptData: Stream and archive differ, or the commits cannot be what was written.
        ViewUnavailable: Postgres is away, or somebody else has written.
    """
    tables = await folded(store, commits, archived)
    await store.write(done.position, tables, commits, commits[archived:])
    return Mark(commits[-1].position, commits[-1].digest)


async def folded(store: ViewStore, commits: Sequence[Commit], archived: int) -> Tables:
    """Return what a batch makes of the rows that it builds upon; see `apply`."""
    if archived:
        await store.check_archived(commits[:archived])
    return fold_all(await store.load(needed_rows(commits)), commits)
