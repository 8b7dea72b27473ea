r"""The task: one command line, run until an attempt of it is committed.

    pending --> ready --> running --> finished   (succeeded, failed)
       |          |  ^       | \----> cancelled  (timed_out, error, cancelled)
       |          |  \-requeue-/
       \----------\-------------------> cancelled  (cancelled, lost)

Invariants, each held by a property test:
- a terminal state never changes;
- at most one attempt is live, and only its worker may report on it;
- attempts are numbered 1, 2, 3, ... without gaps;
- losses that count never exceed the limit;
- a task that watches another one is given to nobody before that has reached the state.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from mitosis.domain.attachment import check_sha256
from mitosis.domain.event import Command, Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.limits import (
    DEFAULT_MAX_LOSSES,
    MAX_PRIORITY,
    MAX_REASON_BYTES,
    MAX_SIZE_BYTES,
    MAX_TIMEOUT_SECONDS,
    MIN_TIMEOUT_SECONDS,
    check_command,
    check_number,
    check_tags,
    check_text,
    clip_text,
)
from mitosis.domain.nearest import one_of
from mitosis.domain.watch import Watch, check_watch, mask, reached_at_end
from mitosis.errors import AlreadyExists, InvalidInput, NotFound, StaleAttempt, WrongState

MAX_WARNINGS = 20
MAX_EXACT = 2**53 - 1  # the largest whole number that every JSON reader keeps
MAX_TAIL_BYTES = 4_096
DEFAULT_TIMEOUT_SECONDS = 600.0  # as in the original: 10min


class TaskState(StrEnum):
    """Where a task is."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether it can never change again."""
        return self in {TaskState.FINISHED, TaskState.CANCELLED}


UNKNOWN_STATE = "unknown"  # of the original, which never writes it: a filter that fits nothing


def check_state(text: str) -> str:
    """Return the name of a state that tasks can be filtered by.

    Raises:
        InvalidInput: No such state.
    """
    names = [*(state.value for state in TaskState), UNKNOWN_STATE]
    if text not in names:
        raise InvalidInput(
            f"{text[:40]!r} is no state of a task: {one_of(text[:40], names)}", field="state"
        )
    return text


class Outcome(StrEnum):
    """How a task ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    CANCELLED = "cancelled"
    ERROR = "error"

    @property
    def state(self) -> TaskState:
        """The terminal state that this outcome leads to."""
        ran = self in {Outcome.SUCCEEDED, Outcome.FAILED}
        return TaskState.FINISHED if ran else TaskState.CANCELLED


class ArtifactKind(StrEnum):
    """What an artifact of a task holds."""

    RESULT = "result"
    EXEC_LOG = "exec-log"
    STD_LOG = "std-log"

    @property
    def filename(self) -> str:
        """The name that users see."""
        return f"{self.value}.tar.gz"


class ExitKind(StrEnum):
    """The three different ways in which a program ends, or does not even start."""

    CODE = "code"
    SIGNAL = "signal"
    NOT_STARTED = "not_started"


class EndCause(StrEnum):
    """What made the program end."""

    OWN = "own"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    LEASE = "lease"
    SHUTDOWN = "shutdown"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the whole process tree used. `max_rss_bytes` is the largest single process."""

    wall_seconds: float = 0.0
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    max_rss_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0


class Exit(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the program ended. `number` is the exit code, the signal, or the errno.

    The tails are the last bytes of each stream, at most 4 KiB; NUL and bytes that are no UTF-8
    are replaced.
    """

    kind: ExitKind
    number: int = 0
    cause: EndCause = EndCause.OWN
    reason: str = ""
    usage: Usage = Usage()
    stdout_tail: str = ""
    stderr_tail: str = ""


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be run, and what it waits for."""

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    priority: int = 0
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    terminal: bool = False
    max_losses: int = DEFAULT_MAX_LOSSES
    watch: Watch | None = None


# --- events (stored form: add fields with defaults only) ---------------------------------------


class TaskSubmitted(Event, frozen=True):
    """A task was submitted; `number` counts the tasks of its group from 1.

    `steps`: the beginning of a wait for another task.
    """

    TOPIC: ClassVar[str] = "task.submitted@1"
    task: str
    group: str
    creator: str
    number: int
    spec: TaskSpec
    labels: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()


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
    """A failed attempt will be repeated, not before `not_before`."""

    TOPIC: ClassVar[str] = "task.retry_scheduled@1"
    attempt: int
    not_before: datetime


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


class TaskCancelRequested(Event, frozen=True):
    """Somebody wants the task to end; a running program is being stopped."""

    TOPIC: ClassVar[str] = "task.cancel_requested@1"
    reason: str = ""


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


# --- state ------------------------------------------------------------------------------------


class Artifact(msgspec.Struct, frozen=True):
    """A stored output of the task."""

    kind: ArtifactKind
    object_name: str
    size_bytes: int
    sha256: str


class Task(Command, frozen=True):
    """What decisions about a task need. `attempt` is the number of the latest attempt.

    `submitted` holds specification and labels as they were submitted, once they were changed: a
    repeated submit is compared with them. `watching_since`: it waits for another task. `reached`:
    the execution states of all attempts (see `watch.mask`). `told`: those that the worker of the
    latest attempt has told; each is stored once an attempt, whatever a worker repeats.
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
    return replace(new, reached=reached, told=told)


def _changed(state: Task | None, event: Event) -> Task:
    match event:
        case TaskSubmitted(task, group, creator, number, spec, labels, steps):
            since = steps[0].at if steps else None
            return Task(task, group, creator, number, spec, labels, watching_since=since)
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the task was submitted")
        case TaskReady():
            return replace(state, state=TaskState.READY, watching_since=None)
        case TaskAssigned(attempt, worker):
            return replace(
                state, state=TaskState.RUNNING, attempt=attempt, worker=worker,
                started=False, exit=None,
            )  # fmt: skip
        case TaskStarted():
            return replace(state, started=True)
        case TaskExited():
            return replace(state, exit=event.exit)
        case ArtifactStored(_, kind, object_name, size, sha256):
            others = tuple(a for a in state.artifacts if a.kind is not kind)
            return replace(state, artifacts=(*others, Artifact(kind, object_name, size, sha256)))
        case ArtifactDeleted(kind):
            return replace(state, artifacts=tuple(a for a in state.artifacts if a.kind is not kind))
        case TaskWarned():
            return replace(state, warnings=state.warnings + 1)
        case TaskRetryScheduled():
            return replace(state, state=TaskState.PENDING, worker="", started=False, exit=None)
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
                watching_since=None,
            )  # fmt: skip
        case TaskCancelRequested():
            return replace(state, cancel_requested=True)
        case TaskLabelsReplaced(labels):
            return replace(state, labels=labels, submitted=_as_submitted(state))
        case TaskChanged(spec, steps):
            changed = replace(state, spec=spec, submitted=_as_submitted(state))
            if not steps:
                return changed
            return replace(changed, state=TaskState.PENDING, watching_since=steps[0].at)
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


def _as_submitted(state: Task) -> tuple[TaskSpec, tuple[str, ...]]:
    return state.submitted or (state.spec, state.labels)


# --- commands ---------------------------------------------------------------------------------


class SubmitTask(Command, frozen=True):
    """Submit a task; the same again is the same task.

    `at`: now, for the beginning of a wait. `fired`: how the watched task has fulfilled it already.
    """

    task: str
    group: str
    creator: str
    number: int
    spec: TaskSpec
    labels: tuple[str, ...] = ()
    at: datetime | None = None
    fired: str = ""


class ReplaceTaskLabels(Command, frozen=True):
    """Set the labels of the task, ended or not."""

    labels: tuple[str, ...]


class ChangeTask(Command, frozen=True):
    """Replace what is to be run, before it runs. `at` and `fired` as in SubmitTask."""

    spec: TaskSpec
    at: datetime | None = None
    fired: str = ""


class FireWatch(Command, frozen=True):
    """What the task waited for has come true."""

    reason: str
    at: datetime


class FailWatch(Command, frozen=True):
    """What the task waits for cannot come true any more, or not within its time."""

    reason: str
    at: datetime
    timed_out: bool = False


class AssignTask(Command, frozen=True):
    """Give a ready task to a worker, as its next attempt."""

    worker: str
    lease_seconds: float


class ReportStart(Command, frozen=True):
    """The worker says that the program runs."""

    worker: str
    attempt: int
    steps: tuple[Step, ...] = ()


class ReportSteps(Command, frozen=True):
    """The worker says which execution states the attempt has reached."""

    worker: str
    attempt: int
    steps: tuple[Step, ...]


class ReportExit(Command, frozen=True):
    """The worker says how the program ended."""

    worker: str
    attempt: int
    exit: Exit
    steps: tuple[Step, ...] = ()


class StoreArtifact(Command, frozen=True):
    """Name an uploaded output: of a worker's attempt, or of a user (no worker, attempt 0)."""

    worker: str
    attempt: int
    artifact: Artifact


class DeleteArtifact(Command, frozen=True):
    """Delete the output of one kind."""

    kind: ArtifactKind


class WarnTask(Command, frozen=True):
    """Tell the owner something that does not change the outcome."""

    worker: str
    attempt: int
    text: str


class CommitTask(Command, frozen=True):
    """The worker says that nothing more will come: end the task."""

    worker: str
    attempt: int


class RequestCancel(Command, frozen=True):
    """End the task; while it runs, by stopping the program."""

    reason: str = ""


class RequeueTask(Command, frozen=True):
    """End the live attempt, which is dead for certain or was never begun, without an outcome."""

    attempt: int
    reason: str
    counted: bool
    steps: tuple[Step, ...] = ()


def decide(state: Task | None, command: Command) -> list[Event]:
    """Return what the command makes true; nothing for a repeat.

    Raises:
        Rejection: A rule says no.
    """
    match command:
        case SubmitTask():
            return _submit(state, command)
        case _ if state is None:
            raise NotFound("no such task")
        case ReportStart(worker, attempt, steps):
            _check_live(state, worker, attempt)
            return [] if state.started else [TaskStarted(attempt, _untold(state, steps))]
        case ReportSteps(worker, attempt, steps):
            _check_live(state, worker, attempt)
            steps = _untold(state, steps)
            return [TaskProgressed(attempt, steps)] if steps else []
        case ReportExit(worker, attempt, end, steps):
            _check_live(state, worker, attempt)
            if state.exit:
                return []
            return [TaskExited(attempt, _bounded(end), _untold(state, steps))]
        case StoreArtifact():
            return _store_artifact(state, command)
        case DeleteArtifact(kind):
            held = state.artifact(kind)
            if held is None:
                raise NotFound(f"task {state.task} has no artifact of type {kind.value}")
            return [ArtifactDeleted(kind, held.object_name, held.size_bytes)]
        case WarnTask(worker, attempt, text):
            _check_live(state, worker, attempt)
            if state.warnings >= MAX_WARNINGS:
                return []
            return [TaskWarned(attempt, check_text(text, "warning", MAX_REASON_BYTES))]
        case CommitTask(worker, attempt):
            return _commit(state, worker, attempt)
        case ReplaceTaskLabels(labels):
            labels = check_tags(labels, "labels")
            return [] if labels == state.labels else [TaskLabelsReplaced(labels)]
        case _ if state.state.terminal:
            raise WrongState(_ended(state), task=state.task, state=state.state.value)
        case AssignTask(worker, lease_seconds):
            if state.state is not TaskState.READY:
                raise WrongState(f"task {state.task} is {state.state}, not ready")
            return [TaskAssigned(state.attempt + 1, worker, lease_seconds)]
        case RequestCancel(reason):
            return _request_cancel(state, check_text(reason, "reason", MAX_REASON_BYTES))
        case RequeueTask():
            return _requeue(state, command)
        case ChangeTask(spec):
            if state.state is TaskState.RUNNING:
                raise WrongState(
                    f"task {state.task} runs already and cannot be changed: cancel it and submit "
                    "another one",
                    task=state.task, state=state.state.value,
                )  # fmt: skip
            return _change(state, check_spec(spec), command)
        case FireWatch(reason, at):
            return [] if state.watching_since is None else [_fired(reason, at)]
        case FailWatch():
            return [] if state.watching_since is None else [_failed_watch(command)]
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")


def check_spec(spec: TaskSpec) -> TaskSpec:
    """Check what is to be run, and return it in its canonical form.

    Raises:
        InvalidInput: A value is out of its bounds.
    """
    check_command(spec.argv, spec.env)
    check_number(spec.priority, "priority", -MAX_PRIORITY, MAX_PRIORITY)
    check_number(
        spec.timeout_seconds, "timeout in seconds", MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS
    )
    check_number(spec.max_losses, "max losses", 1, 1_000)
    watch = spec.watch and check_watch(spec.watch)
    return replace(spec, tags=check_tags(spec.tags, "tags"), watch=watch)


def _submit(state: Task | None, command: SubmitTask) -> list[Event]:
    spec, labels = check_spec(command.spec), check_tags(command.labels, "labels")
    if state is None:
        steps = _wait_begins(spec, command.at)
        submitted = TaskSubmitted(
            command.task, command.group, command.creator, command.number, spec, labels, steps
        )
        return [submitted, *_unless_it_waits(steps, command.fired)]
    if _as_submitted(state) != (spec, labels):
        raise AlreadyExists(
            f"the idempotency key was used for task {state.task} with another specification: "
            "use a new key",
            task=state.task,
        )
    return []


def _wait_begins(spec: TaskSpec, at: datetime | None) -> tuple[Step, ...]:
    if spec.watch is None:
        return ()
    if at is None:
        raise AssertionError("whoever decides on a watch says when")
    return (Step(ExecutionState.WATCH, at),)


def _unless_it_waits(steps: tuple[Step, ...], fired: str) -> list[Event]:
    if not steps:
        return [TaskReady()]
    return [_fired(fired, steps[0].at)] if fired else []


def _fired(reason: str, at: datetime) -> TaskReady:
    return TaskReady(reason, (Step(ExecutionState.WATCH_FINISHED, at),))


def _failed_watch(command: FailWatch) -> TaskCancelled:
    if not command.timed_out:
        return TaskCancelled(Outcome.CANCELLED, command.reason)
    steps = (Step(ExecutionState.WATCH_TIMEOUT, command.at),)
    return TaskCancelled(Outcome.TIMED_OUT, command.reason, steps)


def _change(state: Task, spec: TaskSpec, command: ChangeTask) -> list[Event]:
    if spec.max_losses <= state.losses:
        raise InvalidInput(
            f"max losses is {spec.max_losses}, but task {state.task} has lost {state.losses} "
            "attempts already: give a larger number",
            field="max losses",
        )
    if spec == state.spec:
        return []
    if spec.watch == state.spec.watch:
        return [TaskChanged(spec)]
    if spec.watch is None:
        waited = state.watching_since is not None
        return [TaskChanged(spec), *([TaskReady()] if waited else [])]
    steps = _wait_begins(spec, command.at)
    return [TaskChanged(spec, steps), *_unless_it_waits(steps, command.fired)]


def _ended(state: Task) -> str:
    return f"task {state.task} has ended already: {state.outcome or state.state}"


def _check_live(state: Task, worker: str, attempt: int) -> None:
    if state.state is not TaskState.RUNNING or (state.worker, state.attempt) != (worker, attempt):
        raise StaleAttempt(
            f"attempt {attempt} of task {state.task} on worker {worker} is not live: the task is "
            f"{state.state} at attempt {state.attempt}",
            task=state.task, attempt=attempt, current=state.attempt,
        )  # fmt: skip


def _untold(state: Task, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps that the attempt has not told before, each state once."""
    told, new = state.told, []
    for step in steps:
        bit = mask((step.state,))
        if not told & bit:
            told |= bit
            new.append(step)
    return tuple(new)


def _bounded(end: Exit) -> Exit:
    """Keep the promise that stored texts are short and numbers fit, whatever a worker sends."""
    check_number(end.number, "exit code, signal or errno", 0, 2**31 - 1)
    used = (min(max(value, 0), MAX_EXACT) for value in msgspec.structs.astuple(end.usage))
    return replace(
        end,
        usage=Usage(*used),
        reason=clip_text(end.reason, MAX_REASON_BYTES),
        stdout_tail=clip_text(end.stdout_tail, MAX_TAIL_BYTES, keep_end=True),
        stderr_tail=clip_text(end.stderr_tail, MAX_TAIL_BYTES, keep_end=True),
    )


def _store_artifact(state: Task, command: StoreArtifact) -> list[Event]:
    artifact = command.artifact
    if command.worker or command.attempt:
        _check_live(state, command.worker, command.attempt)
    check_number(artifact.size_bytes, "size in bytes", 0, MAX_SIZE_BYTES)
    check_sha256(artifact.sha256)
    if artifact in state.artifacts:
        return []
    replaced = state.artifact(artifact.kind)
    stored = ArtifactStored(
        attempt=command.attempt,
        kind=artifact.kind,
        object_name=artifact.object_name,
        size_bytes=artifact.size_bytes,
        sha256=artifact.sha256,
        freed_bytes=replaced.size_bytes if replaced else 0,
    )
    return [stored]


def _commit(state: Task, worker: str, attempt: int) -> list[Event]:
    if state.state.terminal and state.attempt == attempt and state.exit is not None:
        return []  # the same report again
    _check_live(state, worker, attempt)
    if state.exit is None:
        raise InvalidInput(f"task {state.task} cannot be committed before its exit was reported")
    outcome, reason = judge(state.exit, cancel_requested=state.cancel_requested)
    return [TaskCommitted(attempt, outcome, reason)]


def judge(end: Exit, *, cancel_requested: bool) -> tuple[Outcome, str]:
    """Say how a task ended, from how its program ended.

    A program that ends by itself keeps its own outcome, even when a cancel was on its way. A
    timeout is a timeout although the program, asked to stop, ended with code 0.
    """
    if end.kind is ExitKind.NOT_STARTED:
        return Outcome.ERROR, end.reason or "the program could not be started"
    if end.cause is EndCause.TIMEOUT:
        return Outcome.TIMED_OUT, "the timeout was over"
    if end.cause is EndCause.CANCEL or (end.cause is not EndCause.OWN and cancel_requested):
        return Outcome.CANCELLED, end.reason or "cancelled while it ran"
    if end.kind is ExitKind.CODE and end.number == 0:
        return Outcome.SUCCEEDED, ""
    what = "exit code" if end.kind is ExitKind.CODE else "signal"
    return Outcome.FAILED, f"{what} {end.number}"


def _request_cancel(state: Task, reason: str) -> list[Event]:
    if state.cancel_requested:
        return []
    requested = TaskCancelRequested(reason)
    if state.state is TaskState.RUNNING:
        return [requested]
    return [requested, TaskCancelled(Outcome.CANCELLED, reason or "cancelled before it ran")]


def _requeue(state: Task, command: RequeueTask) -> list[Event]:
    attempt, counted = command.attempt, command.counted
    if state.state is not TaskState.RUNNING or state.attempt != attempt:
        raise StaleAttempt(f"attempt {attempt} of task {state.task} is not live")
    if state.cancel_requested:
        return [TaskCancelled(Outcome.CANCELLED, "cancelled while it ran", command.steps)]
    reason = clip_text(command.reason, MAX_REASON_BYTES)
    requeued = TaskRequeued(attempt, reason, counted, command.steps)
    losses = state.losses + counted
    if counted and losses >= state.spec.max_losses:
        times = "once" if losses == 1 else f"{losses} times"
        return [requeued, TaskCancelled(Outcome.LOST, f"worker lost {times}: {reason}")]
    return [requeued]
