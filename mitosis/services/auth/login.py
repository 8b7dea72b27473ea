"""What a guest may ask: is a coordinator there, and open a session."""

from collections.abc import Callable
from datetime import UTC, datetime

from mitosis._version import __version__
from mitosis.contract.login import Hello, PasswordLogin, SessionToken, Welcome
from mitosis.nats.credentials import random_token
from mitosis.nats.rpc import Caller, Endpoints
from mitosis.services.auth.accounts import Accounts
from mitosis.services.auth.password_check import PasswordCheck
from mitosis.services.auth.tokens import TokenKeys


class Login:
    """Handlers of `mito.login.<verb>`."""

    def __init__(
        self,
        accounts: Accounts,
        keys: TokenKeys,
        passwords: PasswordCheck,
        *,
        source_of: Callable[[str], str],
        term: Callable[[], int],
        session_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        """`source_of`: address of a guest by its nonce; `term`: of this coordinator."""
        self._accounts = accounts
        self._keys = keys
        self._passwords = passwords
        self._source_of = source_of
        self._term = term
        self._session_seconds = session_seconds
        self._clock = clock

    def add_to(self, endpoints: Endpoints) -> None:
        """Register the verbs."""
        endpoints.add("hello", Hello, self.hello)
        endpoints.add("password", PasswordLogin, self.password)

    def hello(self, _caller: Caller, _body: Hello) -> Welcome:
        """Say that a coordinator is there."""
        return Welcome(__version__, self._term())

    async def password(self, caller: Caller, body: PasswordLogin) -> SessionToken:
        """Open a session; answers when it is stored.

        Raises:
            AuthenticationFailed, TooManyTries, Unavailable: See PasswordCheck.
            Rejection, Unavailable: See Accounts.open_session.
        """
        source = self._source_of(_nonce(caller.reply))
        user = await self._passwords.check(body.username, body.password, source)
        session = random_token()
        now = self._clock()
        expires_at = datetime.fromtimestamp(int(now + self._session_seconds), UTC)
        await self._accounts.open_session(user.name, session, expires_at, source)
        token = self._keys.issue(
            "user", user.name, sid=session, issued_at=now, exp=expires_at.timestamp()
        )
        return SessionToken(user.name, user.admin, token, session, expires_at)


def _nonce(reply: str) -> str:
    """`_INBOX.guest.<nonce>.<token>` -> the nonce."""
    parts = reply.split(".")
    return parts[2] if len(parts) > 3 else ""
