"""The order in which tasks were given out, replayed from the stream.

At each assignment, nothing else that the worker may run may wait in front: higher priority first,
first submitted first inside one, a requeued task at its old place. What one decision gives out at
once is stored as a commit for each task, in the order in which it touched them; so whoever is
passed over has until the end of the decision to be given out too.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mitosis.domain.event import Event
from mitosis.domain.roles import Role
from mitosis.domain.task import (
    TaskAssigned,
    TaskCancelled,
    TaskChanged,
    TaskReady,
    TaskRequeued,
    TaskSpec,
    TaskSubmitted,
)
from mitosis.domain.worker import (
    WorkerRegistered,
    WorkerRolesGranted,
    WorkerRolesRemoved,
    WorkerTagsReplaced,
)
from mitosis.events.envelope import decode_commit
from mitosis.projections.commit import Commit
from mitosis.testing.chaos.evidence import Evidence, Violation


class _Worker:
    def __init__(self, event: WorkerRegistered) -> None:
        self.roles, self.tags = dict(event.roles), frozenset(event.tags)

    @property
    def served(self) -> list[str]:
        """The groups whose tasks it may run."""
        return [group for group, role in self.roles.items() if role >= Role.WRITE]

    def take_in(self, event: Event) -> None:
        match event:
            case WorkerTagsReplaced(tags):
                self.tags = frozenset(tags)
            case WorkerRolesGranted(roles):
                self.roles |= roles
            case WorkerRolesRemoved(groups):
                self.roles = {g: role for g, role in self.roles.items() if g not in groups}
            case _:
                pass


class _Task:
    def __init__(self, group: str, spec: TaskSpec, position: int) -> None:
        self.group, self.position = group, position
        self.change(spec)

    def change(self, spec: TaskSpec) -> None:
        self.place = (-spec.priority, self.position)
        self.tags = frozenset(spec.tags)


class _Passed(NamedTuple):
    """A task that was given out although others, that wait, come before it."""

    task: str
    position: int
    before: list[str]


def check_order(evidence: Evidence) -> Iterator[Violation]:
    """Nothing is given to a worker while something that goes before it waits for this worker."""
    replay = _Replay()
    for commit in evidence.commits:
        yield from replay.step(commit)
    yield from replay.settle()


class _Replay:
    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._tasks: dict[str, _Task] = {}
        self._ready: dict[str, dict[str, _Task]] = {}  # by group
        self._decision = ("", "")
        self._passed: list[_Passed] = []

    def step(self, commit: Commit) -> Iterator[Violation]:
        """Take in a commit; yield what the decision before it did wrong, if it is over."""
        if not commit.events:
            return
        stored = decode_commit(commit.subject, commit.payload, commit.position)
        decision = (stored.actor, stored.command)
        if decision != self._decision:
            yield from self.settle()
            self._decision = decision
        name = commit.tail.rpartition(".")[2]
        for event in commit.events:
            if commit.kind == "worker":
                self._of_worker(name, event)
            elif commit.kind == "task":
                self._of_task(name, event, commit.position)

    def settle(self) -> Iterator[Violation]:
        """A decision is over: who was passed over and still waits has been wronged."""
        for task, position, before in self._passed:
            for other in before:
                if other in self._ready_of(other):
                    text = f"it was given out at position {position}, before {other}"
                    yield Violation("order within priority", task, text)
        self._passed.clear()

    def _of_worker(self, name: str, event: Event) -> None:
        if isinstance(event, WorkerRegistered):
            self._workers[name] = _Worker(event)
        elif name in self._workers:
            self._workers[name].take_in(event)

    def _of_task(self, name: str, event: Event, position: int) -> None:
        match event:
            case TaskSubmitted():
                self._tasks[name] = _Task(event.group, event.spec, position)
            case TaskChanged(spec, steps):
                self._tasks[name].change(spec)
                if steps:
                    self._ready_of(name).pop(name, None)
            case TaskReady() | TaskRequeued():
                self._ready_of(name)[name] = self._tasks[name]
            case TaskCancelled():
                self._ready_of(name).pop(name, None)
            case TaskAssigned(_, worker):
                self._assign(name, worker, position)
            case _:
                pass

    def _assign(self, name: str, worker: str, position: int) -> None:
        self._ready_of(name).pop(name, None)
        place, holder = self._tasks[name].place, self._workers[worker]
        before = [
            other
            for group in holder.served
            for other, task in self._ready.get(group, {}).items()
            if task.place < place and holder.tags <= task.tags
        ]
        if before:
            self._passed.append(_Passed(name, position, before))

    def _ready_of(self, name: str) -> dict[str, _Task]:
        return self._ready.setdefault(self._tasks[name].group, {})
