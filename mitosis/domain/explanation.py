"""Why a task waits, or has waited: a fold of what happened to it and around it. Pure.

The rules are those of `dispatch`; here they are only asked about the past. What is no event, such
as a lost connection to a worker, can be told from the rules alone: where a worker that may run the
task had a free slot and the task went on waiting, it could not be reached.

Each moment of waiting (`pending` or `ready`) has exactly one cause, so the causes of a task add up
to the time that it has waited.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from mitosis.domain import worker
from mitosis.domain.dispatch import Waiting, may_run
from mitosis.domain.event import Event
from mitosis.domain.task import (
    Task,
    TaskAssigned,
    TaskCancelled,
    TaskChanged,
    TaskCommitted,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSpec,
    TaskState,
    TaskSubmitted,
)
from mitosis.domain.task import evolve as evolve_task
from mitosis.domain.waits import Cause, Unfit, Wait, smoothed
from mitosis.domain.worker import Worker

TASK_EVENTS: tuple[type[Event], ...] = (
    TaskSubmitted, TaskChanged, TaskReady, TaskAssigned, TaskRetryScheduled, TaskRequeued,
    TaskCommitted, TaskCancelled,
)  # fmt: skip
"""What the waits of a task depend on; of workers it is everything."""

MAX_UNFIT = 3


class Fact(msgspec.Struct, frozen=True):
    """What one commit says of a task or a worker. `kind`: `task` or `worker`."""

    position: int
    at: datetime
    kind: str
    name: str
    events: Sequence[Event]


class Explainer:
    """Takes facts in the order of the stream, and says what the task waited for."""

    def __init__(self, task: str, *, others_known: bool = True) -> None:
        """Explain one task.

        Args:
            task: Its UUID.
            others_known: The facts tell of all tasks that workers held or that waited beside it.
                If not, a worker that may run it and takes work is taken for busy, which follows
                from the rule that nothing waits beside a free worker.
        """
        self._name = task
        self._others_known = others_known
        self._task: Task | None = None
        self._after = ""
        self._workers: dict[str, Worker] = {}
        self._held: dict[str, dict[str, str]] = {}  # worker -> task -> group
        self._holder: dict[str, str] = {}  # task -> worker
        self._known: dict[str, Waiting] = {}  # other tasks that have not ended
        self._ready: dict[str, Waiting] = {}  # those of them that wait for a worker
        self._able: dict[str, Worker] | None = None  # None: to be found again
        self._open: set[str] = set()  # those of them with a free slot that take work
        self._at: datetime | None = None
        self._waits: list[Wait] = []

    def take(self, fact: Fact) -> None:
        """Account for the time before a fact, then take it in. A clock set back costs no order."""
        self._account(fact.at)
        for event in fact.events:
            if fact.kind == "worker":
                self._take_worker(fact.name, event)
            else:
                self._take_task(fact, event)

    def waits(self, until: datetime) -> list[Wait]:
        """Return all waits up to a time, oldest first; none overlaps another one."""
        self._account(until)
        return smoothed(self._waits)

    # --- what happened ------------------------------------------------------------------------

    def _take_worker(self, name: str, event: Event) -> None:
        known = self._workers.get(name)
        if known is None and not isinstance(event, worker.WorkerRegistered):
            return
        self._workers[name] = worker.evolve(known, event)
        if isinstance(event, worker.WorkerLeft | worker.WorkerLost):
            del self._workers[name]
        self._able = None

    def _take_task(self, fact: Fact, event: Event) -> None:
        own = fact.name == self._name
        if own and (self._task is not None or isinstance(event, TaskSubmitted)):
            self._task = evolve_task(self._task, event)
            if isinstance(event, TaskRequeued | TaskRetryScheduled):
                self._after = event.reason
        match event:
            case TaskSubmitted(_, group, _, _, spec):
                self._know(fact.name, group, spec, fact.position)
            case TaskChanged(spec) if fact.name in self._known:
                before = self._known[fact.name]
                self._know(fact.name, before.group, spec, before.order)
                if event.steps:
                    self._ready.pop(fact.name, None)
            case TaskReady() if fact.name in self._known:
                self._ready[fact.name] = self._known[fact.name]
            case TaskAssigned(_, holder) if fact.name in self._known:
                self._ready.pop(fact.name, None)
                self._hold(fact.name, holder)
            case TaskRequeued() if fact.name in self._known:
                self._release(fact.name)
                self._ready[fact.name] = self._known[fact.name]
            case TaskRetryScheduled():
                self._release(fact.name)
            case TaskCommitted() | TaskCancelled():
                self._release(fact.name)
                self._ready.pop(fact.name, None)
                self._known.pop(fact.name, None)
            case _:
                pass

    def _know(self, name: str, group: str, spec: TaskSpec, order: int) -> None:
        self._known[name] = Waiting.of(name, group, spec, order)
        if name in self._ready:
            self._ready[name] = self._known[name]
        if name == self._name:
            self._able = None

    def _hold(self, name: str, holder: str) -> None:
        self._release(name)
        self._holder[name] = holder
        self._held.setdefault(holder, {})[name] = self._known[name].group
        self._look_at(holder)

    def _release(self, name: str) -> None:
        holder = self._holder.pop(name, None)
        if holder is not None:
            self._held[holder].pop(name, None)
            self._look_at(holder)

    def _look_at(self, name: str) -> None:
        """See whether an able worker has a free slot."""
        able = self._able and self._able.get(name)
        if able:
            full = len(self._held.get(name, ())) >= able.slots
            if able.takes_work and not full:
                self._open.add(name)
            else:
                self._open.discard(name)

    # --- what it means ------------------------------------------------------------------------

    def _account(self, at: datetime) -> None:
        """Say what the task waited for since the last fact."""
        if self._at is None:
            self._at = at
        if at <= self._at:
            return
        cause = self._cause()
        if cause is not None:
            self._note(cause, self._at, at)
        self._at = at

    def _note(self, cause: Cause, began: datetime, ended: datetime) -> None:
        assert self._task is not None  # noqa: S101  else there is no cause
        last = self._waits[-1] if self._waits else None
        attempt = self._task.attempt + 1
        watch = self._task.spec.watch if cause is Cause.WATCH else None
        same = last and last.ended == began
        if same and last and (last.cause, last.attempt, last.watch) == (cause, attempt, watch):
            self._waits[-1] = replace(last, ended=ended)
            return
        wait = Wait(cause, began, ended, attempt, self._after, watch)
        self._waits.append(self._described(wait, self._task))

    def _described(self, wait: Wait, task: Task) -> Wait:
        match wait.cause:
            case Cause.RETRY:
                return replace(wait, retry_at=task.retry_at)
            case Cause.WATCH:
                return wait
            case Cause.NO_WORKER:
                serving = [w for w in self._workers.values() if w.serves(task.group)]
                tags = frozenset(task.spec.tags)
                unfit = tuple(Unfit(w.worker, tuple(sorted(w.tags - tags))) for w in serving)
                return replace(wait, unfit=unfit[:MAX_UNFIT], serving=len(serving))
            case _:
                busy, before = self._busy(), self._before()
                return replace(wait, able=len(self._able or ()), busy=busy, before=before)

    def _cause(self) -> Cause | None:
        """Return what the task waits for just now, or None if it does not wait."""
        task = self._task
        if task is None or task.state not in {TaskState.PENDING, TaskState.READY}:
            return None
        if task.state is TaskState.PENDING:
            return Cause.WATCH if task.retry_at is None else Cause.RETRY
        able = self._find_able()
        if not able:
            return Cause.NO_WORKER
        if not any(one.takes_work for one in able.values()):
            return Cause.PAUSED
        if self._others_known and self._open:
            return Cause.UNREACHABLE
        return Cause.BUSY

    def _find_able(self) -> dict[str, Worker]:
        if self._able is None:
            lane = self._known[self._name].lane
            self._able = {n: w for n, w in self._workers.items() if may_run(w, lane)}
            self._open = set()
            for name in self._able:
                self._look_at(name)
        return self._able

    def _busy(self) -> dict[str, int]:
        held = (self._held.get(name, {}) for name in self._able or ())
        return dict(Counter(group for tasks in held for group in tasks.values()))

    def _before(self) -> dict[str, int]:
        """Count the tasks that come first on a worker that may run this one."""
        own, able = self._known[self._name], list((self._able or {}).values())
        lanes: dict[object, bool] = {}
        found = Counter[str]()
        for other in self._ready.values():
            if other.task != own.task and other.rank < own.rank:
                lane = other.lane
                if lane not in lanes:
                    lanes[lane] = any(may_run(one, lane) for one in able)
                found[other.group] += lanes[lane]
        return {group: count for group, count in found.items() if count}
