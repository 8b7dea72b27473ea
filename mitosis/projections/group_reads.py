"""Reads of groups."""

import msgspec

from mitosis.contract.queries import GroupList, GroupView
from mitosis.domain.names import check_name
from mitosis.domain.roles import Role
from mitosis.projections.postgres import Reader, fetch_value
from mitosis.projections.viewer import ROLES, Viewer, check_group

_decode_list = msgspec.json.Decoder(GroupList).decode
_decode_group = msgspec.json.Decoder(GroupView).decode


async def list_groups(connection: Reader, viewer: Viewer) -> GroupList:
    """Return the groups in which the viewer has a role."""
    return _decode_list(
        await fetch_value(
            connection, f"SELECT json_build_object('groups', {ROLES})::text", viewer.name
        )
    )


async def get_group(connection: Reader, viewer: Viewer, name: str) -> GroupView:
    """Return one group; its members only for its Admins and for platform admins.

    A platform admin without a role in it is shown with Read, which is what they have.

    Raises:
        NotFound: No such group. NotAllowed: No role in it.
    """
    await check_group(connection, viewer, check_name(name, "group"))
    role = viewer.roles.get(name, Role.READ)
    text = await fetch_value(
        connection,
        "SELECT json_build_object('name', g.name, 'creator', g.creator, 'state', g.state,"
        " 'reason', g.reason,"
        " 'role', coalesce((SELECT role FROM members WHERE group_name = g.name AND user_name = %s"
        "   AND g.state <> 'deleted'), %s::int),"
        " 'members', CASE WHEN %s THEN (SELECT json_object_agg(user_name, role ORDER BY user_name)"
        "   FROM members WHERE group_name = g.name) END,"
        " 'task_count', u.pending + u.ready + u.running + u.finished + u.cancelled,"
        " 'worker_count', (SELECT count(*) FROM worker_roles r"
        "   JOIN workers w ON w.uuid = r.worker"
        "   WHERE r.group_name = g.name AND w.state <> 'gone'),"
        " 'storage_used_bytes', u.storage_used_bytes,"
        " 'storage_quota_bytes', g.storage_quota_bytes,"
        " 'created_at', g.created_at, 'updated_at', g.updated_at)::text"
        " FROM groups g JOIN group_usage u ON u.group_name = g.name"
        " WHERE g.name = %s",
        viewer.name,
        int(role),
        viewer.admin or role is Role.ADMIN,
        name,
    )
    return _decode_group(text)
