"""What a worker says, looked at before anything of it is taken in: it may be broken, or hostile.

A report is checked whole, so that a refused one leaves no trace. Counts and numbers out of bounds
are refused. Texts are cut instead where they are stored: they are last words of programs and names
of files, for which nobody can be blamed.
"""

from mitosis.artifacts.names import belongs_to_attempt
from mitosis.contract import work
from mitosis.domain.attachment import check_sha256
from mitosis.domain.execution import ExecutionState
from mitosis.domain.limits import MAX_SIZE_BYTES, MAX_SLOTS, MAX_TIMEOUT_SECONDS, check_number
from mitosis.domain.names import is_uuid
from mitosis.domain.task import ArtifactKind, Task, TaskState
from mitosis.errors import InvalidInput, StaleAttempt, TooLarge
from mitosis.services.coordinator.world import World

MAX_REPORTS = 256
MAX_STEPS = 4 * len(ExecutionState)
MAX_WARNINGS_AT_ONCE = 64
MAX_HELD = 2 * MAX_SLOTS  # what it runs, what was sent ahead, and what it has yet to report
MAX_ATTEMPT = 2**31 - 1


def check_count(count: int, what: str, limit: int) -> None:
    """Check how many there are of something.

    Raises:
        TooLarge: Too many.
    """
    if count > limit:
        raise TooLarge(f"{count} {what} at once, at most {limit} are possible", limit=limit)


def check_attempt(task: str, attempt: int) -> None:
    """Check the name of an attempt.

    Raises:
        InvalidInput: It cannot be one.
    """
    if not is_uuid(task):
        raise InvalidInput(f"{task[:60]!r} is no UUID of a task", field="task")
    check_number(attempt, "attempt", 1, MAX_ATTEMPT)


def live_task(world: World, worker: str, uuid: str, attempt: int) -> Task:
    """Return the task of a live attempt.

    Raises:
        StaleAttempt: It is not the live one, or not this worker's.
    """
    state = world.tasks.get(uuid)
    if (
        state is None
        or state.state is not TaskState.RUNNING
        or (state.worker, state.attempt) != (worker, attempt)
    ):
        raise StaleAttempt(
            f"attempt {attempt} of task {uuid} is not live on worker {worker}", task=uuid
        )
    return state


def check_held(held: list[work.Held]) -> None:
    """Check what a worker says that it holds.

    Raises:
        TooLarge: More than a worker can hold. InvalidInput: One that cannot be.
    """
    check_count(len(held), "held attempts", MAX_HELD)
    for one in held:
        check_attempt(one.task, one.attempt)


def check_wanted(wanted: work.UploadWanted) -> None:
    """Check the wish for an upload.

    Raises:
        InvalidInput: An attempt or a size that cannot be.
    """
    check_attempt(wanted.task, wanted.attempt)
    check_number(wanted.size_bytes, "size in bytes", 0, MAX_SIZE_BYTES)


def check_report(report: work.TaskReport) -> None:
    """Check everything in a report that does not depend on the task.

    Raises:
        InvalidInput, TooLarge: Says what cannot be.
    """
    check_attempt(report.task, report.attempt)
    check_count(len(report.steps), "steps", MAX_STEPS)
    check_count(len(report.warnings), "warnings", MAX_WARNINGS_AT_ONCE)
    check_count(len(report.artifacts), "artifacts", len(ArtifactKind))
    for step in report.steps:
        check_number(step.age_seconds, "age of a step in seconds", 0, MAX_TIMEOUT_SECONDS)
    if report.exit is not None:
        check_number(report.exit.number, "exit code, signal or errno", 0, 2**31 - 1)
    for artifact in report.artifacts:
        _check_artifact(report, artifact)


def _check_artifact(report: work.TaskReport, artifact: work.StoredArtifact) -> None:
    check_number(artifact.size_bytes, "size in bytes", 0, MAX_SIZE_BYTES)
    check_sha256(artifact.sha256)
    name = artifact.object_name
    of_attempt = belongs_to_attempt(name, report.task, report.attempt)
    if not of_attempt or not name.endswith(f"/{artifact.kind.filename}"):
        raise InvalidInput(
            f"object {name[:100]!r} is not the {artifact.kind.value} of this attempt",
            field="object_name",
        )


def check_order(report: work.TaskReport, state: Task) -> None:
    """Check that a report does not end an attempt whose exit nobody has told.

    Raises:
        InvalidInput: It does.
    """
    if report.committed and report.exit is None and state.exit is None:
        raise InvalidInput(f"task {state.task} cannot be committed before its exit was reported")
