"""Groups: new ones, and those that one may see."""

from mitosis.client.session import Session
from mitosis.contract.commands import CreateGroup, Done
from mitosis.contract.queries import GetGroup, GroupList, GroupView
from mitosis.contract.wire import Nothing
from mitosis.domain.names import check_name
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

    async def get(self, name: str) -> GroupView:
        """Return one group; members only for its Admins.

        Raises:
            NotFound: No such group. NotAllowed: The asker has no role in it.
        """
        check_name(name, "group")
        return await self._session.query("group", "get", GetGroup(name), GroupView)

    async def list(self) -> dict[str, Role]:
        """Return the groups in which the asker has a role."""
        return (await self._session.query("group", "list", Nothing(), GroupList)).groups
