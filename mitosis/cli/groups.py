"""`create group`, `get group`, `get groups`, `manage group`, `admin groups`."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.invocation import UsageError
from mitosis.cli.output.results import (
    GroupState,
    NamedGroup,
    RemovedMembers,
    SetRoles,
    StorageQuota,
)
from mitosis.cli.output.screen import show
from mitosis.cli.parameters import Moment, read_list
from mitosis.cli.running import with_client
from mitosis.contract.queries import GroupList
from mitosis.domain.durations import format_size
from mitosis.domain.group import GroupPhase
from mitosis.domain.roles import Role, parse_grants
from mitosis.errors import InvalidInput


def create_group(name: str, /) -> None:
    """Create a new group.

    Args:
        name: The name of the group.
    """
    with_client(lambda client: client.create_group(name))
    show(NamedGroup(name), lambda: [f"Created group {name}"])


def get_group(name: str, /, *, as_of: Moment = None) -> None:
    """Get the information of a group.

    Args:
        name: The name of the group.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
    """
    from mitosis.cli.output.texts import group_lines

    group = with_client(lambda client: client.get_group(name, as_of))
    show(group, lambda: group_lines(group))


def get_groups(*, as_of: Moment = None) -> None:
    """Get all groups the user has access to.

    Args:
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
    """
    groups = with_client(lambda client: client.get_groups(as_of))
    show(
        GroupList(groups),
        lambda: [f"{name} = {role.label}" for name, role in sorted(groups.items())],
    )


def update_members(group: str, /, *members: str) -> None:
    """Give users a role in a group: new members and present ones, all of them or none.

    Args:
        group: The name of the group.
        members: The users with their roles, as USER:ROLE; the role is read, write or admin.
    """
    roles = _members_with_roles(members)
    with_client(lambda client: client.change_members(group, roles))
    show(
        SetRoles(group, roles),
        lambda: [
            f"Updated group {group}: "
            + ", ".join(f"{user} = {role.label}" for user, role in roles.items())
        ],
    )


def remove_members(group: str, /, *users: str) -> None:
    """Take users out of a group, all of them or none; an Admin must be left.

    Args:
        group: The name of the group.
        users: The users.
    """
    removed = read_list(list(users))
    if not removed:
        raise UsageError("name the users to be removed")
    with_client(lambda client: client.change_members(group, removed=removed))
    show(
        RemovedMembers(group, removed),
        lambda: [f"Removed from group {group}: {', '.join(removed)}"],
    )


def set_storage_quota(
    group: str, quota: Annotated[str, Parameter(allow_leading_hyphen=True)], /
) -> None:
    """Change how many bytes a group may store.

    Args:
        group: The name of the group.
        quota: The new size as 20GiB or =20GiB, or the difference as +5GB or -5GB; never below 0.
    """
    done = with_client(lambda client: client.set_storage_quota(group, quota))
    show(
        StorageQuota(group, done.quota),
        lambda: [f"Group {group} may store {format_size(done.quota)} ({done.quota} B)"],
    )


def lock_group(group: str, /, *, reason: str = "") -> None:
    """Lock a group: it takes no tasks, files or members until it is unlocked.

    Args:
        group: The name of the group.
        reason: Why, for the record.
    """
    _set_state(group, GroupPhase.LOCKED, reason, "Locked")


def unlock_group(group: str, /) -> None:
    """Let a locked group be used again.

    Args:
        group: The name of the group.
    """
    _set_state(group, GroupPhase.ACTIVE, "", "Unlocked")


def delete_group(group: str, /, *, reason: str = "") -> None:
    """Delete a group for ever: its tasks are cancelled; the name stays taken.

    Args:
        group: The name of the group.
        reason: Why, for the record.
    """
    _set_state(group, GroupPhase.DELETED, reason, "Deleted")


def _set_state(group: str, state: GroupPhase, reason: str, what: str) -> None:
    with_client(lambda client: client.set_group_state(group, state, reason))
    show(GroupState(group, state), lambda: [f"{what} group {group}"])


def _members_with_roles(texts: Sequence[str]) -> dict[str, Role]:
    """Read `alice:read bob:admin`; each needs its role.

    Raises:
        UsageError: None given, an unknown role, a name given twice.
    """
    try:
        roles = parse_grants(read_list(list(texts)), default=None, what="user")
    except InvalidInput as error:
        raise UsageError(error.message) from None
    if not roles:
        raise UsageError("name the users with their roles, as USER:ROLE")
    return roles
