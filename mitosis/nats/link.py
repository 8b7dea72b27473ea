"""One TCP connection by nats-py, without its own reconnecting; connection.py makes it last.

nats-py stays closed after some errors of the server and keeps two ways of coming back. Here a
link lives once: whoever wants another one opens another one.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client
from nats.protocol.command import pub_cmd

from mitosis.errors import MitosisError, Unavailable
from mitosis.nats import failures
from mitosis.nats.credentials import Credentials, connect_options, inbox_prefix
from mitosis.nats.failures import (
    DECISION_SECONDS,
    Refused,
    address,
    check_subjects,
    is_refusal,
    is_service,
    too_large,
)
from mitosis.nats.prompt import PromptClient
from mitosis.tls import Place, Trust, why_refused

log = logging.getLogger(__name__)

DEFAULT_PORT = 4222
MAX_WAITING_BYTES = 64 * 1024 * 1024  # a server that reads so slowly is as good as away
PING_SECONDS = 10  # two unanswered pings: a dead server is noticed within 30 s
_TLS_ERRORS = (ssl.SSLError, errors.SecureConnWantedError, errors.SecureConnFailedError)


class Link(PromptClient):
    """nats-py's client; its publish never waits, its flush confirms, its TLS is not dropped."""

    tls_wanted = False
    is_broken = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and self.tls_wanted and not info.get("tls_required"):
            raise errors.SecureConnWantedError
        await super()._process_info(info, initial_connection)

    @property
    def has_greeted(self) -> bool:
        """Whether a NATS server has spoken at the other end."""
        return bool(self._server_info)

    @property
    def lone_server(self) -> str | None:
        """Id of the server if it belongs to no cluster, else None."""
        if "cluster" in self._server_info:
            return None
        return str(self._server_info["server_id"])

    async def flush(self, timeout: float = 10.0) -> None:
        """Wait until the server has seen everything sent so far.

        nats-py's own PING overtakes what still waits in its buffer, so that is written first.
        """
        if self.is_connected and self._flush_queue is not None and self._pending_data_size:
            written = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await self._flush_queue.put(written)
                await written
        await super().flush(timeout)  # type: ignore[arg-type]

    async def _process_op_err(self, e: Exception) -> None:
        """Let the end of a broken link be told, whatever still waited to be sent on it.

        nats-py would try to write it once more, fail, and never call `closed_cb`.
        """
        self._pending, self._pending_data_size = [], 0
        self.is_broken = True
        await super()._process_op_err(e)

    async def abandon(self) -> None:
        """Close a link that never came to stand, at whatever point it failed."""
        if self._flush_queue is not None:  # unset when not even the address could be read
            await self.close_within(0.25)

    async def close_within(self, seconds: float) -> None:
        """Close; asyncio never tells the end of a link whose TLS handshake failed."""
        try:
            async with asyncio.timeout(seconds):
                await self.close()
        except TimeoutError:
            log.debug("a NATS link did not end in time; its socket is closed")

    @property
    def takes_messages(self) -> bool:
        """Whether something can be sent; not from the moment on at which its end is found."""
        return bool(self.is_connected) and not self.is_broken and self._flush_queue is not None

    def send(self, subject: str, data: bytes, reply: str = "") -> None:
        """Put a message into the outgoing buffer, which is written at the end of this turn.

        Raises:
            Unavailable: The link is down, or the server does not read.
            TooLarge: More than the server takes in one message.
        """
        if not self.takes_messages:
            raise Unavailable("the connection to the NATS server is down: send it again")
        if len(data) > self._max_payload:
            raise too_large(len(data), self._max_payload)
        check_subjects(subject, reply)
        if self._pending_data_size > MAX_WAITING_BYTES:
            raise Unavailable("the NATS server does not keep up with what is sent to it")
        command = pub_cmd(subject, reply, data)
        self._pending.append(command)
        self._pending_data_size += len(command)
        self.write_soon()


async def dial(
    server: str,
    credentials: Credentials,
    *,
    name: str,
    tls: ssl.SSLContext | None,
    trust: Trust | None = None,
    timeout_seconds: float,
    on_closed: Callable[[Client], Awaitable[None]],
    on_error: Callable[[Exception], None] | None = None,
) -> Link:
    """Open one link to one server. Errors of the open link go to `on_error`, else to the log.

    With `trust`, of which `tls` was made, a certificate that is not believed is looked at closely.

    Raises:
        Unavailable: Nobody listens there (StoreUnavailable for services, else NoCoordinator).
        Refused: The server does not let this identity in.
        Misconfigured: The address is malformed, or TLS cannot be agreed.
    """
    link = Link()
    link.tls_wanted = tls is not None
    seen: list[Exception] = []

    async def note_error(error: Exception) -> None:
        if not opened:
            seen.append(error)
        elif on_error is not None:
            on_error(error)
        else:
            log_error(error, server)

    async def on_close() -> None:
        if opened:
            await on_closed(link)

    opened = False
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout_seconds):
            await link.connect(
                servers=[server],
                **connect_options(credentials, name),  # type: ignore[arg-type]
                inbox_prefix=inbox_prefix(credentials),
                tls=tls,
                error_cb=note_error,
                closed_cb=on_close,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # 0 would mean: for ever
                reconnect_time_wait=0,
                connect_timeout=timeout_seconds,  # type: ignore[arg-type]
                ping_interval=PING_SECONDS,
            )
    except (TimeoutError, OSError, errors.Error, ValueError) as error:
        await link.abandon()
        cause = seen[0] if isinstance(error, errors.NoServersError) and seen else error
        if isinstance(cause, TimeoutError) and link.has_greeted and not is_service(credentials):
            raise failures.undecided(server, "did not decide in time") from error
        failure = explain(cause, server, credentials)
        if isinstance(cause, ssl.SSLError) and trust is not None:
            failure = await _closely(failure, server, trust)
        if isinstance(failure, Refused) and time.monotonic() - started >= DECISION_SECONDS:
            failure.decided = False
        raise failure from error
    except BaseException:
        await link.abandon()
        raise
    if not link.is_connected:
        await link.abandon()
        raise failures.hung_up(server, credentials)
    opened = True
    return link


async def _closely(
    failure: MitosisError | Refused, server: str, trust: Trust
) -> MitosisError | Refused:
    parts = urlsplit(server)
    place = Place(parts.hostname or "", parts.port or DEFAULT_PORT, "nats")
    reason = await asyncio.to_thread(why_refused, place, trust)
    return failure if reason is None else failures.not_believed(server, reason)


def explain(cause: Exception, server: str, credentials: Credentials) -> MitosisError | Refused:
    """Say what a failed attempt to connect means for this identity."""
    text = str(cause).lower()
    if isinstance(cause, errors.AuthorizationError) or is_refusal(text):
        return failures.refused(server, credentials)
    if isinstance(cause, _TLS_ERRORS):
        return failures.insecure(server, cause)
    if isinstance(cause, ValueError) or "connect url" in text:
        return failures.no_address(server)
    return failures.away(server, credentials, cause)


def log_error(error: Exception, server: str) -> None:
    """Write down an error of an open link. A denied subject is a mistake of ours or an attack."""
    if "permissions violation" in str(error).lower():
        log.warning("NATS permission denied: %s", error, extra={"server": address(server)})
    elif isinstance(error, errors.Error | OSError):
        log.info("NATS connection: %s", error, extra={"server": address(server)})
    else:
        log.error("a NATS callback failed: %s", error, exc_info=error)
