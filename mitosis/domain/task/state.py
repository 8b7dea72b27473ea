"""What decisions about a task need, as a fold of its events."""

from datetime import datetime

import msgspec
from msgspec.structs import replace

from mitosis.domain.event import Command, Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.task.events import (
    ArtifactDeleted,
    ArtifactStored,
    TaskAssigned,
    TaskCancelled,
    TaskCancelRequested,
    TaskChanged,
    TaskCommitted,
    TaskExited,
    TaskLabelsReplaced,
    TaskProgressed,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSecretsErased,
    TaskStarted,
    TaskSubmitted,
    TaskWarned,
)
from mitosis.domain.task.spec import ArtifactKind, Exit, Outcome, TaskSpec, TaskState
from mitosis.domain.watch import mask, reached_at_end


class Artifact(msgspec.Struct, frozen=True):
    """A stored output of the task; `attempt` 0: a user has uploaded it."""

    kind: ArtifactKind
    object_name: str
    size_bytes: int
    sha256: str
    attempt: int = 0


class Task(Command, frozen=True, gc=False):
    """What decisions about a task need. `attempt` is the number of the latest attempt.

    `submitted` holds specification and labels as they were submitted, once they were changed: a
    repeated submit is compared with them. `watching_since`: it waits for another task. `reached`:
    the execution states of all attempts (see `watch.mask`). `told`: those that the worker of the
    latest attempt has told; each is stored once an attempt, whatever a worker repeats. `told_at`:
    the time of the last one; none is stored before it. `retries`: how many were used; `retry_at`:
    it waits until then for the next one. `cancel_signal` and `cancel_grace_seconds`: how it is to
    be stopped, if not as the specification says. `erased`: the key of its secret variables was
    destroyed.
    """

    task: str
    group: str
    creator: str
    number: int
    spec: TaskSpec
    labels: tuple[str, ...] = ()
    state: TaskState = TaskState.PENDING
    attempt: int = 0
    worker: str = ""
    losses: int = 0
    started: bool = False
    cancel_requested: bool = False
    exit: Exit | None = None
    artifacts: tuple[Artifact, ...] = ()
    warnings: int = 0
    outcome: Outcome | None = None
    submitted: tuple[TaskSpec, tuple[str, ...]] | None = None
    watching_since: datetime | None = None
    reached: int = 0
    told: int = 0
    told_at: datetime | None = None
    retries: int = 0
    retry_at: datetime | None = None
    cancel_signal: str = ""
    cancel_grace_seconds: float | None = None
    rerun_of: str = ""
    erased: bool = False

    @property
    def stored_bytes(self) -> int:
        """What its artifacts take of the group's quota."""
        return sum(artifact.size_bytes for artifact in self.artifacts)

    def artifact(self, kind: ArtifactKind) -> Artifact | None:
        """Return the artifact of a kind, if there is one."""
        return next((a for a in self.artifacts if a.kind is kind), None)


def evolve(state: Task | None, event: Event) -> Task:
    """Apply a fact. Total: never raises for an event that `decide` made."""
    new = _changed(state, event)
    reached, told = _reached(new.reached, event), _told(new.told, event)
    if (reached, told) == (new.reached, new.told):
        return new
    told_at = new.told_at if told == new.told else _told_at(event)
    return replace(new, reached=reached, told=told, told_at=told_at)


def _changed(state: Task | None, event: Event) -> Task:
    match event:
        case TaskSubmitted(task, group, creator, number, spec, labels, steps, rerun_of):
            since = steps[0].at if steps else None
            return Task(
                task, group, creator, number, spec, labels, watching_since=since, rerun_of=rerun_of
            )
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the task was submitted")
        case TaskReady():
            return replace(state, state=TaskState.READY, watching_since=None, retry_at=None)
        case TaskAssigned(attempt, worker):
            return replace(
                state, state=TaskState.RUNNING, attempt=attempt, worker=worker,
                started=False, exit=None,
            )  # fmt: skip
        case TaskStarted():
            return replace(state, started=True)
        case TaskExited():
            return replace(state, exit=event.exit)
        case ArtifactStored(attempt, kind, object_name, size, sha256):
            others = tuple(a for a in state.artifacts if a.kind is not kind)
            stored = Artifact(kind, object_name, size, sha256, attempt)
            return replace(state, artifacts=(*others, stored))
        case ArtifactDeleted(kind):
            return replace(state, artifacts=tuple(a for a in state.artifacts if a.kind is not kind))
        case TaskSecretsErased():
            return replace(state, erased=True)
        case TaskWarned():
            return replace(state, warnings=state.warnings + 1)
        case TaskRetryScheduled(_, not_before):
            return replace(
                state, state=TaskState.PENDING, worker="", started=False, exit=None,
                retries=state.retries + 1, retry_at=not_before,
            )  # fmt: skip
        case TaskRequeued(_, _, counted):
            return replace(
                state, state=TaskState.READY, worker="", started=False, exit=None,
                losses=state.losses + counted,
            )  # fmt: skip
        case TaskCommitted(_, outcome):
            return replace(state, state=outcome.state, outcome=outcome, worker="")
        case TaskCancelled(outcome):
            return replace(
                state, state=outcome.state, outcome=outcome, worker="", exit=None,
                watching_since=None, retry_at=None,
            )  # fmt: skip
        case TaskCancelRequested(_, stop_signal, grace_seconds):
            return replace(
                state, cancel_requested=True, cancel_signal=stop_signal,
                cancel_grace_seconds=grace_seconds,
            )  # fmt: skip
        case TaskLabelsReplaced(labels):
            return replace(state, labels=labels, submitted=as_submitted(state))
        case TaskChanged(spec, steps):
            erased = state.erased and spec.sealing == state.spec.sealing
            changed = replace(state, spec=spec, submitted=as_submitted(state), erased=erased)
            if not steps:
                return changed
            return replace(
                changed, state=TaskState.PENDING, watching_since=steps[0].at, retry_at=None
            )
        case _:
            return state


def _reached(reached: int, event: Event) -> int:
    match event:
        case TaskAssigned():
            return reached | mask((ExecutionState.FETCH_RESOURCE,))
        case TaskCommitted(_, outcome):
            return reached_at_end(
                reached,
                finished=outcome.state is TaskState.FINISHED,
                timed_out=outcome is Outcome.TIMED_OUT,
            )
        case TaskCancelled():
            return reached_at_end(reached | mask(s.state for s in event.steps))
        case _:
            steps: tuple[Step, ...] = getattr(event, "steps", ())
            return reached | mask(step.state for step in steps) if steps else reached


def _told(told: int, event: Event) -> int:
    match event:
        case TaskAssigned():
            return 0
        case TaskStarted() | TaskProgressed() | TaskExited():
            return told | mask(step.state for step in event.steps) if event.steps else told
        case _:
            return told


def _told_at(event: Event) -> datetime | None:
    steps: tuple[Step, ...] = getattr(event, "steps", ())
    return steps[-1].at if steps else None


def as_submitted(state: Task) -> tuple[TaskSpec, tuple[str, ...]]:
    """Return specification and labels of a task as they were submitted."""
    return state.submitted or (state.spec, state.labels)
