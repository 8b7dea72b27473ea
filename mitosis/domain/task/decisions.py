"""What a command makes true of a task."""

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from mitosis.domain.attachment import check_sha256
from mitosis.domain.event import Command, Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.limits import (
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
from mitosis.domain.resources import NO_LIMITS, check_grace, check_stop_signal
from mitosis.domain.retry import check_losses
from mitosis.domain.secret import check_secret_names
from mitosis.domain.task.commands import (
    AssignTask,
    BeginRetry,
    ChangeTask,
    CommitTask,
    DeleteArtifact,
    EraseSecrets,
    FailWatch,
    FireWatch,
    ReplaceTaskLabels,
    ReportExit,
    ReportStart,
    ReportSteps,
    RequestCancel,
    RequeueTask,
    StoreArtifact,
    SubmitTask,
    WarnTask,
)
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
from mitosis.domain.task.spec import (
    MAX_EXACT,
    MAX_TAIL_BYTES,
    MAX_WARNINGS,
    Exit,
    Outcome,
    TaskSpec,
    TaskState,
    Usage,
)
from mitosis.domain.task.state import Task, as_submitted
from mitosis.domain.task.verdict import judge, retry_cause
from mitosis.domain.watch import check_watch, mask
from mitosis.errors import AlreadyExists, InvalidInput, NotFound, StaleAttempt, WrongState


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
        case CommitTask():
            return _commit(state, command)
        case ReplaceTaskLabels(labels):
            labels = check_tags(labels, "labels")
            return [] if labels == state.labels else [TaskLabelsReplaced(labels)]
        case EraseSecrets(reason):
            return _erase_secrets(state, reason)
        case _ if state.state.terminal:
            raise WrongState(_ended(state), task=state.task, state=state.state.value)
        case AssignTask(worker, lease_seconds):
            if state.state is not TaskState.READY:
                raise WrongState(f"task {state.task} is {state.state}, not ready")
            return [TaskAssigned(state.attempt + 1, worker, lease_seconds)]
        case RequestCancel():
            return _request_cancel(state, command)
        case BeginRetry():
            return [] if state.retry_at is None else [TaskReady()]
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
    check_losses(spec.max_losses)
    spec.limits.check()
    check_grace(spec.grace_seconds)
    if bool(spec.secrets) is not bool(spec.sealing):
        raise AssertionError("secret variables are named together with their sealing")
    return replace(
        spec,
        secrets=check_secret_names(spec.secrets, spec.env) if spec.secrets else (),
        tags=check_tags(spec.tags, "tags"),
        watch=spec.watch and check_watch(spec.watch),
        limits=NO_LIMITS if spec.limits == NO_LIMITS else spec.limits,  # itself: forms leave it out
        stop_signal=check_stop_signal(spec.stop_signal),
        retry=spec.retry.checked(),
    )


def _submit(state: Task | None, command: SubmitTask) -> list[Event]:
    spec, labels = check_spec(command.spec), check_tags(command.labels, "labels")
    if state is None:
        steps = _wait_begins(spec, command.at)
        submitted = TaskSubmitted(
            command.task, command.group, command.creator, command.number, spec, labels, steps,
            command.rerun_of,
        )  # fmt: skip
        return [submitted, *_unless_it_waits(steps, command.fired)]
    if (*as_submitted(state), state.rerun_of) != (spec, labels, command.rerun_of):
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
    """Return the steps that the attempt has not told before, each state once, none before another.

    A report has ages, measured when it was sent: one that took long to be taken in makes its steps
    later by that, and not those of the next report.
    """
    told, latest, new = state.told, state.told_at, []
    for step in steps:
        bit = mask((step.state,))
        if told & bit:
            continue
        told |= bit
        if latest is not None and step.at < latest:
            step = Step(step.state, latest)  # noqa: PLW2901
        latest = step.at
        new.append(step)
    return tuple(new)


def _bounded(end: Exit) -> Exit:
    """Keep the promise that stored texts are short and numbers fit, whatever a worker sends."""
    check_number(end.number, "exit code, signal or errno", 0, 2**31 - 1)
    used = msgspec.structs.astuple(end.usage)
    said = end.reason or end.stdout_tail or end.stderr_tail
    if not said and min(used) >= 0 and max(used) <= MAX_EXACT:
        return end  # as nearly always: there is nothing to cut
    bounded = (min(max(value, 0), MAX_EXACT) for value in used)
    return replace(
        end,
        usage=Usage(*bounded),
        reason=clip_text(end.reason, MAX_REASON_BYTES),
        stdout_tail=clip_text(end.stdout_tail, MAX_TAIL_BYTES, keep_end=True),
        stderr_tail=clip_text(end.stderr_tail, MAX_TAIL_BYTES, keep_end=True),
    )


def _store_artifact(state: Task, command: StoreArtifact) -> list[Event]:
    artifact = replace(command.artifact, attempt=command.attempt)
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


def _commit(state: Task, command: CommitTask) -> list[Event]:
    worker, attempt = command.worker, command.attempt
    if state.state.terminal and state.attempt == attempt and state.exit is not None:
        return []  # the same report again
    _check_live(state, worker, attempt)
    if state.exit is None:
        raise InvalidInput(f"task {state.task} cannot be committed before its exit was reported")
    left = _left_by_former_attempts(state)
    if command.cut_short and state.cancel_requested:
        why = "cancelled while its outputs were uploaded"
        return [*left, TaskCommitted(attempt, Outcome.CANCELLED, why)]
    outcome, reason = judge(state.exit, cancel_requested=state.cancel_requested)
    cause = retry_cause(outcome, state.exit)
    if outcome is Outcome.SUCCEEDED and command.unstored:
        # Who asks for tasks that succeeded must find what they have left behind. Not tried again:
        # the program did what it should, and its next run would meet the same quota.
        outcome, reason = Outcome.FAILED, clip_text(command.unstored, MAX_REASON_BYTES)
    if cause is None or state.cancel_requested or not state.spec.retry.allows(cause, state.retries):
        return [*left, TaskCommitted(attempt, outcome, reason)]
    if command.at is None:
        raise AssertionError("whoever decides on a retry says when")
    wait = timedelta(seconds=state.spec.retry.wait_seconds(state.retries))
    return [*left, TaskRetryScheduled(attempt, command.at + wait, outcome, reason)]


def _left_by_former_attempts(state: Task) -> list[Event]:
    """Outputs of an attempt whose successor has ended: they would pass for those of the last."""
    return [
        ArtifactDeleted(held.kind, held.object_name, held.size_bytes)
        for held in state.artifacts
        if 0 < held.attempt < state.attempt
    ]


def _request_cancel(state: Task, command: RequestCancel) -> list[Event]:
    reason = check_text(command.reason, "reason", MAX_REASON_BYTES)
    number, grace = command.stop_signal, command.grace_seconds
    number = check_stop_signal(number) if number else ""
    if grace is not None:
        check_grace(grace)
    how = (number or state.cancel_signal, state.cancel_grace_seconds if grace is None else grace)
    if state.cancel_requested and how == (state.cancel_signal, state.cancel_grace_seconds):
        return []
    requested = TaskCancelRequested(reason, *how)
    if state.state is TaskState.RUNNING:
        return [requested]
    ran = state.retry_at is not None
    when = "while it waited to run again" if ran else "before it ran"
    return [requested, TaskCancelled(Outcome.CANCELLED, reason or f"cancelled {when}")]


def _erase_secrets(state: Task, reason: str) -> list[Event]:
    reason = check_text(reason, "reason", MAX_REASON_BYTES)
    if not state.spec.secrets:
        raise InvalidInput(f"task {state.task} has no secret variables", field="task")
    if state.state.terminal and not state.erased:
        raise WrongState(
            f"{_ended(state)}, and with its end its secrets were erased",
            task=state.task, state=state.state.value,
        )  # fmt: skip
    return [] if state.erased else [TaskSecretsErased(reason)]


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
