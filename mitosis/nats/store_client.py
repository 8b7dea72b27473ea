"""A connection of its own for the event store, by nats-py with its own reconnecting.

Appends and reads do not share a buffer with requests and pushes; and the store settles what was on
its way by itself after a loss (events/writer.py), so that nats-py's way of coming back fits here.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence

from nats.errors import Error as NatsError

from mitosis.errors import StoreUnavailable
from mitosis.nats.credentials import ServiceLogin, inbox_prefix
from mitosis.nats.failures import address
from mitosis.nats.prompt import PromptClient
from mitosis.tls import Trust

log = logging.getLogger(__name__)

StoreClient = PromptClient
"""What appends and reads events; for code outside of this room."""

PING_SECONDS = 10
RECONNECT_PAUSE_SECONDS = 0.25


async def open_store_client(
    servers: Sequence[str],
    login: ServiceLogin,
    *,
    name: str,
    tls: ssl.SSLContext | None = None,
    trust: Trust | None = None,
    timeout_seconds: float = 5.0,
) -> PromptClient:
    """Connect as a service; the client comes back for ever after a loss.

    With `trust`, of which `tls` was made, its file is read again when a certificate is not
    believed: the authority may have been replaced.

    Raises:
        StoreUnavailable: No server answers, or it refuses the login.
    """
    seen: list[Exception] = []

    async def on_error(error: Exception) -> None:
        seen.append(error)
        if isinstance(error, ssl.SSLError) and tls is not None and trust is not None and trust.ca:
            with contextlib.suppress(OSError):  # the next try says what is wrong
                tls.load_verify_locations(trust.ca)
        log.info("event store connection: %s", error or type(error).__name__)

    try:
        async with asyncio.timeout(timeout_seconds):
            client = PromptClient()
            await client.connect(
                servers=list(servers),
                name=name,
                user=login.user,
                password=login.password,
                inbox_prefix=inbox_prefix(login).encode(),
                tls=tls,
                error_cb=on_error,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_PAUSE_SECONDS,  # type: ignore[arg-type]
                ping_interval=PING_SECONDS,
            )
            return client
    except (TimeoutError, OSError, NatsError) as error:
        cause = seen[-1] if seen else error
        places = ", ".join(address(server) for server in servers)
        raise StoreUnavailable(
            f"no NATS server answers at {places} ({cause or type(cause).__name__}): start it, or "
            "correct nats_url, nats_user and nats_password",
            server=places,
        ) from error
