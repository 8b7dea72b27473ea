"""Waiting for the end of tasks: of all, of the first one, or until one has not succeeded."""

from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

import msgspec

from mitosis.client.session import Session
from mitosis.client.watching import PAGE, follow, views_of
from mitosis.config.client import WaitUntil
from mitosis.contract.queries import TaskView
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import InvalidInput, Unavailable

OPEN = frozenset(state for state in TaskState if not state.terminal)
MAX_NAMED = 100  # in the error of a wait whose time is over


class WaitProgress(msgspec.Struct, frozen=True):
    """How far the tasks of a wait are.

    Attributes:
        task: The one that is new or has changed.
        total: All of them.
        succeeded, failed: Have ended so, or in any other way.
        running, queued: Are with a worker, or wait for one or for something else.
    """

    task: TaskView
    total: int
    succeeded: int = 0
    failed: int = 0
    running: int = 0
    queued: int = 0

    @property
    def ended(self) -> int:
        """How many have ended, however."""
        return self.succeeded + self.failed


Told = Callable[[WaitProgress], None]


async def wait_for(
    session: Session,
    tasks: dict[str, str],
    until: WaitUntil,
    timeout: timedelta | None,
    told: Told | None,
) -> list[TaskView]:
    """Wait, and return the tasks as they are then, in their order; with `ANY` only the first ended.

    Args:
        session: Who waits.
        tasks: UUID -> group.
        until: When it is over.
        timeout: For the whole; None: no bound.
        told: Gets how far it is, at every change; must not block.

    Raises:
        Unavailable: The time is over.
    """
    import asyncio

    if timeout is not None and timeout.total_seconds() < 0:
        raise InvalidInput(f"a wait of {timeout.total_seconds():g} s is none", field="timeout")
    state = _State(tasks, told)
    try:
        async with asyncio.timeout(timeout.total_seconds() if timeout is not None else None):
            if until is WaitUntil.ANY and (early := await _ended_first(session, tasks)):
                return [early]
            async with aclosing(follow(session, tasks)) as views:
                async for view in views:
                    state.take(view)
                    if view.state.terminal and until is WaitUntil.ANY:
                        return [view]
                    if until is WaitUntil.FAILURE and state.has_failed:
                        break
    except TimeoutError:
        raise state.over() from None
    return [state.latest[uuid] for uuid in tasks]


def has_failed(view: TaskView) -> bool:
    """Whether a task has ended in any other way than with success."""
    return view.state.terminal and view.outcome is not Outcome.SUCCEEDED


async def _ended_first(session: Session, tasks: dict[str, str]) -> TaskView | None:
    """Return the one that ended first, of those that have ended already."""
    by_group: dict[str, list[str]] = {}
    for uuid, group in tasks.items():
        by_group.setdefault(group, []).append(uuid)
    ended: list[TaskView] = []
    for group, uuids in by_group.items():
        for start in range(0, len(uuids), PAGE):
            views = await views_of(session, group, uuids[start : start + PAGE])
            ended += [view for view in views if view.state.terminal]
    return min(ended, key=lambda view: (view.ended_at or view.updated_at, view.uuid), default=None)


class _State:
    """Every task as it was seen last."""

    def __init__(self, tasks: dict[str, str], told: Told | None) -> None:
        self._tasks, self._told = tasks, told
        self.latest: dict[str, TaskView] = {}
        self._counts: Counter[str] = Counter()

    @property
    def has_failed(self) -> bool:
        """Whether one has ended without success, and each has been seen."""
        return self._counts["failed"] > 0 and len(self.latest) == len(self._tasks)

    def take(self, view: TaskView) -> None:
        """Keep a view, and tell how far it is when that has changed."""
        before = self.latest.get(view.uuid)
        self.latest[view.uuid] = view
        kind = _kind(view)
        if before is not None:
            if _kind(before) == kind:
                return
            self._counts[_kind(before)] -= 1
        self._counts[kind] += 1
        if self._told is not None:
            self._told(WaitProgress(view, len(self._tasks), **self._counts))

    def over(self) -> Unavailable:
        """Return what is raised when the time is over."""
        going_on = [
            uuid
            for uuid in self._tasks
            if uuid not in self.latest or not self.latest[uuid].state.terminal
        ]
        ended = len(self._tasks) - len(going_on)
        return Unavailable(
            f"{ended} of {len(self._tasks)} tasks have ended in the time of this wait; "
            "the others go on",
            ended=ended, total=len(self._tasks), going_on=going_on[:MAX_NAMED],
        )  # fmt: skip


def _kind(view: TaskView) -> str:
    if view.state.terminal:
        return "failed" if has_failed(view) else "succeeded"
    return "running" if view.state is TaskState.RUNNING else "queued"
