"""Commands about accounts and their sessions."""

from mitosis.contract import commands, subjects
from mitosis.domain import group, user
from mitosis.domain.access import need_admin, need_other_admin, need_user
from mitosis.domain.event import Command
from mitosis.domain.names import check_name
from mitosis.domain.user import User, UserPhase
from mitosis.errors import AlreadyExists, AuthenticationFailed, NotAllowed, WrongState
from mitosis.nats.rpc import Caller
from mitosis.services.auth.password_check import PasswordCheck
from mitosis.services.auth.passwords import Passwords, check_password
from mitosis.services.coordinator.closing import close_deleted
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

    def __init__(self, core: Core, passwords: Passwords, check: PasswordCheck) -> None:
        """`check` counts wrong old passwords together with wrong logins."""
        self._core = core
        self._passwords = passwords
        self._check = check

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [
            ("user.create", commands.CreateUser, self.create_user),
            ("user.change_password", commands.ChangePassword, self.change_password),
            ("user.reset_password", commands.ResetPassword, self.reset_password),
            ("user.set_state", commands.ChangeUserState, self.set_state),
            ("user.set_admin", commands.ChangeAdmin, self.set_admin),
            ("user.set_group_quota", commands.ChangeGroupQuota, self.set_group_quota),
            ("session.revoke", commands.RevokeSession, self.revoke_session),
        ]

    async def create_user(self, caller: Caller, body: commands.CreateUser) -> None:
        """`user.create`: needs a platform administrator."""
        self._admin(caller, "creating users")
        password_hash = await self._passwords.hash(body.password)
        self._admin(caller, "creating users")  # hashing took a while
        unit = self._core.begin(f"user:{caller.owner}", caller)
        add_user(self._core, unit, body.username, password_hash, admin=body.admin)
        self._core.answer(unit, caller, commands.Done())

    async def change_password(self, caller: Caller, body: commands.ChangePassword) -> None:
        """`user.change_password`: one's own, by who knows the old one."""
        core, name = self._core, caller.owner
        former = core.user(name).password_hash
        check_password(body.new_password)
        try:
            await self._check.check(name, body.old_password, "")
        except AuthenticationFailed as error:
            raise NotAllowed("the old password is wrong", field="old_password") from error
        password_hash = await self._passwords.hash(body.new_password)
        if core.user(name).password_hash != former:
            raise WrongState("the password was changed by somebody else meanwhile: try again")
        self._change(caller, name, user.ChangePassword(password_hash, body.kept_session))

    async def reset_password(self, caller: Caller, body: commands.ResetPassword) -> None:
        """`user.reset_password`: needs a platform administrator."""
        what = "resetting passwords"
        self._admin(caller, what)
        self._user(body.username)
        password_hash = await self._passwords.hash(body.new_password)
        self._admin(caller, what)
        self._change(caller, body.username, user.ChangePassword(password_hash))

    def set_state(self, caller: Caller, body: commands.ChangeUserState) -> None:
        """`user.set_state`: needs a platform administrator."""
        self._admin(caller, "changing the state of users")
        target = self._user(body.username)
        if body.state is not UserPhase.ACTIVE:
            self._keep_an_admin(target, f"it is {body.state.value}")
        self._change(caller, target.name, user.ChangeUserState(body.state, body.reason))
        if body.state is UserPhase.DELETED:
            close_deleted(self._core)

    def set_admin(self, caller: Caller, body: commands.ChangeAdmin) -> None:
        """`user.set_admin`: needs a platform administrator."""
        self._admin(caller, "changing who is an administrator")
        target = self._user(body.username)
        if not body.admin:
            self._keep_an_admin(target, "it is none any more")
        self._change(caller, target.name, user.ChangeAdmin(body.admin))

    def set_group_quota(self, caller: Caller, body: commands.ChangeGroupQuota) -> None:
        """`user.set_group_quota`: needs a platform administrator."""
        core = self._core
        self._admin(caller, "changing quotas")
        target = self._user(body.username)
        unit = core.begin(f"user:{caller.owner}", caller)
        unit.run(subjects.user_tail(target.name), user.ChangeGroupQuota(body.change))
        core.answer(unit, caller, commands.NewQuota(core.world.users[target.name].group_quota))

    def revoke_session(self, caller: Caller, body: commands.RevokeSession) -> None:
        """`session.revoke`: one's own; those of others need a platform administrator."""
        core = self._core
        core.user(caller.owner)
        name = body.username or caller.owner
        if name != caller.owner:
            self._admin(caller, "ending the sessions of others")
            self._user(name)
        self._change(caller, name, user.RevokeSession(body.session, body.kept_session))

    # --- shared -------------------------------------------------------------------------------

    def _change(self, caller: Caller, name: str, command: Command) -> None:
        """Decide about an account, answer, and let its connections in anew."""
        core = self._core
        unit = core.begin(f"user:{caller.owner}", caller)
        events = unit.run(subjects.user_tail(name), command)
        changed = bool(events)
        done = commands.Done(changed)
        core.answer(unit, caller, done, then_rights_of=(name,) if changed else ())

    def _admin(self, caller: Caller, what: str) -> None:
        need_admin(self._core.user(caller.owner), what)

    def _user(self, name: str) -> User:
        return need_user(self._core.world.users.get(check_name(name, "user")), name)

    def _keep_an_admin(self, target: User, what: str) -> None:
        if target.admin and target.active:
            need_other_admin(self._core.world.users, target.name, what)
