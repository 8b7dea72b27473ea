"""Choosing among servers, and what a refusal by one of them means; for both ways of connecting."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from mitosis.errors import AuthenticationFailed, Misconfigured, MitosisError, Unavailable
from mitosis.nats import failures
from mitosis.nats.credentials import Credentials, Guest, ServiceLogin, Token
from mitosis.nats.failures import Refused
from mitosis.tls import Trust

if TYPE_CHECKING:
    import ssl


class Closable(Protocol):
    """A link, as far as it matters here."""

    async def close(self) -> None:
        """Close it."""


L = TypeVar("L", bound=Closable)
Dial = Callable[[str, Credentials], Awaitable[L]]
"""Opens a link to a server as somebody; raises what `link.dial` raises."""


async def dial_any(servers: Sequence[str], credentials: Credentials, dial: Dial[L]) -> L:
    """Try every server once, in random order.

    Raises:
        MitosisError: Why none can be used.
    """
    errors: list[MitosisError] = []
    for server in in_random_order(servers):
        try:
            return await dial(server, credentials)
        except Refused as refused:
            why = await explain_refusal(server, credentials, refused, dial)
            if not isinstance(credentials, Token) or not isinstance(why, AuthenticationFailed):
                raise why from refused
            return await _once_more(server, credentials, why, dial)
        except (Unavailable, Misconfigured) as error:
            errors.append(error)
    raise errors[0]


def in_random_order(servers: Sequence[str]) -> list[str]:
    """Return all servers; those who come spread over them."""
    if len(servers) == 1:
        return list(servers)
    import random  # it costs the start of a command some milliseconds

    return random.sample(servers, len(servers))


async def explain_refusal(
    server: str, credentials: Credentials, refused: Refused, dial: Dial[L]
) -> MitosisError:
    """Tell a bad identity from an absent coordinator: does a guest get in?"""
    if isinstance(credentials, ServiceLogin):
        return failures.wrong_login(server, refused)
    if isinstance(credentials, Guest):
        return failures.absent(server)
    try:
        guest = await dial(server, Guest())
    except (Refused, Unavailable):
        return failures.absent(server)
    await guest.close()
    if not refused.decided:
        return failures.too_slow(server)
    return failures.not_accepted(server, credentials)


async def _once_more(
    server: str, credentials: Token, why: AuthenticationFailed, dial: Dial[L]
) -> L:
    """Try a token again that was refused right before a guest got in.

    Between the terms of two coordinators nobody decides, and the server says the same. Who takes
    its token for refused throws it away, and a worker all that it runs.
    """
    try:
        return await dial(server, credentials)
    except Refused as refused:
        if not refused.decided:
            raise failures.too_slow(server) from refused
        raise why from refused


def tls_context(trust: Trust, servers: Sequence[str]) -> "ssl.SSLContext | None":
    """Return how to secure connections to these servers, or None for not at all.

    Raises:
        Misconfigured: The certificate of the authority cannot be used.
    """
    if trust.ca is None and not any(server.startswith(("tls://", "wss://")) for server in servers):
        return None
    return trust.context()
