"""Accounts: who am I, new users, log in and out."""

from mitosis.client.session import Session
from mitosis.contract.commands import CreateUser, Done, RevokeSession
from mitosis.contract.login import SessionToken
from mitosis.contract.queries import WhoAmI
from mitosis.contract.wire import Nothing
from mitosis.domain.names import check_name


class Users:
    """Commands and reads about accounts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def login(self, username: str, password: str) -> SessionToken:
        """Open a session by password and store it; the client acts as this user from now on.

        Raises:
            AuthenticationFailed: Wrong name or password.
            TooManyTries: `details["retry_after_seconds"]` says how long to wait.
        """
        return await self._session.login(username, password)

    async def logout(self) -> None:
        """Revoke all sessions of the user and forget the stored one."""
        await self._session.command("session", "revoke", RevokeSession(), Done)
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
        """
        check_name(username, "user")
        body = CreateUser(username, password, admin)
        return await self._session.command("user", "create", body, Done)
