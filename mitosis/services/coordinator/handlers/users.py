"""Commands about users and groups."""

from mitosis.contract import commands, subjects
from mitosis.domain import group, user
from mitosis.domain.access import need_admin
from mitosis.errors import AlreadyExists, LimitReached
from mitosis.nats.rpc import Caller
from mitosis.services.auth.passwords import Passwords
from mitosis.services.coordinator.core import Core
from mitosis.services.coordinator.journal import Unit


def add_user(core: Core, unit: Unit, name: str, password_hash: str, *, admin: bool) -> None:
    """Create a user with the group of the same name, as one atomic step.

    Raises:
        Rejection: The name is taken or cannot be used.
    """
    if name in core.world.groups and name not in core.world.users:
        raise AlreadyExists(f"{name!r} is the name of a group already: choose another", name=name)
    account = user.decide(core.world.users.get(name), user.CreateUser(name, password_hash, admin))
    own_group = group.decide(core.world.groups.get(name), group.CreateGroup(name, name))
    unit.atomic = True
    unit.add(subjects.user_tail(name), account)
    unit.add(subjects.group_tail(name), own_group)


class UserHandlers:
    """Handlers of `user.*` and `group.*`."""

    def __init__(self, core: Core, passwords: Passwords) -> None:
        self._core = core
        self._passwords = passwords

    async def create_user(self, caller: Caller, body: commands.CreateUser) -> None:
        """`user.create`: needs a platform administrator."""
        need_admin(self._core.user(caller.owner), "creating users")
        password_hash = await self._passwords.hash(body.password)
        unit = self._core.begin(f"user:{caller.owner}", caller)
        add_user(self._core, unit, body.username, password_hash, admin=body.admin)
        self._core.answer(unit, caller, commands.Done())

    def create_group(self, caller: Caller, body: commands.CreateGroup) -> None:
        """`group.create`: any active user below the group quota."""
        core = self._core
        creator = core.user(caller.owner)
        if body.name in core.world.users and body.name not in core.world.groups:
            raise AlreadyExists(f"{body.name!r} is the name of a user already: choose another")
        events = group.decide(
            core.world.groups.get(body.name), group.CreateGroup(body.name, creator.name)
        )
        owned = core.world.owned_groups.get(creator.name, 0)
        if owned >= creator.group_quota:
            raise LimitReached(
                f"{creator.name!r} has {owned} groups, the quota is {creator.group_quota}: ask a "
                "platform administrator for more",
                used=owned,
                limit=creator.group_quota,
            )
        unit = core.begin(f"user:{creator.name}", caller)
        unit.add(subjects.group_tail(body.name), events)
        core.answer(unit, caller, commands.Done(), then_rights_of=creator.name)

    def revoke_session(self, caller: Caller, body: commands.RevokeSession) -> None:
        """`session.revoke`: one of one's own sessions, or all."""
        core = self._core
        core.user(caller.owner)
        unit = core.begin(f"user:{caller.owner}", caller)
        events = unit.run(subjects.user_tail(caller.owner), user.RevokeSession(body.session))
        core.answer(unit, caller, commands.Done(changed=bool(events)))
