"""What `wait` and `submit --wait` print."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from mitosis.cli.exit_codes import DONE, FAILED, status_of_task
from mitosis.cli.output.screen import note, printable, show
from mitosis.contract.commands import Submitted
from mitosis.contract.queries import TaskView
from mitosis.domain.task import Outcome, TaskState


class WaitedTask(msgspec.Struct, frozen=True):
    """A task that was waited for. `exit_status`: what a wait for it alone ends with.

    `outcome`, `exit_status` and `ended_at` are null while it goes on: with --any and --fail-fast.
    """

    task: str
    group: str
    number: int
    state: TaskState
    outcome: Outcome | None
    exit_status: int | None
    reason: str
    ended_at: datetime | None


class Waited(msgspec.Struct, frozen=True):
    """How a wait ended; `tasks` in the order in which they were named or submitted."""

    total: int
    ended: int
    succeeded: int
    exit_status: int
    tasks: list[WaitedTask]


class SubmittedTask(Submitted):
    """What was submitted; with --wait also how it ended, else null."""

    ended: WaitedTask | None = None


def submitted_task(submitted: Submitted, view: TaskView | None = None) -> SubmittedTask:
    """Return what `submit` prints as JSON; `view`: the task after its end."""
    ended = None if view is None else waited_task(view)
    return SubmittedTask(**msgspec.structs.asdict(submitted), ended=ended)


def waited_task(view: TaskView) -> WaitedTask:
    """Return what is said of a task at the end of a wait."""
    status = status_of_task(view) if view.state.terminal else None
    return WaitedTask(
        view.uuid, view.group, view.number, view.state, view.outcome, status, view.reason,
        view.ended_at,
    )  # fmt: skip


def waited(views: Sequence[TaskView]) -> Waited:
    """Return how a wait ended, with its exit status: of the one task, or whether all succeeded."""
    tasks = [waited_task(view) for view in views]
    succeeded = sum(task.outcome is Outcome.SUCCEEDED for task in tasks)
    status = tasks[0].exit_status if len(tasks) == 1 else None
    if status is None:
        status = DONE if succeeded == len(tasks) else FAILED
    return Waited(
        len(tasks), sum(task.exit_status is not None for task in tasks), succeeded, status, tasks
    )


def show_waited(result: Waited) -> int:
    """Print how a wait ended; return its exit status."""
    show(result, lambda: map(waited_line, result.tasks))
    if result.total > 1:
        failed, going_on = result.ended - result.succeeded, result.total - result.ended
        note(
            f"{result.succeeded} of {result.total} tasks succeeded"
            + (f", {failed} did not" if failed else "")
            + (f", {going_on} go on" if going_on else "")
        )
    return result.exit_status


def waited_line(task: WaitedTask) -> str:
    """Return `UUID outcome exit-status reason`."""
    if task.outcome is None:
        return f"{task.task} {task.state.value}"
    reason = f" {printable(task.reason)}" if task.reason else ""
    return f"{task.task} {task.outcome.value} {task.exit_status}{reason}"
