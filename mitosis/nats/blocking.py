"""A connection for one thread that asks, waits for the answer, and has nothing else to do.

It means the same as `Connection`, in the same words and within the same times, at a tenth of its
start: no event loop, no task, no library (decisions/0041). What it lacks is listening: whoever
subscribes needs a `Connection`.

Its methods are coroutine functions, so that those who ask are written once for both. They block in
place and never suspend: `finish` runs what is made of them without an event loop.
"""

import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from mitosis.errors import AuthenticationFailed, Misconfigured, MitosisError, Unavailable
from mitosis.nats import failures
from mitosis.nats.blocking_dial import dial
from mitosis.nats.blocking_link import BlockingLink, Broken, Message
from mitosis.nats.credentials import Credentials, ServiceLogin, inbox_prefix
from mitosis.nats.dialling import dial_any, tls_context
from mitosis.nats.failures import address
from mitosis.tls import Trust

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0
SYSTEM_TRUST = Trust("nats_ca")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end which blocks where others suspend, and return its result.

    Raises:
        RuntimeError: It does suspend: it waits for something that only an event loop brings.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError(f"{work!r} needs an event loop")


def pause(seconds: float) -> None:
    """Wait so long in place."""
    time.sleep(max(0.0, seconds))


class BlockingConnection:
    """One identity's connection to a NATS server or cluster; open it with `open`.

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
        self._reconnect = reconnect
        self._connect_timeout = connect_timeout_seconds
        self._link: BlockingLink | None = None
        self._closed = False
        self._numbers = itertools.count(1)
        self._prefix = inbox_prefix(credentials) + "."
        self._on_reconnect: Callable[[], None] | None = None

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
        on_reconnect: Callable[[], None] | None = None,
    ) -> "BlockingConnection":
        """Connect, once through the list of servers. Arguments and errors as of `Connection.open`.

        With `reconnect` it comes back with the next request after a loss.
        """
        self = cls(
            servers,
            credentials,
            name=name,
            trust=trust,
            reconnect=reconnect,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        await self._dial_any(deadline)
        self._on_reconnect = on_reconnect
        return self

    @property
    def address(self) -> str:
        """The servers, for messages."""
        return failures.addresses(self._servers)

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        """Send a request and return the bytes of the first answer.

        Comes back first, if the link was lost, inside the same time.

        Raises:
            NoCoordinator: Nobody listens on the subject; nothing was done.
            Unavailable: No answer in time, or the link was lost; it may have been done.
            AuthenticationFailed: The connection has given up, since its token was refused.
        """
        deadline = time.monotonic() + timeout_seconds
        reply = f"{self._prefix}{next(self._numbers)}"
        try:
            link = await self._present_link() or await self._come_back(deadline)
            message = await self._exchange(link, subject, data, reply, deadline)
        except TimeoutError:
            raise failures.no_answer(self.address, subject, timeout_seconds) from None
        if not message.data and message.status == "503":
            raise failures.nobody(self.address, subject)
        return message.data

    async def close(self) -> None:
        """Close now; may be called twice."""
        self._closed = True
        await self._drop_link()

    async def __aenter__(self) -> "BlockingConnection":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _exchange(
        self, link: BlockingLink, subject: str, data: bytes, reply: str, deadline: float
    ) -> Message:
        try:
            link.publish(subject, data, reply, deadline)
            while True:
                message = link.receive(deadline)
                if message.subject == reply:  # else a late answer to an earlier request
                    return message
        except TimeoutError:
            raise
        except (OSError, Broken) as error:
            log.info("NATS connection %s lost: %s", self.name, error)
            await self._drop_link()
            raise failures.lost(self.address) from error
        finally:
            if link.is_torn:  # its time was over, or Ctrl-C came, in the middle of a message
                await self._drop_link()

    async def _present_link(self) -> BlockingLink | None:
        """Return the link if it stands, as far as one can see."""
        if self._link is not None:
            try:
                self._link.catch_up()
            except (OSError, Broken) as error:
                log.info("NATS connection %s lost: %s", self.name, error)
                await self._drop_link()
        return self._link

    async def _come_back(self, deadline: float) -> BlockingLink:
        """Open a new link.

        Raises:
            TimeoutError: None stands in time.
        """
        if self._closed:
            raise failures.closed(self.address)
        if self.failure is not None:
            raise self.failure
        if not self._reconnect:
            raise failures.lost_before(self.address)
        for attempt in itertools.count():
            if time.monotonic() >= deadline:
                raise TimeoutError
            try:
                link = await self._dial_any(deadline)
            except AuthenticationFailed as error:
                if not isinstance(self.credentials, ServiceLogin):
                    self.failure = error
                    raise
                log.warning("NATS connection %s: %s", self.name, error)
            except (Unavailable, Misconfigured) as error:
                log.debug("%s", error)
            else:
                if self._on_reconnect is not None:
                    self._on_reconnect()
                return link
            delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**attempt)
            pause(min(delay, deadline - time.monotonic()))
        raise AssertionError("the tries end with the time only")

    async def _dial_any(self, deadline: float | None) -> BlockingLink:
        tls = tls_context(self._trust, self._servers)  # the file may be a new one

        async def dial_one(server: str, credentials: Credentials, seconds: float) -> BlockingLink:
            own = credentials is self.credentials  # else it only looks who gets in
            return await dial(
                server,
                credentials,
                name=self.name if own else "",
                inbox=f"{self._prefix}*" if own else f"{inbox_prefix(credentials)}.*",
                tls=tls,
                trust=self._trust if own else None,
                timeout_seconds=seconds,
            )

        link = await dial_any(
            self._servers,
            self.credentials,
            dial_one,
            each_seconds=self._connect_timeout,
            deadline=deadline,
        )
        known = {address(server) for server in self._servers}
        scheme = "tls" if link.server.startswith("tls://") else "nats"
        for place in link.discovered:
            if (url := f"{scheme}://{place}") not in known:
                self._servers.append(url)
        self._link = link
        return link

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()
