"""Who is this connection? Decides each connect that the NATS server asks about."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from mitosis.domain.worker import WorkerPhase
from mitosis.errors import AuthenticationFailed
from mitosis.nats.callout import ConnectRequest, Grant
from mitosis.nats.credentials import NONCE
from mitosis.services.auth import permissions
from mitosis.services.auth.accounts import Accounts
from mitosis.services.auth.password_check import PasswordCheck
from mitosis.services.auth.tokens import Claims, TokenKeys

PASSWORD_CONNECTION_SECONDS = 3_600  # a connection by user and password has no session to end it
MAX_GUESTS_REMEMBERED = 10_000


class Authenticator:
    """Turns what a connection presents into its rights. A wrong token never becomes a guest."""

    def __init__(
        self,
        accounts: Accounts,
        keys: TokenKeys,
        passwords: PasswordCheck,
        clock: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._keys = keys
        self._passwords = passwords
        self._clock = clock
        self._guests: OrderedDict[str, str] = OrderedDict()

    def decide(self, request: ConnectRequest) -> Grant | Awaitable[Grant]:
        """Return the rights of a connection.

        Raises:
            AuthenticationFailed: It may not connect.
        """
        if request.kind != "Client" or request.other:
            raise AuthenticationFailed(f"connections of kind {request.kind!r} are not served")
        if request.token:
            claims = self._keys.verify(request.token, self._clock())
            if claims.typ == "user":
                return self._user(claims, request)
            return self._worker(claims, request)
        if request.password:
            return self._by_password(request)
        return self._guest(request)

    def source_of(self, nonce: str) -> str:
        """Address from which a guest connected; empty when another responder let it in."""
        return self._guests.get(nonce, "")

    def _user(self, claims: Claims, request: ConnectRequest) -> Grant:
        user = self._accounts.user(claims.sub)
        if user is None or not user.active:
            raise AuthenticationFailed(f"user {claims.sub!r} is not active")
        expires_at = user.sessions.get(claims.sid)
        if expires_at is None or expires_at.timestamp() <= self._clock():
            raise AuthenticationFailed(f"the session of user {claims.sub!r} is over or revoked")
        groups = self._accounts.roles_of(user.name)
        # What is left of the session, from now on by the server's clock.
        ends_at = request.asked_at + int(claims.exp - self._clock())
        return permissions.user(user.name, groups, ends_at, session=claims.sid, admin=user.admin)

    def _worker(self, claims: Claims, request: ConnectRequest) -> Grant:
        worker = self._accounts.worker(claims.sub)
        if worker is None or worker.phase is WorkerPhase.GONE:
            raise AuthenticationFailed(f"worker {claims.sub} is not registered")
        return permissions.worker(worker.worker, request.asked_at + claims.exp - claims.iat)

    async def _by_password(self, request: ConnectRequest) -> Grant:
        user = await self._passwords.check(request.user, request.password, request.host)
        groups = self._accounts.roles_of(user.name)
        ends_at = request.asked_at + PASSWORD_CONNECTION_SECONDS
        return permissions.user(user.name, groups, ends_at, admin=user.admin)

    def _guest(self, request: ConnectRequest) -> Grant:
        nonce = request.user or request.name
        if not NONCE.fullmatch(nonce):
            raise AuthenticationFailed(
                "a guest needs a random name of 16 to 64 letters and digits for its inbox"
            )
        self._guests[nonce] = request.host
        while len(self._guests) > MAX_GUESTS_REMEMBERED:
            self._guests.popitem(last=False)
        return permissions.guest(nonce, request.asked_at)
