"""Which failed task waits for its next attempt, and the moment at which its wait is over.

Nothing of it is stored beside the tasks themselves: `TaskRetryScheduled` says until when one waits.
So a restart reads it all again, and a task whose time came while nobody served is ready at once.
"""

import asyncio
import heapq
from contextlib import suppress

from mitosis.contract import subjects
from mitosis.domain import task
from mitosis.runtime import Clock
from mitosis.services.coordinator.dispatcher import Dispatcher
from mitosis.services.coordinator.journal import Journal
from mitosis.services.coordinator.world import World

SLICE = 250  # begun in one go, so that nothing else waits for long
BUSY_SECONDS = 0.1


class Retries:
    """All waits for a next attempt."""

    def __init__(
        self, world: World, dispatcher: Dispatcher, journal: Journal, clock: Clock
    ) -> None:
        self._world = world
        self._dispatcher = dispatcher
        self._journal = journal
        self._clock = clock
        self._queue: list[tuple[float, str, int]] = []
        self._changed = asyncio.Event()
        self._room = SLICE

    def __len__(self) -> int:
        return len(self._queue)

    def waiting(self) -> int:
        """Return how many tasks wait: of what is kept here, some may have been cancelled since."""
        return sum(self._waits(name, attempt) for _, name, attempt in self._queue)

    def begin(self, name: str) -> None:
        """Note until when a task waits, if it does.

        The wait is at most the one that its specification says, also when the wall clock was set
        back since it was stored.
        """
        state = self._world.tasks[name]
        if state.retry_at is None:
            return
        longest = state.spec.retry.wait_seconds(state.retries - 1)
        left = (state.retry_at - self._clock.now()).total_seconds()
        due = self._clock.monotonic() + min(longest, left)
        heapq.heappush(self._queue, (due, name, state.attempt))
        self._keep_small()
        self._changed.set()

    def restore(self) -> None:
        """Take up all waits from a world that was read from the store."""
        for name in self._world.tasks:
            self.begin(name)

    def begin_due(self) -> bool:
        """Let those tasks run again whose wait is over; whether there are more of them."""
        now = self._clock.monotonic()
        unit = self._journal.unit("system:coordinator")
        for _ in range(SLICE):
            if not self._queue or self._queue[0][0] > now:
                break
            _, name, attempt = heapq.heappop(self._queue)
            if self._waits(name, attempt):
                tail = subjects.task_tail(self._world.tasks[name].group, name)
                unit.run(tail, task.BeginRetry())
                self._dispatcher.task_ready(unit, name)
        unit.close()
        return bool(self._queue) and self._queue[0][0] <= now

    async def run(self) -> None:
        """Begin what is due, at its moment, until cancelled."""
        while True:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_seconds()):
                    await self._changed.wait()
            if self._journal.is_busy():
                await asyncio.sleep(BUSY_SECONDS)
            elif self._is_due():
                self.begin_due()

    def _is_due(self) -> bool:
        return bool(self._queue) and self._queue[0][0] <= self._clock.monotonic()

    def _pause_seconds(self) -> float | None:
        if not self._queue:
            return None
        return max(0.0, self._queue[0][0] - self._clock.monotonic())

    def _waits(self, name: str, attempt: int) -> bool:
        """Whether a task still waits after this attempt: it may be cancelled, or wait otherwise."""
        state = self._world.tasks.get(name)
        return state is not None and state.retry_at is not None and state.attempt == attempt

    def _keep_small(self) -> None:
        """Drop those that wait no more, now and then: a wait can be long, and cancelled."""
        if len(self._queue) > self._room:
            self._queue = [entry for entry in self._queue if self._waits(entry[1], entry[2])]
            heapq.heapify(self._queue)
            self._room = max(SLICE, 2 * len(self._queue))
