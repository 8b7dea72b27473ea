"""A connection to NATS that lasts: it comes back by itself, with all its subscriptions.

nats-py opens the links (link.py); this adds what a service needs around them: a new link after
every close that nobody asked for, subscriptions that survive it, a request inbox of its own, and
errors of our own tree. Nothing is resent after a loss: who sent a request learns that its answer
will not come, and repeats it with the same command id.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from mitosis.errors import AuthenticationFailed, Misconfigured, MitosisError, Unavailable
from mitosis.nats import failures
from mitosis.nats.credentials import Credentials, Guest, ServiceLogin, Token, inbox_prefix
from mitosis.nats.dialling import dial_any, tls_context
from mitosis.nats.failures import address
from mitosis.nats.link import Link, dial
from mitosis.nats.subscription import Callback, Subscription
from mitosis.tls import Trust

__all__ = [
    "Connection",
    "Credentials",
    "Guest",
    "Msg",
    "ServiceLogin",
    "Subscription",
    "Token",
]

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 5.0
DRAIN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
SYSTEM_TRUST = Trust("nats_ca")

Listener = Callable[[], Awaitable[None] | None]


class Connection:
    """One identity's connection to a NATS server or cluster; open it with `Connection.open`.

    Attributes:
        failure: Why the connection has given up for good, or None. Only a refused token ends a
            connection that reconnects.
    """

    def __init__(
        self,
        servers: Sequence[str],
        credentials: Credentials,
        *,
        name: str,
        trust: Trust,
        reconnect: bool,
        connect_timeout_seconds: float,
    ) -> None:
        """Use `open` instead."""
        if not servers:
            raise Misconfigured("no address of a NATS server is given: set nats_url")
        self.credentials = credentials
        self.name = name
        self.failure: MitosisError | None = None
        self._servers = list(servers)
        self._trust = trust
        self._tls = tls_context(self._trust, self._servers)
        self._reconnect = reconnect
        self._connect_timeout = connect_timeout_seconds
        self._link: Link | None = None
        self._up = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._reopening: asyncio.Task[None] | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._prefix = inbox_prefix(credentials) + "."
        self._on_disconnect: list[Listener] = []
        self._on_reconnect: list[Listener] = []

    @classmethod
    async def open(
        cls,
        servers: Sequence[str],
        credentials: Credentials,
        *,
        name: str,
        trust: Trust = SYSTEM_TRUST,
        reconnect: bool = True,
        connect_timeout_seconds: float = 5.0,
        deadline: float | None = None,
        on_disconnect: Listener | None = None,
        on_reconnect: Listener | None = None,
    ) -> "Connection":
        """Connect, once through the list of servers.

        Args:
            servers: `nats://host:port` or `tls://host:port`; one that answers is enough.
            credentials: Who connects.
            name: Shown by the server. Workers: `mito-worker-<uuid>`, by which their loss is seen.
            trust: Whose certificates are believed. With an authority in it, a server that offers
                no TLS is refused; its file is read anew for each link.
            reconnect: Come back for ever after a loss; False for one command.
            connect_timeout_seconds: For each server; above the server's time for authentication.
            deadline: When this must be over, by `time.monotonic`; the servers share what is left.
            on_disconnect: Called when the link is lost, not when `close` was asked for.
            on_reconnect: Called when a new link stands and all subscriptions are back.

        Raises:
            StoreUnavailable: No server answers (for a service).
            NoCoordinator: No server answers, or nobody there lets users in.
            AuthenticationFailed: The password or the token is not accepted.
            Misconfigured: An address or a certificate cannot be used.
        """
        self = cls(
            servers,
            credentials,
            name=name,
            trust=trust,
            reconnect=reconnect,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        self._on_disconnect += [on_disconnect] if on_disconnect else []
        self._on_reconnect += [on_reconnect] if on_reconnect else []
        await self.subscribe(self._prefix + "*", self._receive_reply)
        try:
            await self._adopt(await self._dial_any(deadline))
        except NatsError as error:
            await self.close()
            raise Unavailable(f"{self.address} closed the connection at once: {error}") from error
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def raw(self) -> Client:
        """The nats-py client of the present link; another object after a reconnect.

        Raises:
            Unavailable: There is no link just now.
        """
        return self._require_link()

    @property
    def lone_server(self) -> str | None:
        """Id of the server at the other end if it is the only one, None in a cluster."""
        return self._require_link().lone_server

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream's interface on the present link."""
        return self._require_link().jetstream()

    @property
    def is_connected(self) -> bool:
        """Whether a link stands."""
        return self._up.is_set() and self.failure is None

    @property
    def address(self) -> str:
        """The servers, for messages."""
        return failures.addresses(self._servers)

    @property
    def inbox(self) -> str:
        """Prefix, with its dot, of subjects on which only this connection listens."""
        return self._prefix

    def add_listener(
        self, *, on_disconnect: Listener | None = None, on_reconnect: Listener | None = None
    ) -> None:
        """Be told of losses and returns, as with the arguments of `open`."""
        self._on_disconnect += [on_disconnect] if on_disconnect else []
        self._on_reconnect += [on_reconnect] if on_reconnect else []

    def remove_listener(self, listener: Listener) -> None:
        """Be told no more; unknown listeners are ignored."""
        for listeners in (self._on_disconnect, self._on_reconnect):
            if listener in listeners:
                listeners.remove(listener)

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message; returns when it is in the outgoing buffer.

        Raises:
            Unavailable: The link is down or its buffer full; nothing was sent.
            TooLarge: More than the server takes in one message.
        """
        self._require_link().send(subject, data, reply)

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        """Send a request and return the bytes of the first answer.

        Waits for a link first, if there is none, inside the same time.

        Raises:
            NoCoordinator: Nobody listens on the subject; nothing was done.
            Unavailable: No answer in time, or the link was lost; it may have been done.
            AuthenticationFailed: The connection has given up, since its token was refused.
        """
        message = await self.request_message(subject, data, timeout_seconds)
        return bytes(message.data)

    async def request_message(self, subject: str, data: bytes, timeout_seconds: float) -> Msg:
        """Like `request`, and return the whole message."""
        token = str(next(self._numbers))
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._is_up():
                    await self._wait_for_link()
                self.publish(subject, data, self._prefix + token)
                answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
                self._waiting[token] = answer
                message = await answer
        except TimeoutError:
            raise failures.no_answer(self.address, subject, timeout_seconds) from None
        finally:
            self._waiting.pop(token, None)
        if not message.data and message.headers and message.headers.get("Status") == "503":
            raise failures.nobody(self.address, subject)
        return message

    async def subscribe(self, subject: str, callback: Callback, queue: str = "") -> Subscription:
        """Listen on a subject, through all reconnects, until `unsubscribe`.

        Messages come to the callback one at a time in their order; what it raises is logged and
        does not end the subscription. A synchronous callback costs least. Nothing is dropped for
        being slow: bound the work elsewhere.
        """
        subscription = Subscription(subject, callback, queue, self._forget)
        self._subscriptions[id(subscription)] = subscription
        if self._link is not None and self._link.is_connected:
            await subscription.attach(self._link)
        return subscription

    async def flush(self, timeout_seconds: float = 5.0) -> None:
        """Wait until the server has seen everything sent so far, subscriptions too.

        Raises:
            Unavailable: It did not confirm in time.
        """
        link = self._require_link()
        try:
            await link.flush(timeout_seconds)
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"no answer from the NATS server at {self.address}") from error

    async def wait_closed(self) -> None:
        """Wait until the connection is closed for good, by `close` or by `failure`."""
        await self._ended.wait()

    async def close(self) -> None:
        """Close now. Open requests end with Unavailable."""
        self._closing = True
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        if self._link is not None:
            await self._link.close_within(CLOSE_SECONDS)
        for subscription in list(self._subscriptions.values()):
            await subscription.stop()
        self._end(None)

    async def drain(self) -> None:
        """Stop listening, finish what has arrived (at most 10 s), send what is waiting, close."""
        own_inbox = self._prefix + "*"
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                for subscription in list(self._subscriptions.values()):
                    if subscription.subject != own_inbox:
                        await subscription.drain()
                if self.is_connected:
                    await self.flush(DRAIN_SECONDS)
        except TimeoutError:
            log.warning("closing the NATS connection %s before all messages are handled", self.name)
        except (Unavailable, NatsError) as error:
            log.info("draining %s: %s", self.name, error)
        await self.close()

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- the present link -----------------------------------------------------------------

    def _require_link(self) -> Link:
        if self.failure is not None:
            raise self.failure
        if self._link is None or not self._up.is_set():
            raise Unavailable(f"the connection to {self.address} is down: try again")
        return self._link

    def _is_up(self) -> bool:
        """Whether there is a link; one that was just lost is none, before its end is told."""
        if self._link is not None and not self._link.takes_messages:
            self._up.clear()
        return self._up.is_set()

    async def _wait_for_link(self) -> None:
        if self._closing:
            raise failures.closed(self.address)
        if self.failure is not None:
            raise self.failure
        if not self._reconnect:
            raise failures.lost_before(self.address)
        await self._up.wait()
        if self.failure is not None:
            raise self.failure

    async def _dial_any(self, deadline: float | None = None) -> Link:
        return await dial_any(
            self._servers,
            self.credentials,
            self._dial,
            each_seconds=self._connect_timeout,
            deadline=deadline,
        )

    async def _dial(self, server: str, credentials: Credentials, seconds: float) -> Link:
        own = credentials is self.credentials  # else it only looks who gets in
        return await dial(
            server,
            credentials,
            name=self.name if own else "",
            tls=self._tls,
            trust=self._trust if own else None,
            timeout_seconds=seconds,
            on_closed=self._link_closed if own else _nothing,
        )

    async def _adopt(self, link: Link) -> None:
        known = {address(server) for server in self._servers}
        for found in link.discovered_servers:
            if (url := found.geturl()) not in known:
                self._servers.append(url)
        self._link = link
        for subscription in list(self._subscriptions.values()):
            await subscription.attach(link)
        if link.is_connected:
            self._up.set()

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.pop(id(subscription), None)

    def _receive_reply(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject[len(self._prefix) :])
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _link_closed(self, link: Client) -> None:
        if self._closing or link is not self._link:
            return
        self._up.clear()
        lost = failures.lost(self.address)
        self._fail_waiting(lost.message)
        log.info("NATS connection %s lost", self.name)
        if not self._reconnect:
            self._end(lost)
        elif self._reopening is None or self._reopening.done():
            self._reopening = asyncio.create_task(self._reopen(), name=f"reopen {self.name}")

    def _fail_waiting(self, why: str) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Unavailable(why))

    async def _reopen(self) -> None:
        """Come back; a link that is lost again while listeners are told starts it anew."""
        while not self._up.is_set():
            await self._tell(self._on_disconnect)
            await self._redial()
            if self.failure is not None or self._closing:
                return
            log.info("NATS connection %s stands again", self.name)
            await self._tell(self._on_reconnect)

    async def _redial(self) -> None:
        for attempt in itertools.count():
            longest = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempt, 10))
            await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
            if self._closing:  # nats-py swallows a cancellation now and then
                return
            try:
                self._tls = tls_context(self._trust, self._servers)  # the file may be a new one
                await self._adopt(await self._dial_any())
            except AuthenticationFailed as error:
                if not isinstance(self.credentials, ServiceLogin):
                    self._end(error)
                    return
                log.warning("NATS connection %s: %s", self.name, error)
            except (Unavailable, Misconfigured, NatsError) as error:
                log.log(logging.WARNING if attempt == 3 else logging.DEBUG, "%s", error)
            if self._up.is_set():
                return

    async def _tell(self, listeners: list[Listener]) -> None:
        for listener in list(listeners):
            try:
                outcome = listener()
                if outcome is not None:
                    await outcome
            except Exception:  # a listener must not stop the reconnecting
                log.exception("a listener of NATS connection %s failed", self.name)

    def _end(self, failure: MitosisError | None) -> None:
        self.failure = self.failure or failure
        self._fail_waiting(f"the connection to {self.address} was closed")
        if failure is not None:
            self._up.set()  # wake those who wait for a link: they see the failure
        else:
            self._up.clear()
        self._ended.set()


async def _nothing(_: Client) -> None:
    """Nobody waits for the end of a probing link."""
