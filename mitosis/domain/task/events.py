"""What happens to a task. Stored form: add fields with defaults only."""

from datetime import datetime
from typing import ClassVar

from mitosis.domain.event import Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.task.spec import ArtifactKind, Exit, Outcome, TaskSpec


class TaskSubmitted(Event, frozen=True):
    """A task was submitted; `number` counts the tasks of its group from 1.

    `steps`: the beginning of a wait for another task. `rerun_of`: the task that it repeats.
    """

    TOPIC: ClassVar[str] = "task.submitted@1"
    task: str
    group: str
    creator: str
    number: int
    spec: TaskSpec
    labels: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    rerun_of: str = ""


class TaskLabelsReplaced(Event, frozen=True):
    """The labels of the task were set anew, at any time of its life."""

    TOPIC: ClassVar[str] = "task.labels_replaced@1"
    labels: tuple[str, ...]


class TaskChanged(Event, frozen=True):
    """What is to be run was changed before it ran; holds the whole new specification.

    `steps`: the beginning of a wait for another task, if that is new.
    """

    TOPIC: ClassVar[str] = "task.changed@1"
    spec: TaskSpec
    steps: tuple[Step, ...] = ()


class TaskReady(Event, frozen=True):
    """Nothing holds the task back any more: it waits for a worker only.

    `reason` and `steps`: the end of its wait for another task.
    """

    TOPIC: ClassVar[str] = "task.ready@1"
    reason: str = ""
    steps: tuple[Step, ...] = ()


class TaskAssigned(Event, frozen=True):
    """A worker was given the task as attempt `attempt`; stored before it was pushed."""

    TOPIC: ClassVar[str] = "task.assigned@1"
    attempt: int
    worker: str
    lease_seconds: float


class TaskStarted(Event, frozen=True):
    """The program runs; `steps` are the execution states up to here."""

    TOPIC: ClassVar[str] = "task.started@1"
    attempt: int
    steps: tuple[Step, ...] = ()


class TaskProgressed(Event, frozen=True):
    """The attempt reached finer execution states, each with its own time."""

    TOPIC: ClassVar[str] = "task.progressed@1"
    attempt: int
    steps: tuple[Step, ...]


class TaskExited(Event, frozen=True):
    """The program ended, or could not be started; outputs may still be on their way."""

    TOPIC: ClassVar[str] = "task.exited@1"
    attempt: int
    exit: Exit
    steps: tuple[Step, ...] = ()


class ArtifactStored(Event, frozen=True):
    """An output is what `object_name` names in S3; `attempt` is 0 when a user uploaded it.

    `freed_bytes` is the size of the artifact that it replaces.
    """

    TOPIC: ClassVar[str] = "task.artifact_stored@1"
    attempt: int
    kind: ArtifactKind
    object_name: str
    size_bytes: int
    sha256: str
    freed_bytes: int = 0


class ArtifactDeleted(Event, frozen=True):
    """An output was deleted; its `freed_bytes` go back to the group's quota."""

    TOPIC: ClassVar[str] = "task.artifact_deleted@1"
    kind: ArtifactKind
    object_name: str
    freed_bytes: int = 0


class TaskWarned(Event, frozen=True):
    """The owner should know something that does not change the outcome."""

    TOPIC: ClassVar[str] = "task.warned@1"
    attempt: int
    text: str


class TaskRetryScheduled(Event, frozen=True):
    """A failed attempt will be repeated, not before `not_before`.

    `outcome` and `reason`: how it failed.
    """

    TOPIC: ClassVar[str] = "task.retry_scheduled@1"
    attempt: int
    not_before: datetime
    outcome: Outcome = Outcome.FAILED
    reason: str = ""


class TaskRequeued(Event, frozen=True):
    """The attempt is over without an outcome; the task keeps its old place in the order.

    `counted`: the loss counts against the limit (a planned stop does not). `steps`: the worker is
    gone.
    """

    TOPIC: ClassVar[str] = "task.requeued@1"
    attempt: int
    reason: str
    counted: bool = False
    steps: tuple[Step, ...] = ()


class TaskCommitted(Event, frozen=True):
    """The attempt is the task's last word; every artifact that the task names exists."""

    TOPIC: ClassVar[str] = "task.committed@1"
    attempt: int
    outcome: Outcome
    reason: str = ""


class TaskSecretsErased(Event, frozen=True):
    """The key of the secret variables was destroyed: nobody can read them, no attempt can start."""

    TOPIC: ClassVar[str] = "task.secrets_erased@1"
    reason: str = ""


class TaskCancelRequested(Event, frozen=True):
    """Somebody wants the task to end; a running program is being stopped.

    `stop_signal` and `grace_seconds`: how; without them as the task says.
    """

    TOPIC: ClassVar[str] = "task.cancel_requested@1"
    reason: str = ""
    stop_signal: str = ""
    grace_seconds: float | None = None


class TaskCancelled(Event, frozen=True):
    """The task ended without an attempt that ran to its end.

    `steps`: it had waited for another task for too long.
    """

    TOPIC: ClassVar[str] = "task.cancelled@1"
    outcome: Outcome
    reason: str = ""
    steps: tuple[Step, ...] = ()


def steps_of(event: Event, at: datetime) -> tuple[Step, ...]:
    """Return the execution states that an event tells of; `at` is the time of its commit.

    The first and the last state of an attempt are what the events themselves say, so they are not
    stored a second time.
    """
    steps: tuple[Step, ...] = getattr(event, "steps", ())
    match event:
        case TaskAssigned():
            return (Step(ExecutionState.FETCH_RESOURCE, at),)
        case TaskCommitted() | TaskCancelled():
            return (*steps, Step(ExecutionState.TASK_COMMITTED, at))
        case _:
            return steps
