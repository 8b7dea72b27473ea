"""What a wait is called when a person reads it; nothing of groups that the reader does not see."""

from datetime import UTC

from mitosis.contract.queries import TaskView
from mitosis.domain.waits import Cause, Unfit, Wait
from mitosis.projections.viewer import Viewer


def words(wait: Wait, task: TaskView, viewer: Viewer, watched: str = "") -> str:
    """Say what a task waits for.

    Args:
        wait: Which wait.
        task: The task as it is now.
        viewer: Who reads it.
        watched: Where the other task is that it waits for just now; empty: not to be told.
    """
    again = f" (after attempt {wait.attempt - 1}: {wait.after})" if wait.after else ""
    return _cause(wait, task, viewer, watched) + ("" if wait.cause is Cause.RETRY else again)


def _cause(wait: Wait, task: TaskView, viewer: Viewer, watched: str) -> str:
    match wait.cause:
        case Cause.WATCH if wait.watch is not None:
            now = f" (it is {watched})" if watched else ""
            return f"task {wait.watch.task} has to reach {wait.watch.state}{now}"
        case Cause.RETRY:
            at = wait.retry_at and wait.retry_at.astimezone(UTC).isoformat(timespec="seconds")
            return f"it runs again at {at}: attempt {wait.attempt - 1} has failed ({wait.after})"
        case Cause.NO_WORKER:
            return _no_worker(wait, task)
        case Cause.PAUSED:
            return f"{_workers(wait)} paused or draining"
        case Cause.BUSY:
            return f"{_workers(wait)} busy{_load(wait, viewer)}"
        case _:
            return (
                "a worker that may run it had a free slot, but could not be reached, or the "
                "platform was away"
            )


def _workers(wait: Wait) -> str:
    if wait.able == 1:
        return "the one worker that may run it was"
    return f"all {wait.able} workers that may run it were"


def _no_worker(wait: Wait, task: TaskView) -> str:
    if not wait.serving:
        return f"no worker gave group {task.group} Write, which it needs"
    tags = ", ".join(task.spec.tags)
    has = f"all among its tags ({tags})" if tags else "none, since it has none itself"
    limits = ", and ceilings that allow its limits" if task.spec.limits.texts() else ""
    count = f"{wait.serving} workers serve" if wait.serving > 1 else "1 worker serves"
    why = "; ".join(map(_unfit, wait.unfit))
    return (
        f"{count} group {task.group}, and none might run it: it needs one whose tags are empty or "
        f"{has}{limits} ({why}{'; ...' if wait.serving > len(wait.unfit) else ''})"
    )


def _unfit(one: Unfit) -> str:
    if one.tags:
        return f"worker {one.worker} has the tags {', '.join(one.tags)} too"
    return f"worker {one.worker} has lower ceilings"


def _load(wait: Wait, viewer: Viewer) -> str:
    parts = []
    if wait.busy:
        parts.append(f"with {_of_groups(wait.busy, viewer)}")
    if wait.before:
        parts.append(f"and {_of_groups(wait.before, viewer)} came before it")
    return f" {', '.join(parts)}" if parts else ""


def _of_groups(counts: dict[str, int], viewer: Viewer) -> str:
    """Count tasks by group, as far as the viewer sees the groups."""
    seen = {group: count for group, count in sorted(counts.items()) if viewer.sees(group)}
    parts = [f"{count} task{'' if count == 1 else 's'} of {group}" for group, count in seen.items()]
    if len(seen) < len(counts):
        parts.append("tasks of other groups" if parts else "other groups")
    return " and ".join(parts)
