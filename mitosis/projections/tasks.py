"""Tasks, their specifications and artifacts, from the events of tasks."""

from datetime import datetime

from mitosis.contract.queries import AttemptEnd, FormerAttempt
from mitosis.domain.event import Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.task import (
    MAX_WARNINGS,
    ArtifactDeleted,
    ArtifactStored,
    Exit,
    ExitKind,
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
    TaskSpec,
    TaskStarted,
    TaskState,
    TaskSubmitted,
    TaskWarned,
    steps_of,
)
from mitosis.domain.watch import WAITING
from mitosis.projections.commit import Commit
from mitosis.projections.counters import remember
from mitosis.projections.rows import (
    NO_EXIT_STATUS,
    ArtifactRow,
    Tables,
    TaskRow,
    TaskSpecRow,
)
from mitosis.projections.sequence import out_of_order

SECRETS_ERASED = "its secret variables were erased: no attempt can start any more"
MAX_FORMER = 32  # of a task that is tried again without end


def fold(tables: Tables, commit: Commit, event: Event) -> None:
    """Apply an event of a task.

    Raises:
        CorruptData: An event of a task that was never submitted.
    """
    if isinstance(event, TaskSubmitted):
        _submit(tables, commit, event)
        return
    row = tables.tasks.get(commit.tail.rpartition(".")[2])
    if row is None:
        raise out_of_order(commit, event)
    state = row.state
    remember(tables, row)
    _change(tables, row, event, commit.at)
    row.updated_at, row.changed_position = commit.at, commit.position
    tables.tasks.put(row)
    if row.state is not state:
        use = tables.use_of(row.group_name)
        use.count(state, -1)
        use.count(row.state, +1)


def _submit(tables: Tables, commit: Commit, event: TaskSubmitted) -> None:
    if tables.tasks.get(event.task) is not None:
        raise out_of_order(commit, event)
    row = TaskRow(
        uuid=event.task, number=event.number, group_name=event.group, creator=event.creator,
        state=TaskState.PENDING, outcome=None, reason=_waits_for(event.spec), tags=event.spec.tags,
        labels=event.labels, attempt=0, losses=0, worker=None, cancel_requested=False,
        steps=list(event.steps),
        exit=None, warnings=[], created_position=commit.position, created_at=commit.at,
        updated_at=commit.at, started_at=None, ended_at=None, changed_position=commit.position,
        rerun_of=event.rerun_of or None, priority=event.spec.priority,
    )  # fmt: skip
    tables.tasks.put(row)
    tables.task_specs.put(TaskSpecRow(event.task, event.spec))
    tables.use_of(event.group).count(TaskState.PENDING, +1)
    tables.uncounted[row.uuid] = None


def _change(tables: Tables, row: TaskRow, event: Event, at: datetime) -> None:
    if isinstance(event, TaskAssigned):
        row.steps = [step for step in row.steps if step.state in WAITING]
    elif isinstance(event, TaskChanged) and event.steps:
        row.steps = []
    row.steps.extend(_in_order(row.steps, steps_of(event, at)))
    match event:
        case TaskReady():
            row.state, row.reason, row.retry_at = TaskState.READY, "", None
        case TaskAssigned(attempt, worker):
            row.state, row.attempt, row.worker, row.reason = TaskState.RUNNING, attempt, worker, ""
            row.exit, row.exit_status, row.started_at = None, NO_EXIT_STATUS, None
        case TaskStarted():
            row.started_at = _spawned_at(row.steps) or at
        case TaskProgressed():
            pass
        case TaskExited(_, end):
            row.exit, row.exit_status = end, _exit_status(end)
            # Told in one report, a start and its end have their steps in the event of the end.
            row.started_at = _spawned_at(row.steps) or row.started_at
        case ArtifactStored():
            _store_artifact(tables, row, event, at)
        case ArtifactDeleted(kind):
            _drop_artifact(tables, row, kind)
        case TaskWarned(_, text):
            row.warnings = [*row.warnings, text][-MAX_WARNINGS:]
        case TaskSecretsErased():
            row.warnings = [*row.warnings, SECRETS_ERASED][-MAX_WARNINGS:]
        case TaskRetryScheduled(_, not_before, outcome, reason):
            _keep_attempt(row, AttemptEnd(outcome.value), reason, at)
            row.state, row.worker, row.retry_at = TaskState.PENDING, None, not_before
            row.retries += 1
            row.reason = f"waits to run again: attempt {row.attempt} has failed ({reason})"
        case TaskRequeued(_, reason, counted):
            _keep_attempt(row, AttemptEnd.LOST if counted else AttemptEnd.HANDED_BACK, reason, at)
            row.state, row.worker, row.reason = TaskState.READY, None, reason
            row.losses += counted
        case TaskCommitted(_, outcome, reason) | TaskCancelled(outcome, reason):
            row.state, row.outcome, row.reason = outcome.state, outcome, reason
            row.ended_at, row.retry_at = at, None
        case TaskCancelRequested(reason):
            row.cancel_requested = True
            row.reason = reason or row.reason
        case TaskLabelsReplaced(labels):
            row.labels = labels
        case TaskChanged(spec, steps):
            row.tags, row.priority = spec.tags, spec.priority
            if steps:
                row.state, row.reason, row.retry_at = TaskState.PENDING, _waits_for(spec), None
            tables.task_specs.put(TaskSpecRow(row.uuid, spec))
        case _:
            raise AssertionError(f"no column for {event.TOPIC}")


def _keep_attempt(row: TaskRow, end: AttemptEnd, reason: str, at: datetime) -> None:
    """Remember an attempt that another one follows."""
    exit_ = row.exit
    ended = FormerAttempt(
        row.attempt, row.worker, end, reason, exit_.kind if exit_ else None,
        exit_.number if exit_ else None, row.started_at, at,
    )  # fmt: skip
    row.former_attempts = [*row.former_attempts, ended][-MAX_FORMER:]


def _exit_status(end: Exit) -> int:
    return end.number if end.kind is ExitKind.CODE else NO_EXIT_STATUS


def _waits_for(spec: TaskSpec) -> str:
    watch = spec.watch
    return f"waits until task {watch.task} has reached {watch.state}" if watch else ""


def _in_order(before: list[Step], steps: tuple[Step, ...]) -> list[Step]:
    """Let no step be before the one in front of it.

    A report has ages, measured when it was sent: one that took long to be taken in makes its steps
    later by that, and not those of the next report.
    """
    ordered: list[Step] = []
    latest = before[-1].at if before else None
    for step in steps:
        latest = step.at if latest is None else max(latest, step.at)
        ordered.append(step if step.at == latest else Step(step.state, latest))
    return ordered


def _spawned_at(steps: list[Step]) -> datetime | None:
    return next((step.at for step in steps if step.state is ExecutionState.EXEC_SPAWNED), None)


def _store_artifact(tables: Tables, row: TaskRow, event: ArtifactStored, at: datetime) -> None:
    former = tables.artifacts.get(row.uuid, event.kind)
    tables.artifacts.put(
        ArtifactRow(
            row.uuid, event.kind, event.object_name, event.size_bytes, event.sha256,
            former.created_at if former else at, at,
        )
    )  # fmt: skip
    grown = event.size_bytes - (former.size_bytes if former else 0)
    tables.use_of(row.group_name).storage_used_bytes += grown


def _drop_artifact(tables: Tables, row: TaskRow, kind: str) -> None:
    former = tables.artifacts.get(row.uuid, kind)
    if former is not None:
        tables.artifacts.drop(row.uuid, kind)
        tables.use_of(row.group_name).storage_used_bytes -= former.size_bytes
