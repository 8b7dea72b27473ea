"""Transfers block: they run in threads, and end at once when nobody wants them any more."""

import math
from collections.abc import Callable
from typing import TypeVar

from mitosis.artifacts.transfer import FIRST_DELAY_SECONDS, Stopper, Transfers
from mitosis.tls import Trust

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""Told how many bytes have been moved so far, and how many there are; called in a thread."""


class Meter:
    """Adds up what a transfer tells."""

    def __init__(self, total_bytes: int, progress: Progress | None) -> None:
        self._total, self._progress = total_bytes, progress
        self.done = 0

    def __call__(self, count: int) -> None:
        """Take in how many bytes more (or, when they are sent again, fewer) were moved."""
        self.done += count
        if self._progress is not None:
            self._progress(self.done, self._total)


def transfers(timeout_seconds: float, trust: Trust) -> Transfers:
    """Return transfers that go on trying for about so long while the store does not answer."""
    # The pauses double: n tries wait (2^(n-1) - 1) times the first pause.
    tries = 1 + int(math.log2(max(timeout_seconds, 0.0) / FIRST_DELAY_SECONDS + 1))
    return Transfers(tries=tries, trust=trust)


async def in_thread(work: Callable[[Stopper], T]) -> T:
    """Run blocking work in a thread; a cancellation ends it before this returns.

    Args:
        work: Gets what says that it shall stop.
    """
    import asyncio

    stopper = Stopper()
    running = asyncio.ensure_future(asyncio.to_thread(work, stopper))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stopper.stop()
        await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # how it ended interests nobody now
        raise
