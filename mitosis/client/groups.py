"""Groups: new ones, those that one may see, and who is in them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from mitosis.client.session import Session
from mitosis.contract.commands import (
    ChangeGroupState,
    ChangeMembers,
    ChangeStorageQuota,
    CreateGroup,
    Done,
    NewQuota,
)
from mitosis.contract.queries import GetGroup, GroupList, GroupView, ListGroups
from mitosis.domain.durations import parse_size
from mitosis.domain.group import GroupPhase
from mitosis.domain.limits import check_several
from mitosis.domain.moments import checked_moment
from mitosis.domain.names import check_name
from mitosis.domain.quotas import parse_quota
from mitosis.domain.roles import Role


class Groups:
    """Commands and reads about groups."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(self, name: str) -> Done:
        """Make a group with the asker as its Admin.

        Raises:
            AlreadyExists: A user or a group has this name.
            LimitReached: The asker has no group left in the quota.
            InvalidInput: The name breaks the rule for names.
        """
        check_name(name, "group")
        return await self._session.command("group", "create", CreateGroup(name), Done)

    async def get(self, name: str, as_of: datetime | int | None = None) -> GroupView:
        """Return one group; members only for its Admins.

        Args:
            name: Which.
            as_of: What it was at this time or position of the stream; None: what it is now.

        Raises:
            NotFound: No such group. NotAllowed: The asker has no role in it.
            LimitReached: Too much has changed since `as_of`.
        """
        check_name(name, "group")
        body = GetGroup(name, checked_moment(as_of))
        return await self._session.query("group", "get", body, GroupView)

    async def list(self, as_of: datetime | int | None = None) -> dict[str, Role]:
        """Return the groups in which the asker has a role, or had at a time or a position."""
        body = ListGroups(checked_moment(as_of))
        return (await self._session.query("group", "list", body, GroupList)).groups

    async def change_members(
        self, group: str, roles: Mapping[str, Role] | None = None, removed: Iterable[str] = ()
    ) -> Done:
        """Give users a role in a group and take others out of it: all of it, or nothing.

        Args:
            group: Which.
            roles: User -> role, for new members and present ones.
            removed: Users without a role from now on.

        Raises:
            NotAllowed: The asker is neither Admin of the group nor a platform administrator.
            NotFound: No such group, or one of the users does not exist.
            WrongState: No Admin who can log in would be left.
        """
        check_name(group, "group")
        body = ChangeMembers(group, dict(roles or {}), check_several(removed, "removed"))
        for user in (*body.roles, *body.removed):
            check_name(user, "user")
        return await self._session.command("group", "change_members", body, Done)

    async def set_storage_quota(self, group: str, change: str) -> NewQuota:
        """Set how many bytes a group may store. Less than it stores already is possible.

        Args:
            group: Which.
            change: A size such as `20GiB` or `=20GiB`, or the difference as `+5GB` or `-5GB`;
                never below 0.

        Raises:
            NotAllowed: The asker is no platform administrator. NotFound: No such group.
            InvalidInput: No such form, or out of bounds.
        """
        check_name(group, "group")
        body = ChangeStorageQuota(group, parse_quota(change, parse_size))
        return await self._session.command("group", "set_storage_quota", body, NewQuota)

    async def set_state(self, group: str, state: GroupPhase, reason: str = "") -> Done:
        """Lock, unlock (`active`) or delete a group.

        A locked group takes no tasks, files or members. Deleted is for ever: its tasks are
        cancelled, nobody has a role in it, and the name stays taken.

        Raises:
            NotAllowed: The asker is no platform administrator. NotFound: No such group.
            WrongState: It is deleted, or the own group of a user.
        """
        check_name(group, "group")
        body = ChangeGroupState(group, state, reason)
        return await self._session.command("group", "set_state", body, Done)
