"""Which task waits for which state of which other task, and what follows when that moves.

Nothing of it is stored beside the tasks themselves: who waits, for what and since when is in their
events, what was reached in those of the watched ones. So a restart reads it all again. A watch that
is fulfilled, or cannot be any more, is settled in the same unit as the event that decided it.
"""

from collections.abc import Awaitable, Callable
from functools import reduce
from typing import NamedTuple

from mitosis.contract import subjects
from mitosis.domain import task
from mitosis.domain.event import Event
from mitosis.domain.task import Task
from mitosis.domain.watch import Verdict, Watch, judge_watch
from mitosis.runtime import Clock
from mitosis.services.coordinator.dispatcher import Dispatcher
from mitosis.services.coordinator.journal import Journal, Unit
from mitosis.services.coordinator.world import Head, World

Age = Callable[[int], Awaitable[float]]
ReadAggregate = Callable[[str], Awaitable[tuple[list[Event], Head] | None]]


class _Wait(NamedTuple):
    """What a task waits for; `deadline` by the clock that never jumps, None: none."""

    watch: Watch
    deadline: float | None


class Watches:
    """The waits of all tasks that watch another one."""

    def __init__(
        self, world: World, dispatcher: Dispatcher, journal: Journal, clock: Clock
    ) -> None:
        self._world = world
        self._dispatcher = dispatcher
        self._clock = clock
        self._journal = journal
        self._waits: dict[str, _Wait] = {}
        self._watchers: dict[str, set[str]] = {}
        journal.before_close = self.follow_up

    def __len__(self) -> int:
        return len(self._waits)

    def begin(self, name: str) -> None:
        """Note what a task has begun to wait for, if it has."""
        self._forget(name)
        state = self._world.tasks[name]
        watch, since = state.spec.watch, state.watching_since
        if watch is None or since is None:
            return
        deadline = None
        if watch.timeout_seconds:
            waited = (self._clock.now() - since).total_seconds()
            deadline = self._clock.monotonic() + watch.timeout_seconds - max(0.0, waited)
        self._waits[name] = _Wait(watch, deadline)
        self._watchers.setdefault(watch.task, set()).add(name)

    async def restore(self, read_aggregate: ReadAggregate, age: Age) -> None:
        """Take up all waits from a world that was read from the store, and settle what is due.

        Watched tasks that have ended are not in the world: their history is read once each.

        Args:
            read_aggregate: Reads that history.
            age: Seconds since the commit at a position was stored, by the clock of the store. It is
                asked when a wait seems to be over: the own clock, or that of a former coordinator,
                may be wrong by years.
        """
        for name, task_state in self._world.tasks.items():
            if task_state.watching_since is not None:
                self.begin(name)
        for name, wait in list(self._waits.items()):
            if wait.deadline is not None and wait.deadline <= self._clock.monotonic():
                waited = await age(self._world.heads[self._tail(name)].position)
                left = wait.watch.timeout_seconds - waited
                deadline = max(wait.deadline, self._clock.monotonic() + left)
                self._waits[name] = wait._replace(deadline=deadline)
        for watched in list(self._watchers):
            if watched not in self._watchers:
                continue  # what followed from one of those before has settled it
            state = self._world.tasks.get(watched) or await self._read(watched, read_aggregate)
            unit = self._journal.unit("system:coordinator")
            self._settle(unit, watched, state)
            unit.close()

    def follow_up(self, unit: Unit) -> None:
        """Settle the waits that the events of a unit decide; called when it is closed."""
        if not self._waits:
            return  # the hot path looks at nothing
        looked_at: dict[str, int] = {}
        while fresh := [(t, n) for t, n in unit.touched() if looked_at.get(t) != n]:
            for tail, count in fresh:
                looked_at[tail] = count
                self._look_at(unit, tail.rpartition(".")[2])

    def end_overdue(self) -> None:
        """End the waits whose time is over."""
        now = self._clock.monotonic()
        for name, (watch, deadline) in list(self._waits.items()):
            if deadline is not None and deadline <= now:
                unit = self._journal.unit("system:coordinator")
                reason = (
                    f"watch timeout: task {watch.task} did not reach {watch.state} within "
                    f"{watch.timeout_seconds:g} s"
                )
                self._fail(unit, name, reason, timed_out=True)
                unit.close()

    def would_close_a_circle(self, name: str, watch: Watch) -> bool:
        """Whether a task would in the end wait for itself."""
        at: str | None = watch.task
        for _ in range(len(self._waits) + 1):
            if at is None or at == name:
                break
            wait = self._waits.get(at)
            at = wait.watch.task if wait else None
        return at == name

    # --- inside -------------------------------------------------------------------------------

    def _look_at(self, unit: Unit, name: str) -> None:
        state = self._world.tasks.get(name)
        if name in self._waits and (state is None or state.watching_since is None):
            self._forget(name)
        if name in self._watchers:
            self._settle(unit, name, state)

    def _settle(self, unit: Unit, watched: str, state: Task | None) -> None:
        order = self._world.orders
        for name in sorted(self._watchers.get(watched, ()), key=lambda one: order.get(one, 0)):
            watch = self._waits[name].watch
            watcher = self._world.tasks.get(name)
            verdict = judge(watch, state)
            if watcher is None or watcher.watching_since is None:
                self._forget(name)  # it was cancelled in this very unit
            elif verdict is Verdict.REACHED:
                self._fire(unit, name, fired_text(watch))
            elif verdict is Verdict.IMPOSSIBLE:
                self._fail(unit, name, impossible_text(watch, state))

    def _fire(self, unit: Unit, name: str, reason: str) -> None:
        unit.run(self._tail(name), task.FireWatch(reason, self._clock.now()))
        self._forget(name)
        self._dispatcher.task_ready(unit, name)

    def _fail(self, unit: Unit, name: str, reason: str, *, timed_out: bool = False) -> None:
        now = self._clock.now()
        unit.run(self._tail(name), task.FailWatch(reason, now, timed_out=timed_out))
        self._forget(name)

    def _forget(self, name: str) -> None:
        wait = self._waits.pop(name, None)
        if wait is not None:
            watchers = self._watchers[wait.watch.task]
            watchers.discard(name)
            if not watchers:
                del self._watchers[wait.watch.task]

    def _tail(self, name: str) -> str:
        return subjects.task_tail(self._world.tasks[name].group, name)

    async def _read(self, watched: str, read_aggregate: ReadAggregate) -> Task | None:
        watcher = next(iter(self._watchers[watched]))
        group = self._waits[watcher].watch.group
        found = await read_aggregate(subjects.task_tail(group, watched))
        if found is None:
            return None
        state: Task | None = None
        return reduce(task.evolve, found[0], state)


def judge(watch: Watch, watched: Task | None) -> Verdict:
    """Say what becomes of a watch; a watched task that cannot be found can reach nothing."""
    if watched is None:
        return Verdict.IMPOSSIBLE
    return judge_watch(watch.state, watched.reached, ended=watched.state.terminal)


def fired_text(watch: Watch) -> str:
    """Say that a watch was fulfilled."""
    return f"task {watch.task} has reached {watch.state}"


def impossible_text(watch: Watch, watched: Task | None) -> str:
    """Say why a watch cannot be fulfilled any more."""
    how = f" ({watched.outcome.value})" if watched and watched.outcome else ""
    return f"watch failed: task {watch.task} has ended{how} and never reached {watch.state}"
