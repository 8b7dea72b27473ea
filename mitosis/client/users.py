"""Accounts: who am I, new users, their passwords, states and sessions, log in and out."""

from mitosis.client.session import Session
from mitosis.config.client import GetUsersArgs
from mitosis.contract.commands import (
    ChangeAdmin,
    ChangeGroupQuota,
    ChangePassword,
    ChangeUserState,
    CreateUser,
    Done,
    NewQuota,
    ResetPassword,
    RevokeSession,
)
from mitosis.contract.login import SessionToken
from mitosis.contract.queries import ListSessions, ListUsers, SessionList, UserPage, WhoAmI
from mitosis.contract.wire import Nothing
from mitosis.domain.limits import check_several
from mitosis.domain.names import check_name
from mitosis.domain.quotas import parse_count, parse_quota
from mitosis.domain.user import UserPhase


class Users:
    """Commands and reads about accounts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def login(self, username: str, password: str) -> SessionToken:
        """Open a session by password and store it; the client acts as this user from now on.

        Other sessions of the user stay open.

        Raises:
            AuthenticationFailed: Wrong name or password.
            TooManyTries: `details["retry_after_seconds"]` says how long to wait.
        """
        return await self._session.login(username, password)

    async def logout(self) -> None:
        """End the present session and forget it; other sessions of the user stay open."""
        await self._session.open()
        session = self._session.session_id
        if session:
            await self._session.command("session", "revoke", RevokeSession(session), Done)
        self._session.forget()

    async def whoami(self) -> WhoAmI:
        """Return the account behind the session, with its groups."""
        return await self._session.query("user", "whoami", Nothing(), WhoAmI)

    async def create(self, username: str, password: str, *, admin: bool = False) -> Done:
        """Make an account and its own group.

        Raises:
            NotAllowed: The asker is no platform administrator.
            AlreadyExists: A user or a group has this name.
            InvalidInput: The name breaks the rule for names.

        Example:
            args = CreateUserArgs(username=f"dora-{uuid4()}", password="a good password")
            await client.create_user(args)
        """
        check_name(username, "user")
        body = CreateUser(username, password, admin)
        return await self._session.command("user", "create", body, Done)

    async def list(self, args: GetUsersArgs | None = None) -> UserPage:
        """Return accounts by name, deleted ones too.

        Raises:
            NotAllowed: The asker is no platform administrator.
        """
        wanted = args or GetUsersArgs()
        body = ListUsers(
            wanted.prefix,
            check_several(wanted.states, "states"),
            wanted.admins,
            wanted.limit,
            wanted.offset,
        )
        return await self._session.query("user", "list", body, UserPage)

    async def change_password(self, old_password: str, new_password: str) -> Done:
        """Replace one's own password. All other sessions of the user end, this one stays.

        Raises:
            NotAllowed: The old password is wrong.
            TooManyTries: It was wrong too often; wait `details["retry_after_seconds"]`.
        """
        await self._session.open()
        body = ChangePassword(old_password, new_password, self._session.session_id)
        return await self._session.command("user", "change_password", body, Done)

    async def reset_password(self, username: str, new_password: str) -> Done:
        """Give a user a new password; all sessions of that user end.

        Raises:
            NotAllowed: The asker is no platform administrator. NotFound: No such user.
        """
        check_name(username, "user")
        body = ResetPassword(username, new_password)
        return await self._session.command("user", "reset_password", body, Done)

    async def set_state(self, username: str, state: UserPhase, reason: str = "") -> Done:
        """Lock, unlock (`active`) or delete a user.

        Locked and deleted end all sessions. Deleted is for ever: the user's tasks are cancelled,
        the user's workers drained, and the name stays taken.

        Raises:
            NotAllowed: The asker is no platform administrator. NotFound: No such user.
            WrongState: The user is deleted, or the last platform administrator.
        """
        check_name(username, "user")
        body = ChangeUserState(username, state, reason)
        return await self._session.command("user", "set_state", body, Done)

    async def set_admin(self, username: str, *, admin: bool) -> Done:
        """Make a user a platform administrator, or take that back.

        Raises:
            NotAllowed: The asker is no platform administrator. NotFound: No such user.
            WrongState: The user is deleted, or the last platform administrator.
        """
        check_name(username, "user")
        return await self._session.command("user", "set_admin", ChangeAdmin(username, admin), Done)

    async def set_group_quota(self, username: str, change: str) -> NewQuota:
        """Set how many groups a user may have; the own group counts as one.

        Args:
            username: Whose.
            change: `=n` or `n`, or the difference as `+n` or `-n`; never below 0.

        Raises:
            NotAllowed: The asker is no platform administrator. NotFound: No such user.
            InvalidInput: No such form, or out of bounds.
        """
        check_name(username, "user")
        body = ChangeGroupQuota(username, parse_quota(change, parse_count))
        return await self._session.command("user", "set_group_quota", body, NewQuota)

    async def sessions(self, username: str = "") -> SessionList:
        """Return open sessions, the newest last.

        Args:
            username: Whose; empty: one's own.

        Raises:
            NotAllowed: Those of others, and the asker is no platform administrator.
        """
        if username:
            check_name(username, "user")
        return await self._session.query("session", "list", ListSessions(username), SessionList)

    async def revoke_sessions(
        self, session: str = "", *, username: str = "", keep_this: bool = False
    ) -> Done:
        """End sessions; what was connected by them is disconnected.

        Args:
            session: Which; empty: all.
            username: Whose; empty: one's own.
            keep_this: With all of one's own: leave the present one open.

        Raises:
            NotAllowed: Those of others, and the asker is no platform administrator.
        """
        await self._session.open()
        kept = self._session.session_id if keep_this else ""
        body = RevokeSession(session, kept, username)
        return await self._session.command("session", "revoke", body, Done)
