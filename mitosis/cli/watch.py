"""`watch`: the states of tasks as they change."""

import contextlib
import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from mitosis.cli.exit_codes import DONE
from mitosis.cli.output.screen import printable, show
from mitosis.cli.parameters import Group, Labels, Moment, Tags
from mitosis.cli.running import with_client
from mitosis.cli.tasks import Creators, Outcomes, States
from mitosis.config.client import WatchTasksArgs

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient
    from mitosis.client.task_changes import TaskChange


def watch(
    *tasks: str,
    since: Moment = None,
    creators: Creators = (),
    group: Group = "",
    tags: Tags = (),
    labels: Labels = (),
    state: States = (),
    outcome: Outcomes = (),
) -> int:
    """Show the states of tasks as they change, and the execution states that they reach.

    With UUIDs it ends when all these tasks have ended; else it goes on until Ctrl-C. Each change is
    shown once, also over restarts of the platform and the sleep of this machine.

    Args:
        tasks: The UUIDs of the tasks, unique prefixes of them, `last`, GROUP#NUMBER, or
            GROUP#FIRST-LAST.
        since: Begin at this time or behind this position; default: now. Such as 4711, '2h ago',
            yesterday, '2026-11-20 14:05' or 2026-11-20T14:05:00Z.
        creators: The username of the creator, or several.
        group: The group of the tasks; default: the user's own.
        tags: Tags that the tasks have, all of them.
        labels: Labels that the tasks have, all of them.
        state: Only changes to one of pending, ready, running, finished, cancelled.
        outcome: Only ends as one of succeeded, failed, timed_out, lost, cancelled, error.
    """
    args = WatchTasksArgs(
        tasks=tasks, group=group, creators=creators, tags=tags, labels=labels, states=state,
        outcomes=outcome,
        after=since if isinstance(since, int) else None,
        since=since if isinstance(since, datetime) else None,
    )  # fmt: skip

    async def run(client: "MitoClient") -> None:
        async with contextlib.aclosing(client.watch_changes(args)) as changes:
            async for change in changes:
                show(change, partial(change_lines, change))
                sys.stdout.flush()

    with_client(run, on_loop=True)
    return DONE


def change_lines(change: "TaskChange") -> list[str]:
    """Return `TIME GROUP#NUMBER UUID STATE` and what there is to say about it."""
    time = change.time.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    place = f"{time}Z {change.group}#{change.number} {change.task}"
    if change.execution_state is not None:
        return [f"{place} {change.execution_state.value}"]
    said = [
        f"({change.outcome.value})" if change.outcome else "",
        f"attempt {change.attempt}" if change.attempt > 1 else "",
        f"on worker {change.worker}" if change.worker else "",
    ]
    reason = f": {printable(change.reason)}" if change.reason else ""
    return [f"{place} {' '.join(filter(None, [change.state.value, *said]))}{reason}"]
