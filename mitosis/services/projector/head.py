"""The newest position of the stream, asked once for all reads that wait for it."""

import asyncio
from collections.abc import Awaitable, Callable


class Head:
    """Shares questions: a read never gets an answer to a question that was sent before it."""

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        """`ask` returns the position of the newest commit."""
        self._ask = ask
        self._asked: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def position(self) -> int:
        """Return a position that covers everything stored before the call.

        Raises:
            Unavailable: The stream does not answer.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._ask_after(self._asked))
            self._next.add_done_callback(_heard)  # perhaps by nobody else: reads wait a while only
        return await asyncio.shield(self._next)

    async def _ask_after(self, former: asyncio.Task[int] | None) -> int:
        if former is not None and not former.done():
            await asyncio.wait({former})
        self._asked, self._next = self._next, None
        return await self._ask()


def _heard(asked: asyncio.Task[int]) -> None:
    if not asked.cancelled():
        asked.exception()
