"""What a worker ran, and with which tags, read from the history."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime

import msgspec

from mitosis.client.events import Events
from mitosis.config.client import GetEventsArgs
from mitosis.contract.queries import CommitView

_TAGS = ("worker.registered", "worker.tags_replaced")
_GOES_ON = ("task.started", "task.progressed", "task.exited")
_ENDS = ("task.committed", "task.cancelled", "task.requeued", "task.retry_scheduled")


class WorkerRun(msgspec.Struct, frozen=True):
    """One attempt of a task on a worker, as the worker told it.

    Attributes:
        task, group, attempt: Which.
        position, began_at: Where in the history, and when, the worker was first heard about it.
        ended_at: When it was over; null: the worker has told nothing of an end.
        tags: All that the worker had meanwhile, each set of them once, in order.
    """

    task: str
    group: str
    attempt: int
    position: int
    began_at: datetime
    ended_at: datetime | None
    tags: tuple[tuple[str, ...], ...]


async def worker_runs(
    events: Events, worker: str, tags: Collection[str] = ()
) -> AsyncIterator[WorkerRun]:
    """Yield what a worker ran, in the order of the ends; see `MitoClient.worker_runs`."""
    wanted = GetEventsArgs(kind="worker", name=worker, events=_TAGS)
    changes = [commit async for commit in events.each(wanted)]
    uuid = changes[0].name
    sets = [(commit.position, _tags_of(commit)) for commit in changes]
    running: dict[str, WorkerRun] = {}
    told = GetEventsArgs(kind="task", actor=f"worker:{uuid}")
    async for commit in events.each(told):
        run, over = _follow(running.get(commit.name), commit, uuid)
        if run is None:
            continue
        running[commit.name] = run
        if over:
            del running[commit.name]
            ended = _with_tags(run, sets, commit)
            if _had(ended, tags):
                yield ended
    for run in running.values():
        unended = _with_tags(run, sets, None)
        if _had(unended, tags):
            yield unended


def _follow(
    run: WorkerRun | None, commit: CommitView, worker: str
) -> tuple[WorkerRun | None, bool]:
    """Return the run after a commit of its task, and whether it is over."""
    over = False
    for event in commit.events:
        name, attempt = event.event.partition("@")[0], int(event.data.get("attempt", 0))
        begins = name in _GOES_ON or (
            name == "task.assigned" and event.data.get("worker") == worker
        )
        if begins and (run is None or run.attempt != attempt):
            run = WorkerRun(
                commit.name, commit.group, attempt, commit.position, commit.time, None, ()
            )
        over = over or (run is not None and name in _ENDS)
    return run, over


def _with_tags(
    run: WorkerRun, sets: list[tuple[int, tuple[str, ...]]], last: CommitView | None
) -> WorkerRun:
    before = [tags for position, tags in sets if position <= run.position][-1:]
    during = [
        tags
        for position, tags in sets
        if position > run.position and (last is None or position < last.position)
    ]
    return msgspec.structs.replace(
        run, ended_at=None if last is None else last.time, tags=tuple(before + during)
    )


def _had(run: WorkerRun, tags: Collection[str]) -> bool:
    return any(set(tags) <= set(had) for had in run.tags)


def _tags_of(commit: CommitView) -> tuple[str, ...]:
    last = [event for event in commit.events if event.event.partition("@")[0] in _TAGS][-1]
    return tuple(last.data.get("tags", ()))
