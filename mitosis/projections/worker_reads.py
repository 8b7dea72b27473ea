"""Reads of workers.

A worker is seen by its owner, by platform admins, and by those with a role in a group that has a
role on it; the last see only what concerns their groups: its roles and tasks of others stay out.
"""

from typing import LiteralString

import msgspec

from mitosis.contract.queries import ListWorkers, WorkerPage, WorkerView
from mitosis.domain.limits import check_tags
from mitosis.domain.names import check_name
from mitosis.domain.roles import Role
from mitosis.projections.naming import MAX_CANDIDATES, uuid_range
from mitosis.projections.postgres import Reader
from mitosis.projections.task_pages import check_page
from mitosis.projections.task_reads import only_one, sized_page
from mitosis.projections.viewer import VISIBLE, Viewer, check_group

_SEEN: LiteralString = (
    "(%(sees_all)s OR w.owner = %(viewer)s OR EXISTS (SELECT 1 FROM worker_roles"
    " WHERE worker = w.uuid AND group_name = ANY(%(own_groups)s)))"
)
_ITS: LiteralString = f"(w.owner = %(viewer)s OR {VISIBLE})"
_VIEW: LiteralString = f"""
    SELECT w.uuid, w.owner, w.state, w.tags, w.labels, w.slots, w.host, w.version, w.created_at,
        w.updated_at, w.reason, w.guarantees, w.default_limits, w.ceilings,
        w.created_position AS place,
        (SELECT coalesce(json_object_agg(group_name, role ORDER BY group_name), '{{}}')
         FROM worker_roles WHERE worker = w.uuid AND {_ITS}) AS roles,
        (SELECT coalesce(json_agg(uuid ORDER BY created_position), '[]') FROM tasks
         WHERE worker = w.uuid AND state = 'running' AND {_ITS}) AS tasks
    FROM workers w
"""
_decode_view = msgspec.json.Decoder(WorkerView).decode


def _scope(viewer: Viewer) -> dict[str, object]:
    return {"viewer": viewer.name, **viewer.scope}


async def find_worker(connection: Reader, viewer: Viewer, name: str) -> str:
    """Return the UUID of the worker that it, or a unique beginning of it, means for the viewer.

    Raises:
        NotFound: None that the viewer may see.
        InvalidInput: Malformed, or several workers begin so.
    """
    low, high = uuid_range(name, "worker")
    found = await connection.execute(
        "SELECT uuid::text FROM workers w WHERE uuid BETWEEN %(low)s AND %(high)s AND "
        + _SEEN
        + " ORDER BY uuid LIMIT %(limit)s",
        {"low": low, "high": high, "limit": MAX_CANDIDATES + 1, **_scope(viewer)},
    )
    return only_one([row[0] for row in await found.fetchall()], name, "worker")


async def get_worker(connection: Reader, viewer: Viewer, name: str) -> WorkerView:
    """Return one worker. Raises what `find_worker` raises."""
    uuid = await find_worker(connection, viewer, name)
    found = await connection.execute(
        f"SELECT to_json(v)::text FROM ({_VIEW} WHERE w.uuid = %(uuid)s) v",
        {"uuid": uuid, **_scope(viewer)},
    )
    row = await found.fetchone()
    return _decode_view(row[0] if row else b"")


async def list_workers(connection: Reader, viewer: Viewer, wanted: ListWorkers) -> WorkerPage:
    """Return workers on which a group has a role, the oldest first.

    A page may be shorter than `limit` since it has to fit into one message; go on with `offset`.

    Raises:
        InvalidInput: A filter that cannot be. NotFound, NotAllowed: The group.
    """
    group = check_name(wanted.group or viewer.name, "group")
    check_page(wanted.limit, wanted.offset)
    if wanted.creator:
        check_name(wanted.creator, "user")
    tags, labels = check_tags(wanted.tags, "tags"), check_tags(wanted.labels, "labels")
    await check_group(connection, viewer, group)
    where: LiteralString = (
        "EXISTS (SELECT 1 FROM worker_roles WHERE worker = w.uuid"
        " AND group_name = %(group)s AND role = ANY(%(roles)s::smallint[]))"
        " AND w.tags @> %(tags)s::text[] AND w.labels @> %(labels)s::text[]"
        " AND (%(creator)s = '' OR w.owner = %(creator)s)"
        " AND (%(all)s OR w.state <> 'gone')"
    )
    args = {
        "group": group,
        "roles": [int(role) for role in wanted.roles or Role],
        "tags": list(tags),
        "labels": list(labels),
        "creator": wanted.creator,
        "all": wanted.all,
        "offset": wanted.offset,
        "limit": wanted.limit,
        **_scope(viewer),
    }
    counted = await connection.execute(f"SELECT count(*) FROM workers w WHERE {where}", args)
    total = await counted.fetchone()
    found = await connection.execute(
        sized_page(
            f"{_VIEW} WHERE {where} ORDER BY place DESC OFFSET %(offset)s LIMIT %(limit)s", "DESC"
        ),
        args,
    )
    newest_first = [_decode_view(row[0]) for row in await found.fetchall()]
    return WorkerPage(newest_first[::-1], total[0] if total else 0, group)
