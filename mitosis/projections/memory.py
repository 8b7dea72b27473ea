"""A stream of commits in memory, for tests and for trying out projections."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from mitosis.projections.commit import RawCommit


class MemoryCommitSource:
    """Holds commits at the positions 1, 2, 3, ...; `append` wakes the readers."""

    def __init__(self, commits: Iterable[RawCommit] = (), *, batch: int = 500) -> None:
        """`batch` is the most that readers get at once."""
        self.commits = list(commits)
        self._batch = batch
        self._more = asyncio.Event()

    def append(self, commits: Iterable[RawCommit]) -> None:
        """Add commits at the end."""
        self.commits.extend(commits)
        self._more.set()

    async def last_position(self) -> int:
        """Return the position of the newest commit."""
        return self.commits[-1][0] if self.commits else 0

    async def batches(self, start: int) -> AsyncIterator[Sequence[RawCommit]]:
        """Yield what is there from `start` on, then what comes."""
        at = start - 1
        while True:
            batch = self.commits[at : at + self._batch]
            if batch:
                at += len(batch)
                yield batch
            else:
                self._more.clear()
                await self._more.wait()
