"""`wait`, and the waiting of `submit --wait`."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.exit_codes import status_of_task
from mitosis.cli.invocation import UsageError, current
from mitosis.cli.output.progress import counting
from mitosis.cli.output.screen import note, show
from mitosis.cli.output.streams import flush
from mitosis.cli.parameters import Flag, Group, Labels, OptionalDuration, Tags
from mitosis.cli.running import with_client
from mitosis.cli.tasks import Creators, Outcomes, States, one, read_exit_status, read_priority
from mitosis.config.client import GetTasksArgs, WaitUntil

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient
    from mitosis.client.waiting import WaitProgress
    from mitosis.contract.commands import Submitted
    from mitosis.contract.queries import TaskView

MAX_SHOWN = 50  # tasks that are named after an interruption


def wait(
    *tasks: str,
    any_: Annotated[bool, Parameter(name="--any", negative=())] = False,
    fail_fast: Flag = False,
    timeout: OptionalDuration = None,
    creators: Creators = (),
    group: Group = "",
    tags: Tags = (),
    labels: Labels = (),
    state: States = (),
    outcome: Outcomes = (),
    exit_status: Annotated[str, one(read_exit_status, "--exit-status", "-e")] = "",
    priority: Annotated[str, one(read_priority, "--priority", "-p")] = "",
) -> int:
    """Wait for the end of tasks, and end with the exit status of the task.

    Of several tasks the exit status is 0 if all succeeded, else 1. Without UUIDs and filters it
    waits for all tasks of the group that have not ended.

    Args:
        tasks: The UUIDs of the tasks, unique prefixes of them, `last`, GROUP#NUMBER, or
            GROUP#FIRST-LAST.
        any_: Wait for the first one that ends, and end with its exit status.
        fail_fast: End as soon as one has not succeeded; the others go on.
        timeout: How long to wait for all of them; over it the exit status is 6.
        creators: The username of the creator, or several.
        group: The group of the tasks; default: the user's own.
        tags: Tags that the tasks have, all of them.
        labels: Labels that the tasks have, all of them.
        state: One or more of pending, ready, running, finished, cancelled, unknown, as of now.
        outcome: One or more of succeeded, failed, timed_out, lost, cancelled, error.
        exit_status: A condition on the exit code, such as 3, '!=0' or '>=2'.
        priority: A condition on the priority, such as 5 or '<0'.
    """
    from mitosis.cli.output.waited import show_waited, waited

    if any_ and fail_fast:
        raise UsageError("--any and --fail-fast exclude each other")
    filters = GetTasksArgs(
        group=group, creators=creators, tags=tags, labels=labels, states=state, outcomes=outcome,
        exit_status=exit_status, priority=priority,
    )  # fmt: skip
    until = WaitUntil.ANY if any_ else WaitUntil.FAILURE if fail_fast else WaitUntil.ALL
    views = wait_for(chosen(tasks, filters), until, timeout)
    return show_waited(waited(views))


def chosen(tasks: tuple[str, ...], filters: GetTasksArgs) -> tuple[str, ...] | GetTasksArgs:
    """Return the tasks that are named, or else the filters.

    Raises:
        UsageError: Both are given.
    """
    from mitosis.client.waiting import OPEN

    if not tasks:
        given = filters != GetTasksArgs(group=filters.group)
        return filters if given else GetTasksArgs(group=filters.group, states=tuple(OPEN))
    if filters != GetTasksArgs():
        raise UsageError("UUIDs and filters exclude each other")
    return tuple(dict.fromkeys(tasks))


def wait_for(
    tasks: Sequence[str] | GetTasksArgs, until: WaitUntil, timeout: timedelta | None
) -> "Sequence[TaskView]":
    """Wait, and say after an interruption which tasks go on, and how to end them."""
    going_on = {} if isinstance(tasks, GetTasksArgs) else dict.fromkeys(tasks)
    looked = False

    def told(progress: "WaitProgress") -> None:
        nonlocal looked
        if not looked:
            going_on.clear()  # from here on by their UUIDs
            looked = True
        if progress.task.state.terminal:
            going_on.pop(progress.task.uuid, None)
        else:
            going_on[progress.task.uuid] = None
        show_progress(progress)

    async def run(client: "MitoClient") -> "Sequence[TaskView]":
        return await client.wait_for_tasks(tasks, timeout, until=until, progress=told)

    try:
        with counting("Waiting") as show_progress:
            return with_client(run, on_loop=True)
    except KeyboardInterrupt:
        say_going_on(list(going_on))
        raise


def wait_for_submitted(submitted: "Submitted", warn: Callable[[], None]) -> int:
    """Name a task that was submitted, wait for its end, and return its exit status."""
    from mitosis.cli.output.waited import submitted_task

    as_json = current.get().json
    if not as_json:
        show(submitted, lambda: [submitted.task])
        flush()  # it may take long, and this is what for
    warn()
    (view,) = wait_for((submitted.task,), WaitUntil.ALL, None)
    if as_json:
        show(submitted_task(submitted, view), list)
    return status_of_task(view)


def say_going_on(tasks: Sequence[str]) -> None:
    """Say of tasks that were waited for that they go on, and how they would be ended."""
    for uuid in tasks[:MAX_SHOWN]:
        note(f"The task goes on; to end it: mito client manage task {uuid} cancel")
    if len(tasks) > MAX_SHOWN:
        note(f"and {len(tasks) - MAX_SHOWN} more; they are among: mito client get tasks")
