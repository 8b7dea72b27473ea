"""Reads of accounts and their sessions."""

from typing import LiteralString

import msgspec

from mitosis.contract.queries import (
    ListSessions,
    ListUsers,
    SessionList,
    SessionView,
    UserPage,
    UserView,
    WhoAmI,
)
from mitosis.domain.names import check_name
from mitosis.errors import NotAllowed, NotFound
from mitosis.projections.postgres import Reader, fetch_value
from mitosis.projections.task_pages import check_page
from mitosis.projections.task_reads import sized_page
from mitosis.projections.viewer import Viewer

_OPEN: LiteralString = "(one->>'expires_at')::timestamptz > now()"
_VIEW: LiteralString = f"""
    SELECT u.name AS username, u.admin, u.state, u.reason, u.group_quota, u.created_at,
        u.updated_at, u.name COLLATE "C" AS place,
        (SELECT count(*) FROM groups g
         WHERE g.creator = u.name AND g.state <> 'deleted') AS groups,
        (SELECT count(*) FROM user_sessions s, jsonb_array_elements(s.sessions) one
         WHERE s.user_name = u.name AND {_OPEN}) AS sessions
    FROM users u
"""
_MATCH: LiteralString = (
    "starts_with(u.name, %(prefix)s) AND (NOT %(admins)s OR u.admin)"
    " AND (%(states)s::text[] = '{}' OR u.state = ANY(%(states)s))"
)
_decode_view = msgspec.json.Decoder(UserView).decode
_decode_sessions = msgspec.json.Decoder(list[SessionView]).decode


def whoami(viewer: Viewer) -> WhoAmI:
    """Return the account that asks."""
    return WhoAmI(viewer.name, viewer.admin, viewer.roles)


async def list_users(connection: Reader, viewer: Viewer, wanted: ListUsers) -> UserPage:
    """Return accounts by name, deleted ones too.

    A page may be shorter than `limit` since it has to fit into one message; go on with `offset`.

    Raises:
        NotAllowed: The viewer is no platform administrator. InvalidInput: A filter.
    """
    _need_admin(viewer, "listing users")
    check_page(wanted.limit, wanted.offset)
    if wanted.prefix:
        check_name(wanted.prefix, "user")
    args = {
        "prefix": wanted.prefix,
        "admins": wanted.admins,
        "states": [state.value for state in wanted.states],
        "limit": wanted.limit,
        "offset": wanted.offset,
    }
    counted = await connection.execute(f"SELECT count(*) FROM users u WHERE {_MATCH}", args)
    total = await counted.fetchone()
    found = await connection.execute(
        sized_page(
            f"{_VIEW} WHERE {_MATCH} ORDER BY place LIMIT %(limit)s OFFSET %(offset)s", "ASC"
        ),
        args,
    )
    views = [_decode_view(row[0]) for row in await found.fetchall()]
    return UserPage(views, total[0] if total else 0)


async def list_sessions(connection: Reader, viewer: Viewer, wanted: ListSessions) -> SessionList:
    """Return the open sessions of the viewer, or for a platform administrator of anybody.

    Raises:
        NotAllowed: Those of somebody else. NotFound: No such user.
    """
    name = check_name(wanted.username, "user") if wanted.username else viewer.name
    if name != viewer.name:
        _need_admin(viewer, "looking at the sessions of others")
        if not await fetch_value(connection, "SELECT 1 FROM users WHERE name = %s", name):
            raise NotFound(f"there is no user {name!r}", user=name)
    text = await fetch_value(
        connection,
        "SELECT coalesce(json_agg(one ORDER BY place), '[]')::text FROM user_sessions,"
        " jsonb_array_elements(sessions) WITH ORDINALITY AS each(one, place)"
        f" WHERE user_name = %s AND {_OPEN}",
        name,
    )
    return SessionList(name, _decode_sessions(text))


def _need_admin(viewer: Viewer, what: str) -> None:
    if not viewer.admin:
        raise NotAllowed(f"{what} needs a platform administrator, {viewer.name!r} is none")
