"""A bounded buffer between the stream and the database, so that both work at once."""

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from mitosis.errors import StoreUnavailable
from mitosis.projections.commit import CommitSource, RawCommit

# One batch holds the event loop while it is folded: about 60 ms for 1,000 commits.
MAX_BATCH_COMMITS = 1_000
MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_WAITING_COMMITS = 4_000
MAX_WAITING_BYTES = 16 * 1024 * 1024


class Feed:
    """Reads ahead; `take` gives what is there, at most one batch, and waits only for the first.

    It reads ahead while there is more than a batch, so that reading and writing overlap. Behind
    that it asks the stream only when a batch is wanted, which is cheaper for everybody.
    """

    def __init__(self, source: CommitSource, start: int) -> None:
        """`start` is the first position wanted. Use as an asynchronous context manager."""
        self._source = source
        self._start = start
        self._waiting: deque[RawCommit] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Feed":
        self._task = asyncio.create_task(self._fill(), name="read the stream")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()  # `take` has raised it, or nobody needs it any more

    async def take(self) -> list[RawCommit]:
        """Return the next commits, at least one, in the order of the stream.

        Raises:
            StoreUnavailable: The stream does not answer. CorruptData: It cannot be read.
        """
        while not self._waiting:
            self._wanted = True
            self._room.set()
            self._arrived.clear()
            if self._task is None or self._task.done():
                self._raise_end()
            await self._arrived.wait()
        batch: list[RawCommit] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_COMMITS and size < MAX_BATCH_BYTES:
            raw = self._waiting.popleft()
            batch.append(raw)
            size += len(raw[2])
        self._waiting_bytes -= size
        self._room.set()
        return batch

    @property
    def is_behind(self) -> bool:
        """Whether another full batch is there already."""
        is_large = self._waiting_bytes >= MAX_BATCH_BYTES
        return is_large or len(self._waiting) >= MAX_BATCH_COMMITS

    def _raise_end(self) -> None:
        if self._task is not None:
            self._task.result()
        raise StoreUnavailable("the stream of events has ended: it is read again")

    async def _fill(self) -> None:
        try:
            async for batch in self._source.batches(self._start):
                self._add(batch)
                is_far_behind = len(batch) >= MAX_BATCH_COMMITS
                while self._full() if is_far_behind else not self._wanted:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._arrived.set()

    def _add(self, batch: Sequence[RawCommit]) -> None:
        self._waiting.extend(batch)
        self._waiting_bytes += sum(len(payload) for _, _, payload in batch)
        self._wanted = False
        self._arrived.set()

    def _full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING_COMMITS or self._waiting_bytes >= MAX_WAITING_BYTES
