"""`submit`, `get task`, `get tasks`, `manage task`."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.invocation import UsageError
from mitosis.cli.output.screen import complain, note, on_terminal, show
from mitosis.cli.parameters import (
    Duration,
    Envs,
    Flag,
    Group,
    Labels,
    Tags,
    choices,
    several,
)
from mitosis.cli.running import with_client
from mitosis.client.submits import to_request
from mitosis.config.client import DEFAULT_PAGE, GetTasksArgs, SubmitTaskArgs
from mitosis.domain.task import DEFAULT_TIMEOUT_SECONDS, Outcome, TaskState

if TYPE_CHECKING:
    from mitosis.contract.commands import Submitted
    from mitosis.contract.queries import TaskPage

DEFAULT_TIMEOUT = timedelta(seconds=DEFAULT_TIMEOUT_SECONDS)
States = Annotated[
    tuple[TaskState, ...], several("--state", "-s", read=choices(TaskState, "state"))
]
Outcomes = Annotated[tuple[Outcome, ...], several("--outcome", read=choices(Outcome, "outcome"))]


def submit(
    *command: str,
    group: Group = "",
    tags: Tags = (),
    labels: Labels = (),
    timeout: Duration = DEFAULT_TIMEOUT,
    priority: Annotated[int, Parameter(name=["--priority", "-p"])] = 0,
    envs: Envs = (),
    terminal: Flag = False,
    key: str = "",
) -> None:
    """Submit a task.

    Args:
        command: The command to run.
        group: The name of the group this task is submitted to; default: the user's own.
        tags: The tags of the task, used to filter workers to execute the task.
        labels: The labels of the task, used for querying tasks.
        timeout: The timeout of the task.
        priority: The priority of the task.
        envs: The environment variables to set, as NAME=VALUE.
        terminal: Whether to collect the terminal standard output and error of the executed task.
        key: Idempotency key: submitting again with the same key is the same task.
    """
    if not command:
        raise UsageError("there is no command to run: give it after --, as in submit -- echo hello")
    args = SubmitTaskArgs(
        command=command,
        group=group,
        tags=tags,
        labels=labels,
        timeout=timeout,
        priority=priority,
        envs=dict(pair.split("=", 1) for pair in envs),
        terminal=terminal,
        key=key,
    )
    to_request(args)  # what is wrong here need not be asked of the coordinator
    submitted = with_client(lambda client: client.submit_task(args))
    show(submitted, lambda: [submitted.task])
    _say_what_is_next(submitted, tags)


def get_task(task: str, /) -> None:
    """Get the info of a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
    """
    from mitosis.cli.output.texts import task_lines

    view = with_client(lambda client: client.get_task(task))
    show(view, lambda: task_lines(view))


def get_tasks(
    *,
    creator: Annotated[str, Parameter(name=["--creator", "-c"])] = "",
    group: Group = "",
    tags: Tags = (),
    labels: Labels = (),
    state: States = (),
    outcome: Outcomes = (),
    limit: int = DEFAULT_PAGE,
    offset: int = 0,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())] = False,
) -> None:
    """Query a list of tasks subject to the filter, newest last.

    Args:
        creator: The username of the creator.
        group: The group of the tasks; default: the user's own.
        tags: Tags that the tasks have, all of them.
        labels: Labels that the tasks have, all of them.
        state: One or more of pending, ready, running, finished, cancelled.
        outcome: One or more of succeeded, failed, timed_out, lost, cancelled, error.
        limit: How many at most.
        offset: How many of the newest to leave out.
        verbose: Everything about each of them.
    """
    from mitosis.cli.output.texts import counts_text, task_lines

    args = GetTasksArgs(
        group=group,
        creator=creator,
        tags=tags,
        labels=labels,
        states=state,
        outcomes=outcome,
        limit=limit,
        offset=offset,
    )
    page = with_client(lambda client: client.get_tasks(args))
    if on_terminal() and not verbose:
        _print_table(page)
    else:
        show(
            page,
            lambda: [
                line
                for task in page.tasks
                for line in (task_lines(task, artifacts=False) if verbose else [task.uuid])
            ],
        )
    note(counts_text(page.total, len(page.tasks), page.counts))


def cancel_task(task: str, /, *, reason: str = "") -> None:
    """Cancel a task; a running one is stopped.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        reason: Why, for its record.
    """
    done = with_client(lambda client: client.cancel_task(task, reason))
    show(
        done,
        lambda: [f"Task {done.task} is {'cancelled' if done.ended else 'being stopped'}"],
    )


def _say_what_is_next(submitted: "Submitted", tags: tuple[str, ...]) -> None:
    if not submitted.runnable:
        complain(
            f"no registered worker can run {submitted.task} now: it needs a worker that gives "
            f"group {submitted.group} Write, and whose tags are empty or all among the task's "
            f"({', '.join(tags) or 'it has none'})"
        )
    if on_terminal():
        note(f"This is {submitted.group}#{submitted.number}. Next:")
        note(f"  mito client get task {submitted.task}")
        note(f"  mito client get artifact {submitted.task} result")
        note(f"  mito client manage task {submitted.task} cancel")


def _print_table(page: "TaskPage") -> None:
    from mitosis.cli.output.tables import print_table
    from mitosis.cli.output.texts import age, command_line, listed

    now = datetime.now(UTC)
    print_table(
        ("#", "UUID", "STATE", "OUTCOME", "CREATED", "LABELS", "COMMAND"),
        [
            (
                str(task.number),
                task.uuid,
                task.state.value,
                task.outcome.value if task.outcome else "",
                age(task.created_at, now),
                listed(task.labels) if task.labels else "",
                command_line(task.spec.argv),
            )
            for task in page.tasks
        ],
        whole=("#", "UUID", "STATE"),
    )
