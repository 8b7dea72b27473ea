"""Authentication as one thing to start and stop: callout, logins, live connections."""

import logging
import ssl
from collections.abc import Callable

from mitosis.contract.subjects import LOGIN_ALL
from mitosis.errors import Unavailable
from mitosis.nats.callout import Responder, Signer
from mitosis.nats.connection import Connection
from mitosis.nats.nkeys import derive_issuer
from mitosis.nats.rpc import Endpoints
from mitosis.nats.server_config import PLATFORM_ACCOUNT
from mitosis.services.auth.accounts import Accounts
from mitosis.services.auth.authenticator import Authenticator
from mitosis.services.auth.changes import RightsChanges
from mitosis.services.auth.connections import Connections
from mitosis.services.auth.login import Login
from mitosis.services.auth.password_check import PasswordCheck
from mitosis.services.auth.passwords import Passwords
from mitosis.services.auth.permissions import GUEST_PAYLOAD_BYTES
from mitosis.services.auth.probe import not_asked, refuse_open_server
from mitosis.services.auth.tokens import TokenKeys

log = logging.getLogger(__name__)

PROBES = 2
PROBE_SECONDS = 5.0  # longer than the server waits for the answer of a responder
LOGIN_QUEUE = "mito-login"


class Authentication:
    """Decides who may connect, opens sessions, and closes connections when rights change.

    Attributes:
        passwords: Hashes the passwords of new users.
        connections: `kick_user` and `kick_worker`, after a change is stored.
        rights: Told whose rights have changed.
    """

    def __init__(
        self,
        accounts: Accounts,
        keys: TokenKeys,
        service: Connection,
        system: Connection,
        *,
        server: str,
        term: Callable[[], int],
        session_seconds: float,
        on_worker_gone: Callable[[str], None],
        on_worker_back: Callable[[str], None] | None = None,
        tls: ssl.SSLContext | None = None,
        account: str = PLATFORM_ACCOUNT,
        clock: Callable[[], float],
        check: PasswordCheck | None = None,
        is_sure: Callable[[], bool] = lambda: True,
    ) -> None:
        """Put the parts together; `start` begins.

        Args:
            accounts: What the coordinator knows.
            keys: The platform's key pair.
            service: Connection of a static user in the platform's account.
            system: Connection of a static user in the system account.
            server: Address that is tried as a stranger.
            term: Of this coordinator, for `hello`.
            session_seconds: How long a login lasts.
            on_worker_gone: Gets the UUID of a worker whose last connection is lost.
            on_worker_back: Gets the UUID of a worker that has a connection again.
            tls: For `server`.
            account: The platform's account in the NATS configuration.
            clock: Unix time.
            check: Compares passwords and counts failures, shared with who else does; None: an
                own one.
            is_sure: Whether what `accounts` know is not out of date.
        """
        self.passwords = Passwords()
        self.connections = Connections(
            system, account, on_worker_gone=on_worker_gone, on_worker_back=on_worker_back
        )
        self._keys = keys
        self._server = server
        self._tls = tls
        self._clock, self._is_sure = clock, is_sure
        self.rights = RightsChanges(self.connections.kick_users)
        check = check or PasswordCheck(accounts, self.passwords)
        authenticator = Authenticator(accounts, keys, check, clock)
        signer = Signer(derive_issuer(keys.private_pem), account)
        self._responder = Responder(service, signer, authenticator.decide, clock, is_sure)
        self._endpoints = Endpoints(service, LOGIN_ALL, max_request_bytes=GUEST_PAYLOAD_BYTES)
        Login(
            accounts,
            keys,
            check,
            source_of=authenticator.source_of,
            term=term,
            session_seconds=session_seconds,
            clock=clock,
        ).add_to(self._endpoints)

    async def start(self) -> None:
        """Begin to let people in; logins are answered when this returns.

        Raises:
            Misconfigured: A stranger may do more than a guest, or nobody is let in.
            Unavailable: NATS does not answer; or nobody may be let in just now.
        """
        await self._responder.start()
        try:
            await self._check_that_guests_come_in()
            await self._endpoints.start(LOGIN_QUEUE)
            await self.connections.start()
            self.rights.start()
        except BaseException:
            await self.stop()
            raise

    async def _check_that_guests_come_in(self) -> None:
        """A server that stands still for a moment lets nobody in either: it is asked twice."""
        for _ in range(PROBES):
            if await refuse_open_server(self._server, tls=self._tls, timeout_seconds=PROBE_SECONDS):
                return
            if not self._is_sure():
                raise Unavailable("another coordinator may lead, so that nobody can be let in")
        raise not_asked(self._server)

    async def stop(self) -> None:
        """Let nobody new in, finish logins that have begun."""
        await self.rights.stop()
        await self._responder.stop()
        await self._endpoints.stop()
        await self.connections.stop()
        self.passwords.close()

    def worker_token(self, uuid: str, lifetime_seconds: float) -> str:
        """Return the token with which a registered worker connects."""
        now = self._clock()
        return self._keys.issue("worker", uuid, issued_at=now, exp=now + lifetime_seconds)
