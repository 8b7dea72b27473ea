"""Reads of tasks and artifacts. One statement for what has to fit together."""

from typing import Any, LiteralString

import msgspec

from mitosis.contract.output import TaskRunner
from mitosis.contract.queries import GetArtifact, ListTasks, TaskPage, TaskView
from mitosis.domain.comparison import Operator, parse_comparison
from mitosis.domain.limits import MAX_PAGE, MAX_TAG_BYTES, MAX_TAGS, check_number, check_text
from mitosis.domain.names import check_name, check_uuid
from mitosis.domain.task import TaskState, check_state
from mitosis.errors import InvalidInput, NotFound, TooLarge
from mitosis.projections.naming import MAX_CANDIDATES, task_number, uuid_range
from mitosis.projections.postgres import Reader, fetch_value
from mitosis.projections.rows import ArtifactRow
from mitosis.projections.viewer import VISIBLE, Viewer, check_group

# A reply has to fit into one message of 1 MiB; a longer page ends earlier.
MAX_PAGE_BYTES = 900 * 1024
SMALLEST_VIEW_BYTES = 600  # names of keys alone have more

# Of the past only up to its position, which is a setting of the transaction then.
_UP_TO: LiteralString = (
    "coalesce(nullif(current_setting('mito.position', true), '')::bigint, 9223372036854775807)"
)
_VIEW: LiteralString = f"""
    SELECT t.uuid, t.number, t.group_name AS "group", t.creator, t.state, t.outcome, t.reason,
        (SELECT spec FROM task_specs WHERE task = t.uuid) AS spec, t.labels, t.attempt, t.losses,
        t.worker, t.created_at, t.updated_at, t.started_at, t.ended_at, t.cancel_requested,
        t.steps, t.exit, t.warnings, t.retries, t.retry_at, t.former_attempts, t.rerun_of,
        (SELECT coalesce(json_agg(again.uuid ORDER BY again.created_position), '[]')
         FROM (SELECT uuid, created_position FROM views.tasks
               WHERE rerun_of = t.uuid AND created_position <= {_UP_TO} AND {VISIBLE}
               ORDER BY created_position DESC LIMIT 32) again) AS reruns,
        (SELECT coalesce(json_agg(json_build_object('kind', a.kind, 'size_bytes', a.size_bytes,
            'sha256', a.sha256, 'created_at', a.created_at, 'updated_at', a.updated_at)
            ORDER BY a.created_at, a.kind), '[]')
         FROM artifacts a WHERE a.task = t.uuid) AS artifacts
    FROM tasks t
"""
# What can stand in SQL for an operator of a filter.
_OPERATORS: dict[Operator, LiteralString] = {
    Operator.EQUAL: "=",
    Operator.UNEQUAL: "<>",
    Operator.BELOW: "<",
    Operator.AT_MOST: "<=",
    Operator.ABOVE: ">",
    Operator.AT_LEAST: ">=",
}
# Filters that the counters of whole groups know nothing of.
_UNCOUNTED = ("creators", "tags", "labels", "outcomes", "uuids", "exit_status", "priority")

_decode_view = msgspec.json.Decoder(TaskView).decode
_decode_runner = msgspec.json.Decoder(TaskRunner).decode
_decode_artifact = msgspec.json.Decoder(ArtifactRow).decode


async def find_task(connection: Reader, viewer: Viewer, name: str) -> str:
    """Return the UUID of the task that a full or short name means for the viewer.

    Raises:
        NotFound: None that the viewer may see. NotAllowed: A group without a role in it.
        InvalidInput: Malformed, or several tasks begin so; `details["candidates"]` lists them.
    """
    numbered = task_number(name)
    if numbered is not None:
        return await _find_numbered(connection, viewer, *numbered)
    if name == "last":
        return await _find_last(connection, viewer)
    low, high = uuid_range(name, "task")
    found = await connection.execute(
        "SELECT uuid::text FROM tasks WHERE uuid BETWEEN %(low)s AND %(high)s AND "
        + VISIBLE
        + " ORDER BY uuid LIMIT %(limit)s",
        {"low": low, "high": high, "limit": MAX_CANDIDATES + 1, **viewer.scope},
    )
    return only_one([row[0] for row in await found.fetchall()], name, "task")


def only_one(uuids: list[str], name: str, what: str) -> str:
    """Return the only candidate for a name.

    Raises:
        NotFound: There is none. InvalidInput: There are several.
    """
    if not uuids:
        raise NotFound(f"there is no {what} {name!r}, or none that you may see", name=name)
    if len(uuids) > 1:
        more = ", ..." if len(uuids) > MAX_CANDIDATES else ""
        candidates = uuids[:MAX_CANDIDATES]
        raise InvalidInput(
            f"{name!r} is the beginning of several {what}s: give more of one of "
            f"{', '.join(candidates)}{more}",
            candidates=candidates,
        )
    return uuids[0]


async def _find_numbered(connection: Reader, viewer: Viewer, group: str, number: int) -> str:
    await check_group(connection, viewer, group)
    task: str | None = await fetch_value(
        connection,
        "SELECT uuid::text FROM tasks WHERE group_name = %s AND number = %s",
        group,
        number,
    )
    if task is None:
        raise NotFound(f"there is no task {group}#{number}", name=f"{group}#{number}")
    return task


async def _find_last(connection: Reader, viewer: Viewer) -> str:
    task: str | None = await fetch_value(
        connection,
        "SELECT uuid::text FROM tasks WHERE creator = %s ORDER BY created_position DESC LIMIT 1",
        viewer.name,
    )
    if task is None:
        raise NotFound("you have not submitted a task yet", name="last")
    return task


async def get_task(connection: Reader, viewer: Viewer, name: str) -> TaskView:
    """Return one task. Raises what `find_task` raises."""
    uuid = await find_task(connection, viewer, name)
    found = await connection.execute(
        f"SELECT to_json(v)::text FROM ({_VIEW} WHERE t.uuid = %(uuid)s) v",
        {"uuid": uuid, **viewer.scope},
    )
    row = await found.fetchone()
    return _decode_view(row[0] if row else b"")


async def get_runner(connection: Reader, viewer: Viewer, task: str) -> TaskRunner:
    """Return who runs a task. Raises what `find_task` raises."""
    uuid = await find_task(connection, viewer, task)
    text = await fetch_value(
        connection,
        "SELECT json_build_object('task', uuid, 'group', group_name, 'state', state,"
        " 'attempt', attempt, 'worker', worker)::text FROM tasks WHERE uuid = %s",
        uuid,
    )
    return _decode_runner(text)


async def get_artifact(connection: Reader, viewer: Viewer, wanted: GetArtifact) -> ArtifactRow:
    """Return what is known of an artifact, with the name of its object.

    Raises:
        NotFound: No such task, or it has no such artifact. And what `find_task` raises.
    """
    uuid = await find_task(connection, viewer, wanted.task)
    text = await fetch_value(
        connection,
        "SELECT row_to_json(a)::text FROM artifacts a WHERE task = %s AND kind = %s",
        uuid,
        wanted.kind.value,
    )
    if text is None:
        raise NotFound(f"task {uuid} has no artifact {wanted.kind}", task=uuid)
    return _decode_artifact(text)


async def list_tasks(connection: Reader, viewer: Viewer, wanted: ListTasks) -> TaskPage:
    """Return the newest tasks that match, oldest of them first, with counts of all that match.

    A page may be shorter than `limit` since it has to fit into one message; go on with `before`
    as the number of its first task. The counts do not depend on the page.

    Raises:
        InvalidInput: A filter that cannot be. NotFound, NotAllowed: The group.
    """
    group = wanted.group or viewer.name
    _check(wanted, group)
    await check_group(connection, viewer, group)
    where, args = _conditions(wanted, group)
    counts = await _count(connection, wanted, group, where, args)
    if wanted.count_only:
        return TaskPage([], sum(counts.values()), counts)
    where, args = _behind(wanted, where, args)
    found = await connection.execute(
        "SELECT body FROM (SELECT body, sum(octet_length(body)) OVER newest AS size,"
        "  row_number() OVER newest AS place FROM (SELECT to_json(v)::text AS body, v.number"
        f"   FROM ({_VIEW} WHERE {where} ORDER BY t.number DESC"
        "          OFFSET %(offset)s LIMIT %(limit)s) v) bodies"
        " WINDOW newest AS (ORDER BY number DESC)) sized"
        " WHERE place = 1 OR size <= %(bytes)s ORDER BY place DESC",
        {**args, **viewer.scope, "limit": wanted.limit, "bytes": MAX_PAGE_BYTES},
    )
    tasks = [_decode_view(row[0]) for row in await found.fetchall()]
    return TaskPage(tasks, sum(counts.values()), counts)


async def page_of(connection: Reader, wanted: ListTasks, group: str) -> list[str]:
    """Return the UUIDs of all tasks that `list_tasks` can have room for on a page.

    Raises:
        InvalidInput: A filter that cannot be.
    """
    _check(wanted, group)
    if wanted.count_only:
        return []
    where, args = _behind(wanted, *_conditions(wanted, group))
    found = await connection.execute(
        f"SELECT t.uuid::text FROM tasks t WHERE {where} ORDER BY t.number DESC"
        " OFFSET %(offset)s LIMIT %(limit)s",
        {**args, "limit": min(wanted.limit, MAX_PAGE_BYTES // SMALLEST_VIEW_BYTES + 1)},
    )
    return [row[0] for row in await found.fetchall()]


def _behind(
    wanted: ListTasks, where: LiteralString, args: dict[str, Any]
) -> tuple[LiteralString, dict[str, Any]]:
    """Add where a page begins to the conditions of a list."""
    args = {**args, "offset": wanted.offset}
    if not wanted.before:
        return where, args
    return where + " AND t.number < %(before)s", {**args, "before": wanted.before}


def sized_page(view: LiteralString, order: LiteralString) -> LiteralString:
    """Return the statement for the first rows of a view that fit into one message, one at least.

    Args:
        view: A SELECT with the order, limit and offset of the page, and a column `place`.
        order: The order by `place`: `ASC` or `DESC`.
    """
    return (
        "SELECT body FROM (SELECT body, sum(octet_length(body)) OVER page AS size,"
        "  row_number() OVER page AS number"
        f" FROM (SELECT to_json(v)::text AS body, v.place FROM ({view}) v) bodies"
        f" WINDOW page AS (ORDER BY place {order})) sized"
        f" WHERE number = 1 OR size <= {MAX_PAGE_BYTES} ORDER BY number"
    )


def _check(wanted: ListTasks, group: str) -> None:
    check_name(group, "group")
    check_page(wanted.limit, wanted.offset)
    check_number(wanted.before, "before", 0, 2**62)
    for field in ("tags", "labels", "creators", "states"):
        asked = getattr(wanted, field)
        if len(asked) > MAX_TAGS:
            raise TooLarge(f"at most {MAX_TAGS} {field} can be asked for", limit=MAX_TAGS)
        for text in asked:
            check_text(text, field, MAX_TAG_BYTES)
    if len(wanted.uuids) > MAX_PAGE:
        raise TooLarge(f"at most {MAX_PAGE} UUIDs can be asked for", limit=MAX_PAGE)


def check_page(limit: int, offset: int) -> None:
    """Check the bounds of a page.

    Raises:
        InvalidInput: Out of bounds.
    """
    check_number(limit, "limit", 1, MAX_PAGE)
    check_number(offset, "offset", 0, 2**62)


def _conditions(wanted: ListTasks, group: str) -> tuple[LiteralString, dict[str, Any]]:
    parts: list[LiteralString] = ["t.group_name = %(group)s"]
    args: dict[str, Any] = {"group": group}
    if wanted.creators:
        parts.append("t.creator = ANY(%(creators)s)")
    if wanted.tags:
        parts.append("t.tags <> '{}' AND t.tags @> %(tags)s::text[]")  # '{}': as in the index
    if wanted.labels:
        parts.append("t.labels <> '{}' AND t.labels @> %(labels)s::text[]")
    if wanted.states:
        parts.append("t.state = ANY(%(states)s)")
    if wanted.outcomes:
        parts.append("t.outcome = ANY(%(outcomes)s)")
    if wanted.uuids:
        parts.append("t.uuid = ANY(%(uuids)s::uuid[])")
    if wanted.exit_status:
        exit_status = parse_comparison(wanted.exit_status, "the exit status")
        parts.append(
            "t.exit->>'kind' = 'code' AND coalesce((t.exit->>'number')::bigint, 0) "
            + _OPERATORS[exit_status.operator]
            + " %(exit_status)s"
        )
        args["exit_status"] = exit_status.number
    if wanted.priority:
        priority = parse_comparison(wanted.priority, "the priority")
        parts.append(
            "EXISTS (SELECT FROM task_specs p WHERE p.task = t.uuid"
            " AND coalesce((p.spec->>'priority')::bigint, 0) "
            + _OPERATORS[priority.operator]
            + " %(priority)s)"
        )
        args["priority"] = priority.number
    args |= {
        "creators": [check_name(name, "user") for name in wanted.creators],
        "tags": list(wanted.tags),
        "labels": list(wanted.labels),
        "states": [check_state(state) for state in wanted.states],
        "outcomes": [outcome.value for outcome in wanted.outcomes],
        "uuids": [check_uuid(uuid, "task") for uuid in wanted.uuids],
    }
    return " AND ".join(parts), args


async def _count(
    connection: Reader,
    wanted: ListTasks,
    group: str,
    where: LiteralString,
    args: dict[str, Any],
) -> dict[str, int]:
    """Count all that match by state; whole groups have their counters."""
    counts = {state.value: 0 for state in TaskState}
    if any(getattr(wanted, field) for field in _UNCOUNTED):
        found = await connection.execute(
            f"SELECT t.state, count(*) FROM tasks t WHERE {where} GROUP BY t.state", args
        )
        return counts | dict(await found.fetchall())
    found = await connection.execute(
        "SELECT pending, ready, running, finished, cancelled FROM group_usage"
        " WHERE group_name = %s",
        (group,),
    )
    used = await found.fetchone()
    asked = set(wanted.states) or set(counts)
    stored = dict(zip(counts, used, strict=True)) if used else counts
    return {state: stored[state] if state in asked else 0 for state in counts}
