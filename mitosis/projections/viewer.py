"""Who reads, and what of it they may see.

Read in the group of a thing shows it; platform admins see all. What somebody may not see does not
exist for them when it was named by a UUID (guessing tells nothing); a group named by its name is
refused openly, since names are taken platform-wide anyway.
"""

from typing import LiteralString

import msgspec

from mitosis.domain.roles import Role
from mitosis.errors import NotAllowed, NotFound
from mitosis.projections.postgres import Reader, fetch_value


class Viewer(msgspec.Struct, frozen=True):
    """An account with its role in each of its groups."""

    name: str
    admin: bool
    state: str
    roles: dict[str, Role]

    def sees(self, group: str) -> bool:
        """Whether things of the group may be shown."""
        return self.admin or group in self.roles

    @property
    def scope(self) -> dict[str, object]:
        """Arguments of `VISIBLE`."""
        return {"sees_all": self.admin, "own_groups": list(self.roles)}


ROLES: LiteralString = (
    "(SELECT coalesce(json_object_agg(group_name, role ORDER BY group_name), '{}')"
    "  FROM members m JOIN groups g ON g.name = m.group_name"
    "  WHERE m.user_name = %s AND g.state <> 'deleted')"
)
"""The groups in which a user has a role, with the role."""

VISIBLE = "(%(sees_all)s OR group_name = ANY(%(own_groups)s))"
"""Condition on a column `group_name`."""

_decode = msgspec.json.Decoder(Viewer).decode


async def find_viewer(connection: Reader, name: str) -> Viewer:
    """Return the account that asks.

    Raises:
        NotAllowed: No such account, or it is locked or deleted.
    """
    text = await fetch_value(
        connection,
        "SELECT json_build_object('name', name, 'admin', admin, 'state', state, 'roles',"
        f" {ROLES})::text FROM users u WHERE name = %s",
        name,
        name,
    )
    if text is None:
        raise NotAllowed(f"there is no user {name!r}", user=name)
    viewer = _decode(text)
    if viewer.state != "active":
        raise NotAllowed(f"user {name!r} is {viewer.state}: ask an administrator", user=name)
    return viewer


async def check_group(connection: Reader, viewer: Viewer, group: str) -> None:
    """Check that a group that was named may be read; a deleted one by platform admins only.

    Raises:
        NotFound: No such group. NotAllowed: The viewer has no role in it.
    """
    if group in viewer.roles:
        return
    if not await fetch_value(connection, "SELECT 1 FROM groups WHERE name = %s", group):
        raise NotFound(f"there is no group {group!r}: check its name", group=group)
    if not viewer.admin:
        raise NotAllowed(f"you have no role in group {group!r}: ask one of its Admins", group=group)


def need_role(viewer: Viewer, group: str, what: str) -> None:
    """Check for what even platform admins must have a role in the group.

    Raises:
        NotAllowed: The viewer has none.
    """
    if group not in viewer.roles:
        raise NotAllowed(
            f"{what} needs a role in group {group!r}: give yourself one, or ask one of its Admins",
            group=group,
        )
