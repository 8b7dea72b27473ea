"""The finer states of tasks, live and in their order: from what was stored, as it is stored.

Every commit about a task comes on `mito.live.task.<group>.<task>` and tells of the execution states
that it holds. Nothing is missed: it subscribes first, looks at the tasks then, and looks again
after a lost connection, after messages that had no room, and after long silence.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

import msgspec

from mitosis.client.listening import listening
from mitosis.client.session import Session
from mitosis.client.watching import PAGE, REFRESH_SECONDS, live_subjects, views_of
from mitosis.contract.queries import TaskView
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.task import steps_of
from mitosis.domain.watch import WAITING
from mitosis.nats.connection import Msg

MAX_WAITING = 10_000  # messages; what has no room is looked up


class ReachedState(msgspec.Struct, frozen=True):
    """A task has reached an execution state.

    Attributes:
        task: UUID.
        attempt: Number of the attempt; 0 before the first one.
        state: What was reached. `TaskCommitted` is the last one of every task.
        at: When, by the coordinator's clock.
    """

    task: str
    attempt: int
    state: ExecutionState
    at: datetime


async def follow_states(session: Session, tasks: dict[str, str]) -> AsyncIterator[ReachedState]:
    """Yield the states of the latest attempt of each task, then each new one, until all have ended.

    Args:
        session: Who watches.
        tasks: UUID -> group.
    """
    feed = _Feed(tasks)
    heard = live_subjects(tasks.values())
    async with listening(session, heard, feed.take, feed.look_again):
        while feed.open:
            for reached in await feed.next(session):
                yield reached


class _Feed:
    """What came live and what was looked up, as one row of states without repetition."""

    def __init__(self, tasks: dict[str, str]) -> None:
        self.open = {uuid: _Known(uuid) for uuid in tasks}
        self._groups = tasks
        self._waiting: deque[Msg] = deque()
        self._news = asyncio.Event()
        self._look = True

    def take(self, message: Msg) -> None:
        """Keep a message about one of the tasks."""
        if message.subject.rpartition(".")[2] not in self.open:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(message)
        else:
            self._look = True
        self._news.set()

    def look_again(self) -> None:
        """Messages may have been missed."""
        self._look = True
        self._news.set()

    async def next(self, session: Session) -> list[ReachedState]:
        """Wait for news and return what they say."""
        if self._look:
            self._look = False
            return [r for view in await self._views(session) for r in self._looked_up(view)]
        if not self._waiting:
            await self._wait()
        found: list[ReachedState] = []
        while self._waiting and not self._look:
            found += self._told(self._waiting.popleft())
        return found

    async def _wait(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await self._news.wait()
        except TimeoutError:
            self._look = True

    def _looked_up(self, view: TaskView) -> list[ReachedState]:
        known = self.open.get(view.uuid)
        if known is None:
            return []
        if view.state.terminal:
            del self.open[view.uuid]
        return known.new(view.attempt, view.steps)

    def _told(self, message: Msg) -> list[ReachedState]:
        uuid = message.subject.rpartition(".")[2]
        known = self.open.get(uuid)
        if known is None:
            return []
        found = known.told(message)
        if any(reached.state is ExecutionState.TASK_COMMITTED for reached in found):
            del self.open[uuid]
        return found

    async def _views(self, session: Session) -> list[TaskView]:
        by_group: dict[str, list[str]] = {}
        for uuid in self.open:
            by_group.setdefault(self._groups[uuid], []).append(uuid)
        found: list[TaskView] = []
        for group, uuids in by_group.items():
            for start in range(0, len(uuids), PAGE):
                found += await views_of(session, group, uuids[start : start + PAGE])
        return found


class _Known:
    """The states of the latest attempt of one task that were told already."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._attempt = 0
        self._steps: set[Step] = set()

    def told(self, message: Msg) -> list[ReachedState]:
        """Return what a stored commit says that is new."""
        # The catalogue costs a start of the command line 6 ms, which only this needs.
        from mitosis.events.catalogue import decode_event
        from mitosis.events.envelope import decode_commit

        commit = decode_commit(message.subject, message.data)
        found: list[ReachedState] = []
        for topic, body in commit.events:
            event = decode_event(topic, body)
            # What has no attempt of its own concerns the latest one.
            attempt = getattr(event, "attempt", self._attempt)
            found += self.new(attempt, steps_of(event, commit.time))
        return found

    def new(self, attempt: int, steps: Iterable[Step]) -> list[ReachedState]:
        """Keep the steps of an attempt, and return those that were not told yet."""
        if attempt < self._attempt:
            return []  # looked up already, or left behind
        if attempt > self._attempt:
            self._attempt = attempt
            self._steps = {step for step in self._steps if step.state in WAITING}
        fresh = [step for step in steps if step not in self._steps]
        self._steps.update(fresh)
        return [ReachedState(self._task, attempt, step.state, step.at) for step in fresh]
