"""Reads of tasks and artifacts. One statement for what has to fit together."""

from typing import LiteralString

import msgspec

from mitosis.contract.output import TaskRunner
from mitosis.contract.queries import GetArtifact, ListTasks, TaskPage, TaskView
from mitosis.errors import InvalidInput, NotFound
from mitosis.projections.naming import MAX_CANDIDATES, task_number, uuid_range
from mitosis.projections.postgres import Reader, fetch_value
from mitosis.projections.rows import ArtifactRow
from mitosis.projections.task_pages import check_filters, find_page
from mitosis.projections.viewer import VISIBLE, Viewer, check_group

# A reply has to fit into one message of 1 MiB; a longer page ends earlier.
MAX_PAGE_BYTES = 900 * 1024
SMALLEST_VIEW_BYTES = 600  # names of keys alone have more
MOST_VIEWS = MAX_PAGE_BYTES // SMALLEST_VIEW_BYTES + 1
"""On one page."""

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
    check_filters(wanted, group)
    await check_group(connection, viewer, group)
    page = await find_page(connection, wanted, group)
    if wanted.count_only or not page.total:
        return TaskPage([], page.total, page.counts)
    found = await connection.execute(
        "SELECT body FROM (SELECT body, sum(octet_length(body)) OVER newest AS size,"
        "  row_number() OVER newest AS place FROM (SELECT to_json(v)::text AS body, v.number"
        f"   FROM ({_VIEW} WHERE {page.where} ORDER BY t.number DESC"
        "          OFFSET %(offset)s LIMIT %(limit)s) v) bodies"
        " WINDOW newest AS (ORDER BY number DESC)) sized"
        " WHERE place = 1 OR size <= %(bytes)s ORDER BY place DESC",
        {**page.args, **viewer.scope, "bytes": MAX_PAGE_BYTES},
    )
    tasks = [_decode_view(row[0]) for row in await found.fetchall()]
    return TaskPage(tasks, page.total, page.counts)


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
