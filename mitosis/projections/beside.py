"""A second set of read models, built from the stream beside the live ones while those serve.

For two ends: it takes the place of the live ones (`rebuild`), or is compared with them row by row
(`verify`, in comparison.py). The archive is read and never written. Decision: docs/decisions/0024.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from mitosis.errors import REPAIR, CorruptData, MitosisError, ViewUnavailable, WrongState
from mitosis.projections.commit import Commit, CommitSource, Decode, RawCommit
from mitosis.projections.feed import Feed
from mitosis.projections.indexes import Indexes
from mitosis.projections.migrations import (
    BESIDE,
    drop_beside,
    end_projection,
    give_projection_lock_back,
    make_beside,
    migrate,
    put_in_place,
    try_rebuild_lock,
    wait_for_projection_lock,
)
from mitosis.projections.postgres import Connection, connect, explained, shown
from mitosis.projections.runner import decode_all, folded
from mitosis.projections.store import Mark, ViewStore

log = logging.getLogger(__name__)

NEAR_COMMITS = 1_000  # one batch: the live ones are held still for no longer than this takes
STILL_SECONDS = 30.0
LOCK_WAIT_SECONDS = 5.0  # reads wait behind us meanwhile
LOCK_TRIES = 5
_LOOK_SECONDS = 0.05

Progress = Callable[[int, int], None]
"""(position reached, position wanted): told while a long build goes on."""


class History(msgspec.Struct, frozen=True):
    """What read models are built from.

    Attributes:
        source: The stream.
        decode: Of one stored message.
        stream: Name of the stream.
    """

    source: CommitSource
    decode: Decode
    stream: str


class Rebuilt(msgspec.Struct, frozen=True):
    """Read models were built anew from the stream and serve; position: up to which commit."""

    position: int


class Builder:
    """Brings read models that nobody else builds up to a position.

    Attributes:
        done: How far they are; the feed begins behind it.
    """

    def __init__(
        self,
        store: ViewStore,
        feed: Feed,
        history: History,
        progress: Progress,
        *,
        archived: bool = True,
    ) -> None:
        """`archived`: the database has the archive already, and what is read is compared."""
        self._store, self._feed, self._history, self._progress = store, feed, history, progress
        self._archived = archived
        self._left: Sequence[RawCommit] = ()
        self._read = 0  # the position up to which commits were taken to be applied
        self._indexes: Indexes = []
        self.done = Mark()

    async def leave_indexes_out(self) -> None:
        """Build without what only reads need: before the first commit."""
        self._indexes = await self._store.drop_indexes()

    async def add_indexes(self) -> None:
        """Make what was left out, before anybody reads."""
        await self._store.make_indexes(self._indexes)

    async def build_to(self, position: int) -> None:
        """Apply all commits up to a position.

        Raises:
            CorruptData: The stream is shorter, differs from the archive, or cannot be read.
            Unavailable: Postgres or NATS is away.
        """
        if position > self.done.position:
            await self._require(position)
        self._read = self.done.position
        commits = await self._next(position)
        while commits:
            archived = len(commits) * self._archived
            tables = await folded(self._store, commits, archived)
            write = self._store.write(self.done.position, tables, commits, commits[archived:])
            # What comes next is read and decoded while Postgres writes.
            wrong, following = await asyncio.gather(
                write, self._next(position), return_exceptions=True
            )
            if wrong is not None:
                raise wrong
            self.done = Mark(commits[-1].position, commits[-1].digest)
            self._progress(self.done.position, position)
            if isinstance(following, BaseException):
                raise following
            commits = following

    async def _next(self, position: int) -> list[Commit]:
        """Return the next commits up to a position, decoded; empty behind it."""
        if self._read >= position:
            return []
        batch = self._left or await self._feed.take()
        wanted = [raw for raw in batch if raw[0] <= position]
        self._left = batch[len(wanted) :]
        history = self._history
        commits = decode_all(wanted, self._read + 1, history.decode, history.stream)
        self._read = commits[-1].position
        return commits

    async def _require(self, position: int) -> None:
        head = await self._history.source.last_position()
        if head < position:
            raise CorruptData(
                f"stream {self._history.stream} ends at position {head}, but the archive has "
                f"commits up to {position}: the stream has lost commits. {REPAIR}",
                position=head,
                archived=position,
            )


@asynccontextmanager
async def building(
    url: str, history: History, progress: Progress = lambda *_: None
) -> AsyncIterator[Builder]:
    """Give a builder of an empty set of read models beside the live ones, and drop it at the end.

    Raises:
        WrongState: Somebody else builds one in this database.
        ViewUnavailable: Postgres does not answer.
        Misconfigured: No access, or a database of a newer version than this code.
    """
    async with await connect(url, "mito-rebuild") as connection:
        with explained(url):
            alone = await try_rebuild_lock(connection)
        if not alone:
            raise WrongState(
                f"another rebuild or verification is under way in {shown(url)}: wait for its end"
            )
        await make_beside(connection, url)
        try:
            store = await ViewStore.open(url, BESIDE)
            try:
                await store.claim(history.stream)
                async with Feed(history.source, 1) as feed:
                    yield Builder(store, feed, history, progress)
            finally:
                await store.close()
        finally:
            await _forget(connection, url)


async def _forget(connection: Connection, url: str) -> None:
    try:
        with explained(url):
            await drop_beside(connection)
    except MitosisError as error:  # never instead of the error that ended the work
        log.warning(
            "the schema %s is left in %s until the next time: %s", BESIDE, shown(url), error
        )


async def rebuild(url: str, history: History, progress: Progress = lambda *_: None) -> Rebuilt:
    """Build the read models anew from the stream and put them in the place of the live ones.

    The live ones serve meanwhile. For the last commits the projector is held still, which takes
    well below a second; it then goes on from the new ones. Without a projector, and when there are
    no read models at all, it works as well.

    Raises:
        CorruptData: The stream cannot be read, or differs from its archive.
        Unavailable: Postgres or NATS is away; the live read models are as they were.
        WrongState: Another rebuild or verification is under way.
        Misconfigured: No access, or a database of a newer version than this code.
    """
    await migrate(url)
    live = await ViewStore.open(url)
    try:
        async with building(url, history, progress) as builder:
            await builder.leave_indexes_out()
            await build_near(builder, live)
            await builder.add_indexes()
            await build_near(builder, live)  # what was stored meanwhile
            async with _projector_held(url) as holder:
                await builder.build_to((await live.archived()).position)
                await _replace(holder, url)
            return Rebuilt(builder.done.position)
    finally:
        await live.close()


async def build_near(builder: Builder, live: ViewStore) -> None:
    """Build until only few commits are missing at what the live ones have archived."""
    while True:
        wanted = (await live.archived()).position
        if wanted - builder.done.position <= NEAR_COMMITS:
            return
        await builder.build_to(wanted)


async def _replace(holder: Connection, url: str) -> None:
    for left in range(LOCK_TRIES - 1, -1, -1):
        try:
            await put_in_place(holder, url, LOCK_WAIT_SECONDS)
        except ViewUnavailable as error:
            if not left or holder.broken:
                raise
            log.warning("the read models cannot be replaced yet: %s", error)
        else:
            return


@asynccontextmanager
async def _projector_held(url: str) -> AsyncIterator[Connection]:
    """Be the only one who may write read models; who did before has to begin anew afterwards."""
    async with (
        await connect(url, "mito-rebuild") as holder,
        await connect(url, "mito-end") as other,
    ):
        with explained(url):
            held = asyncio.create_task(wait_for_projection_lock(holder), name="hold the projector")
            try:
                async with asyncio.timeout(STILL_SECONDS):
                    while not held.done():
                        await end_projection(other, holder)
                        await asyncio.wait({held}, timeout=_LOOK_SECONDS)
                await held
            finally:
                held.cancel()
                await asyncio.gather(held, return_exceptions=True)
        try:
            yield holder
        finally:
            if not holder.broken:
                with explained(url):
                    await give_projection_lock_back(holder)
