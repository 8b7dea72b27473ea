"""Commands about accounts and their sessions."""

from mitosis.contract import commands, subjects
from mitosis.domain import group, user
from mitosis.domain.access import need_admin
from mitosis.errors import AlreadyExists
from mitosis.nats.rpc import Caller
from mitosis.services.auth.passwords import Passwords
from mitosis.services.coordinator.core import Core, Verbs
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
    """Handlers of `user.*` and `session.*`."""

    def __init__(self, core: Core, passwords: Passwords) -> None:
        self._core = core
        self._passwords = passwords

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("user.create", commands.CreateUser, self.create_user),
            ("session.revoke", commands.RevokeSession, self.revoke_session),
        ]

    async def create_user(self, caller: Caller, body: commands.CreateUser) -> None:
        """`user.create`: needs a platform administrator."""
        need_admin(self._core.user(caller.owner), "creating users")
        password_hash = await self._passwords.hash(body.password)
        unit = self._core.begin(f"user:{caller.owner}", caller)
        add_user(self._core, unit, body.username, password_hash, admin=body.admin)
        self._core.answer(unit, caller, commands.Done())

    def revoke_session(self, caller: Caller, body: commands.RevokeSession) -> None:
        """`session.revoke`: one of one's own sessions, or all."""
        core = self._core
        core.user(caller.owner)
        unit = core.begin(f"user:{caller.owner}", caller)
        events = unit.run(subjects.user_tail(caller.owner), user.RevokeSession(body.session))
        core.answer(unit, caller, commands.Done(changed=bool(events)))
