"""The session: who acts, over which connection, and how it comes to be logged in.

With a stored token it connects at once. A token that is refused while a guest is let in means: log
in again. A refused guest means: there is no coordinator (design, Subjects and permissions).

A session that cannot be stored, because the folder is read-only or the disk is full, serves this
program alone, and is ended with it.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

import msgspec

from mitosis._version import __version__
from mitosis.client.addresses import ASK_SECONDS, Addresses
from mitosis.client.credentials import CredentialFile, StoredSession
from mitosis.client.network import EventLoop, Line, Network
from mitosis.client.retry import (
    PAST_TRY_SECONDS,
    TRY_SECONDS,
    Tries,
    outcome_unknown,
    persist,
)
from mitosis.config.client import ClientConfig
from mitosis.config.locations import default_credential_path
from mitosis.config.secret_file import read_secret_file
from mitosis.config.trust import coordinator_trust, nats_trust, store_trust
from mitosis.contract import subjects
from mitosis.contract.commands import Done, RevokeSession
from mitosis.contract.login import Hello, PasswordLogin, SessionToken, Welcome, session_of
from mitosis.contract.wire import Reply
from mitosis.errors import (
    AuthenticationFailed,
    Misconfigured,
    MitosisError,
    NoCoordinator,
    OutcomeUnknown,
    Unavailable,
)
from mitosis.nats.asking import call
from mitosis.nats.credentials import Credentials, Guest, Token
from mitosis.tls import Trust

log = logging.getLogger(__name__)

T = TypeVar("T")

REVOKE_SECONDS = 2.0
STALE_PAUSE_SECONDS = 0.1  # the projector itself has waited before it answered so
LEAST_SECONDS = 0.001
NEW_SESSION_SECONDS = 2.0


class Session:
    """One user at one platform. Opens by itself at the first request.

    One deadline holds for all that a request needs: finding the platform, connecting, the log-in,
    the answer. Until then whatever is away is tried again.

    Attributes:
        stale: Called with a sentence when an answer may be older than what was stored before.
        warn: Called with a sentence when the session could not be stored.
        waiting: Called with the reason and the seconds that are left, once for an opening, when
            nobody is there and it is tried again.
        spent_seconds: What the next request has less, because it was spent on its account before.
        unkept: Why the present session could not be stored, or None.
        on_reconnect: Called after the connection has come back; messages may have been missed.
    """

    def __init__(self, config: ClientConfig, network: Network | None = None) -> None:
        """Nothing is connected yet.

        Args:
            config: Of the client.
            network: Over what; None: an event loop.
        """
        self._config = config
        self._network = network or EventLoop()
        self._addresses = Addresses(coordinator_trust(config))
        self._file = CredentialFile(config.credential_path or default_credential_path())
        self._connection: Line | None = None
        self._user = ""
        self._password = config.password
        self._unkept_id = ""
        self._opening = self._network.turns()
        self.stale: Callable[[str], None] = lambda _: None
        self.warn: Callable[[str], None] = log.warning
        self.waiting: Callable[[Unavailable, float], None] = _tell_waiting
        self.spent_seconds = 0.0
        self.unkept: Misconfigured | None = None
        self.on_reconnect: set[Callable[[], None]] = set()

    @property
    def user(self) -> str:
        """Name of the user; empty before the session is open."""
        return self._user

    @property
    def store_trust(self) -> Trust:
        """Whom to believe at the S3 store."""
        return store_trust(self._config)

    def nats_trust(self, servers: list[str]) -> Trust:
        """Whom to believe at NATS servers."""
        return nats_trust(self._config, servers)

    @property
    def session_id(self) -> str:
        """Id of the present session; empty when there is none."""
        credentials = self._connection.credentials if self._connection else None
        return session_of(credentials.token) if isinstance(credentials, Token) else ""

    @property
    def timeout_seconds(self) -> float:
        """How long one request may take, with connecting and all its repetitions."""
        return self._config.timeout.total_seconds()

    async def open(self) -> Line:
        """Return the connection of the logged-in user.

        Raises:
            NoCoordinator: Nobody answers at the address.
            AuthenticationFailed: Nobody is logged in, or not any more, and no password is at hand.
        """
        return await self._open(self._deadline())

    async def _open(self, deadline: float) -> Line:
        async with self._opening:
            if self._connection is not None and self._connection.failure is None:
                return self._connection
            return await self._log_in_somehow(deadline)

    def _deadline(self) -> float:
        """When something that begins now must be over."""
        return time.monotonic() + self.timeout_seconds

    def _deadline_of_request(self) -> float:
        spent, self.spent_seconds = self.spent_seconds, 0.0
        return self._deadline() - spent

    def known_user(self) -> str:
        """Return the user of this client before it is connected; empty: nobody is named.

        Raises:
            Misconfigured: The credential file cannot be read.
        """
        stored = self._stored()
        return self._config.user or (stored.user if stored else "")

    def configured_password(self) -> str | None:
        """Return the password of the settings, from whichever place; None: there is none.

        Raises:
            Misconfigured: Its file cannot be read.
        """
        return self._password_of(self._config.user)

    async def hello(self) -> Welcome:
        """Ask as a guest whether a coordinator is there.

        Raises:
            NoCoordinator: It is not.
        """
        return await self._hello(self._deadline())

    async def _hello(self, deadline: float) -> Welcome:
        return await self._as_guest("hello", Hello(__version__), Welcome, deadline)

    async def login(self, user: str, password: str, *, first: bool = True) -> SessionToken:
        """Open a session by password, store it, and act as this user from now on.

        Where it cannot be stored, `warn` is called, and the session ends with this client.

        Args:
            user: Name.
            password: Password.
            first: Also act as this user in later commands that name none.

        Raises:
            AuthenticationFailed: Wrong name or password.
            TooManyTries: Wait first.
            NoCoordinator: Nobody answers at the address.
        """
        return await self._login(user, password, self._deadline(), first=first)

    async def _login(
        self, user: str, password: str, deadline: float, *, first: bool
    ) -> SessionToken:
        body = PasswordLogin(user, password)
        session = await self._as_guest("password", body, SessionToken, deadline)
        await self._end_unkept()
        stored = StoredSession(self._config.coordinator_addr, session.username, session.token)
        try:
            await self._network.aside(lambda: self._file.store(stored, first=first))
        except Misconfigured as error:
            self.unkept, self._unkept_id = error, session.session
            self.warn(f"{error.message} (this session is not kept)")
        await self._adopt_new(session, deadline)
        return session

    def forget(self) -> None:
        """Drop the stored session of the present user."""
        self._file.forget(self._config.coordinator_addr, self._user)

    async def command(
        self, noun: str, verb: str, body: msgspec.Struct, result: type[T], key: str = ""
    ) -> T:
        """Send a command, repeated with the same id until it is answered.

        Args:
            noun: Of the subject.
            verb: Of the subject.
            body: What is wanted.
            result: Type of the answer.
            key: What the error names when no answer came, so that the same thing can be asked for
                again; empty: the id of the command, which is a random one in any case. The
                coordinator answers a known id without looking at the content.

        Raises:
            MitosisError: The coordinator's answer. OutcomeUnknown: None came in time.
        """
        command_id = str(uuid4())
        reply = await self._ask(
            subjects.command, noun, verb, body, result, self._deadline_of_request(),
            command_id, key or command_id,
        )  # fmt: skip
        return _result(reply)

    async def query(
        self, noun: str, verb: str, body: msgspec.Struct, result: type[T], *, whole: bool = False
    ) -> T:
        """Ask for a read, repeated until it is answered.

        Args:
            noun: Of the subject.
            verb: Of the subject.
            body: What is wanted.
            result: Type of the answer.
            whole: An answer that may lack what was stored last is not enough: ask again while
                there is time. Who reads history wants all of it.

        Raises:
            MitosisError: The projector's answer. Unavailable: None came in time.
        """
        past = getattr(body, "as_of", None) is not None
        seconds = PAST_TRY_SECONDS if past else None
        deadline = self._deadline_of_request()

        async def ask() -> Reply[T]:
            return await self._ask(
                subjects.query, noun, verb, body, result, deadline, seconds=seconds
            )

        reply = await ask()
        while whole and reply.stale and time.monotonic() + STALE_PAUSE_SECONDS < deadline:
            await self._network.sleep(STALE_PAUSE_SECONDS)
            try:
                reply = await ask()
            except Unavailable as error:  # what was answered before is better than nothing
                log.info("no better answer came in time: %s", error)
                break
        if reply.stale:
            self.stale("the read models lag behind: this may be older than what was stored last")
        return _result(reply)

    async def servers(self) -> list[str]:
        """Return the addresses of the platform's NATS servers, for other connections than this.

        Raises:
            NoCoordinator: Nobody answers at the address.
        """
        address = self._config.coordinator_addr
        known = self._addresses.given(address) or self._addresses.remembered(address)
        if known:
            return known
        return await self._persist(self._asked, self._deadline())

    async def close(self) -> None:
        """Close the connection. The stored session stays; one that could not be stored ends."""
        await self._end_unkept()
        await self._disconnect()

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _end_unkept(self) -> None:
        """Revoke a session that nobody could use again, as far as somebody answers."""
        session, self._unkept_id, self.unkept = self._unkept_id, "", None
        if not session or self._connection is None:
            return
        try:
            await call(
                self._connection,
                subjects.command(self._user, "session", "revoke"),
                RevokeSession(session),
                Done,
                command_id=str(uuid4()),
                timeout_seconds=REVOKE_SECONDS,
            )
        except MitosisError as error:
            log.info("a session that was not kept stays open until it expires: %s", error)

    async def _log_in_somehow(self, deadline: float) -> Line:
        stored = self._stored()
        if stored is not None:
            try:
                return await self._adopt(stored.user, stored.token, deadline)
            except AuthenticationFailed:
                if self._password_of(stored.user) is None:
                    raise
        user = self._config.user or (stored.user if stored else None)
        password = self._password_of(user)
        if user is None or password is None:
            await self._hello(deadline)  # somebody must be there to log in to
            raise self._nobody_logged_in(user)
        # For this once: somebody else may be the one who works here usually.
        await self._login(user, password, deadline, first=False)
        assert self._connection is not None  # noqa: S101  login has set it
        return self._connection

    def _stored(self) -> StoredSession | None:
        try:
            return self._file.find(self._config.coordinator_addr, self._config.user)
        except Misconfigured:
            if self._password_of(self._config.user) is None:
                raise
            return None  # the password is enough; that the session is not kept is said then

    async def _ask(
        self,
        subject: Callable[[str, str, str], str],
        noun: str,
        verb: str,
        body: msgspec.Struct,
        result: type[T],
        deadline: float,
        command_id: str = "",
        named: str = "",
        seconds: float | None = None,
    ) -> Reply[T]:
        tries = Tries()  # of before and after a log-in

        async def once(timeout_seconds: float) -> Reply[T]:
            connection = await self._open(deadline)
            try:
                return await call(
                    connection,
                    subject(self._user, noun, verb),
                    body,
                    result,
                    command_id=command_id,
                    timeout_seconds=timeout_seconds,
                )
            except MitosisError as error:
                tries.failed(error)
                raise

        async def ask() -> Reply[T]:
            total, sleep = self.timeout_seconds, self._network.sleep
            return await persist(once, total, named, sleep, seconds, until=deadline)

        await self._open(deadline)  # before: what was never sent has no unknown outcome
        try:
            try:
                return await ask()
            except AuthenticationFailed:
                password = self._password_of(self._user)
                if password is None:
                    raise
                await self._login(self._user, password, deadline, first=False)
                return await ask()
        except MitosisError as error:
            if not named or not tries.leave_open or isinstance(error, OutcomeUnknown):
                raise
            raise outcome_unknown(f"an answer was lost ({error.message})", named) from error

    async def _as_guest(
        self, verb: str, body: msgspec.Struct, result: type[T], deadline: float
    ) -> T:
        # A password is not sent twice: the first answer may be on its way, and tries count.
        only_once = isinstance(body, PasswordLogin)

        async def once(_: float) -> T:
            guest = await self._connect_once(Guest(), deadline)
            left = max(LEAST_SECONDS, deadline - time.monotonic())
            seconds = left if only_once else min(left, TRY_SECONDS)
            try:
                return _result(
                    await call(guest, subjects.login(verb), body, result, timeout_seconds=seconds)
                )
            except Unavailable as error:
                # Others than the plain one are answers, or say that nobody was there to get it.
                error.is_final = only_once and type(error) is Unavailable
                raise
            finally:
                await guest.close()

        return await self._persist(once, deadline)

    async def _adopt(self, user: str, token: str, deadline: float) -> Line:
        async def once(_: float) -> Line:
            return await self._connect_once(Token(token, "user", user), deadline)

        connection = await self._persist(once, deadline)
        await self._disconnect()
        self._connection, self._user = connection, user
        return connection

    async def _adopt_new(self, session: SessionToken, deadline: float) -> None:
        """Use a session that was opened a moment ago.

        A coordinator that was overtaken in this moment may still say who gets in, and not know it.
        """
        until = min(deadline, time.monotonic() + NEW_SESSION_SECONDS)
        while True:
            try:
                await self._adopt(session.username, session.token, deadline)
                return
            except AuthenticationFailed:
                if time.monotonic() >= until:
                    raise
            await self._network.sleep(STALE_PAUSE_SECONDS)

    async def _persist(self, once: Callable[[float], Awaitable[T]], deadline: float) -> T:
        """Do what belongs to an opening, again while nobody is there."""
        total = self.timeout_seconds
        return await persist(
            once,
            total,
            sleep=self._network.sleep,
            try_seconds=total,
            until=deadline,
            told=self.waiting,
        )

    async def _connect_once(self, credentials: Credentials, deadline: float) -> Line:
        address = self._config.coordinator_addr
        if given := self._addresses.given(address):
            return await self._dial(given, credentials, deadline)
        if remembered := self._addresses.remembered(address):
            try:
                return await self._dial(remembered, credentials, _half_way(deadline))
            except NoCoordinator as error:  # the platform may have moved since it was asked
                log.info("%s: asking %s again", error, address)
        found = await self._asked(_half_way(deadline) - time.monotonic())
        return await self._dial(found, credentials, deadline)

    async def _asked(self, seconds: float) -> list[str]:
        address = self._config.coordinator_addr
        longest = max(LEAST_SECONDS, min(ASK_SECONDS, seconds))
        return await self._network.aside(
            lambda: self._addresses.ask(address, longest), may_be_left=True
        )

    async def _dial(self, servers: list[str], credentials: Credentials, deadline: float) -> Line:
        return await self._network.connect(
            servers,
            credentials,
            trust=nats_trust(self._config, servers),
            reconnect=not isinstance(credentials, Guest),
            deadline=deadline,
            on_reconnect=self._reconnected,
        )

    def _reconnected(self) -> None:
        for callback in list(self.on_reconnect):
            callback()

    def _password_of(self, user: str | None) -> str | None:
        if self._config.user not in {None, user}:
            return None
        if self._password is None and self._config.password_file is not None:
            self._password = read_secret_file(self._config.password_file)  # a pipe gives it once
        return self._password

    def _nobody_logged_in(self, user: str | None) -> AuthenticationFailed:
        who = f"user {user!r} is not" if user else "nobody is"
        return AuthenticationFailed(
            f"{who} logged in at {self._config.coordinator_addr}: run `mito client auth "
            f"{user or 'USER'}`, or set MITO_USER and MITO_PASSWORD (or MITO_PASSWORD_FILE)"
        )


def _result(reply: Reply[T]) -> T:
    assert reply.result is not None  # noqa: S101  `call` has checked it
    return reply.result


def _half_way(deadline: float) -> float:
    """Leave as much time for what comes next."""
    now = time.monotonic()
    return now + (deadline - now) / 2


def _tell_waiting(error: Unavailable, seconds: float) -> None:
    log.warning("%s (trying again for up to %.0f s, see timeout)", error, seconds)
