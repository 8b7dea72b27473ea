"""Why a task waits: its history and that of what is around it, by the rules of dispatch."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import NamedTuple

from mitosis.contract.queries import Explanation, TaskView, WaitView
from mitosis.contract.subjects import place_of, tail_of
from mitosis.domain.explanation import TASK_EVENTS, Explainer, Fact
from mitosis.domain.roles import Role
from mitosis.domain.waits import Cause, Wait
from mitosis.events.catalogue import EVENTS, UPCASTERS, decode_event
from mitosis.events.envelope import decode_commit
from mitosis.projections.explain_words import words
from mitosis.projections.postgres import Connection, fetch_value
from mitosis.projections.task_reads import get_task
from mitosis.projections.viewer import VISIBLE, Viewer

SHOWN_WAITS = 100
ROWS_AT_ONCE = 500

_NAMES = {event.TOPIC.partition("@")[0] for event in TASK_EVENTS}
_TOPICS = [topic for topic in (*EVENTS, *UPCASTERS) if topic.partition("@")[0] in _NAMES]
_OF_WORKERS = {Cause.NO_WORKER, Cause.PAUSED, Cause.BUSY, Cause.UNREACHABLE}


class Bounds(NamedTuple):
    """What one explanation may read: a projector answers others meanwhile, a read has 5 seconds.

    Beyond it, other tasks are left out, and that workers were busy follows from the rules.
    """

    workers: int = 1_000
    tasks: int = 10_000
    commits: int = 30_000
    bytes: int = 48 * 1024 * 1024


BOUNDS = Bounds()


class _Around(NamedTuple):
    """What a task may have waited for. `complete`: there is nothing else."""

    names: list[str]
    complete: bool


async def explain_task(
    connection: Connection, viewer: Viewer, name: str, bounds: Bounds = BOUNDS
) -> Explanation:
    """Return why a task waits, or has waited. Raises what `find_task` raises."""
    task = await get_task(connection, viewer, name)
    until = task.ended_at or await _now(connection)
    last = await _last_position(connection, task)
    waits = await _explained(connection, task, [], last, until, others_known=False)
    complete = True
    if any(wait.cause in _OF_WORKERS for wait in waits):
        workers, others = await _around(connection, task, last, bounds)
        complete = workers.complete and others.complete
        names = workers.names + others.names if others.complete else workers.names
        waits = await _explained(connection, task, names, last, until, others_known=others.complete)
    watched = await _watched_state(connection, viewer, waits, until, task)
    return _view(task, viewer, waits, until, watched, complete=complete)


async def _explained(
    connection: Connection,
    task: TaskView,
    around: list[str],
    last: int,
    until: datetime,
    *,
    others_known: bool,
) -> list[Wait]:
    explainer = Explainer(task.uuid, others_known=others_known)
    async for fact in _facts(connection, [task.uuid, *around], last):
        explainer.take(fact)
    return explainer.waits(until)


async def _facts(connection: Connection, names: list[str], last: int) -> AsyncIterator[Fact]:
    """Yield what was stored about tasks and workers, in order, without keeping it."""
    async with connection.cursor(name="explained") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        await cursor.execute(
            "SELECT position, a.subject, a.payload FROM views.commits c"
            " JOIN archive.commits a USING (position)"
            " WHERE c.name = ANY(%(names)s) AND c.position <= %(last)s"
            " AND (c.kind = 'worker' OR c.kind = 'task' AND c.topics && %(topics)s)"
            " ORDER BY position",
            {"names": names, "last": last, "topics": _TOPICS},
        )
        async for position, subject, payload in cursor:
            commit = decode_commit(subject, bytes(payload), position)
            kind, _, name = place_of(tail_of(subject))
            events = [
                decode_event(topic, body)
                for topic, body in commit.events
                if kind == "worker" or topic in _TOPICS
            ]
            yield Fact(position, commit.time, kind, name, events)


async def _around(
    connection: Connection, task: TaskView, last: int, bounds: Bounds
) -> tuple[_Around, _Around]:
    """Return the workers of its time, those that serve its group first, and the other tasks."""
    found = await connection.execute(
        "SELECT uuid::text FROM views.workers w WHERE created_position <= %(last)s"
        " AND (state <> 'gone' OR updated_at >= %(since)s) ORDER BY EXISTS (SELECT"
        "  FROM views.worker_roles WHERE worker = w.uuid AND group_name = %(group)s) DESC,"
        "  created_position DESC LIMIT %(limit)s",
        {
            "last": last, "since": task.created_at, "group": task.group,
            "limit": bounds.workers + 1,
        },
    )  # fmt: skip
    workers = [row[0] for row in await found.fetchall()]
    found = await connection.execute(
        "SELECT uuid::text FROM views.tasks WHERE created_position <= %(last)s"
        " AND (ended_at IS NULL OR ended_at >= %(since)s) AND uuid <> %(own)s"
        " AND group_name IN (SELECT group_name FROM views.worker_roles"
        "  WHERE worker = ANY(%(workers)s::uuid[]) AND role >= %(write)s) LIMIT %(limit)s",
        {
            "last": last, "since": task.created_at, "own": task.uuid, "workers": workers,
            "write": int(Role.WRITE), "limit": bounds.tasks + 1,
        },
    )  # fmt: skip
    others = [row[0] for row in await found.fetchall()]
    return (
        _Around(workers[: bounds.workers], len(workers) <= bounds.workers),
        _Around(
            others, len(others) <= bounds.tasks and await _fits(connection, others, last, bounds)
        ),
    )


async def _fits(connection: Connection, names: list[str], last: int, bounds: Bounds) -> bool:
    """Whether all that was stored about tasks may be read."""
    found = await connection.execute(
        "SELECT count(*), coalesce(sum(length(a.payload)), 0) FROM views.commits c"
        " JOIN archive.commits a USING (position)"
        " WHERE c.name = ANY(%s) AND c.kind = 'task' AND c.position <= %s AND c.topics && %s",
        (names, last, _TOPICS),
    )
    row = await found.fetchone()
    return row is not None and row[0] <= bounds.commits and row[1] <= bounds.bytes


async def _last_position(connection: Connection, task: TaskView) -> int:
    """Return the position of the end of a task, or that of the read models."""
    if task.ended_at is None:
        return int(await fetch_value(connection, "SELECT max(position) FROM views.position"))
    return int(
        await fetch_value(
            connection,
            "SELECT max(position) FROM views.commits WHERE name = %s AND kind = 'task'"
            " AND topics && %s",
            task.uuid,
            _TOPICS,
        )
    )


async def _now(connection: Connection) -> datetime:
    now: datetime = await fetch_value(connection, "SELECT now()")
    return now.astimezone(UTC)


async def _watched_state(
    connection: Connection, viewer: Viewer, waits: list[Wait], until: datetime, task: TaskView
) -> str:
    """Say where the task is that is waited for just now, if the viewer may see it."""
    last = waits[-1] if waits else None
    if task.ended_at is not None or last is None or last.watch is None or last.ended != until:
        return ""
    found = await connection.execute(
        f"SELECT state, steps->-1->>0 FROM views.tasks WHERE uuid = %(uuid)s AND {VISIBLE}",
        {"uuid": last.watch.task, **viewer.scope},
    )
    row = await found.fetchone()
    if row is None:
        return ""
    return f"{row[0]}, {row[1]}" if row[1] else str(row[0])


def _view(
    task: TaskView,
    viewer: Viewer,
    waits: list[Wait],
    until: datetime,
    watched: str,
    *,
    complete: bool,
) -> Explanation:
    sums: dict[str, float] = {}
    for wait in waits:
        sums[wait.cause.value] = sums.get(wait.cause.value, 0.0) + wait.seconds
    shown = waits[-SHOWN_WAITS:]
    return Explanation(
        task=task.uuid,
        number=task.number,
        group=task.group,
        state=task.state,
        outcome=task.outcome,
        until=until,
        waits=[
            WaitView(
                wait.cause, words(wait, task, viewer, watched if wait is shown[-1] else ""),
                wait.began, wait.ended, wait.seconds, wait.attempt,
            )
            for wait in shown
        ],
        seconds_by_cause=sums,
        waiting_seconds=sum(sums.values()),
        complete=complete,
    )  # fmt: skip
