"""Choosing among servers, and what a refusal by one of them means; for both ways of connecting."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

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
Dial = Callable[[str, Credentials, float], Awaitable[L]]
"""Opens a link to a server as somebody in so many seconds; raises what `link.dial` raises."""

LEAST_SECONDS = 0.001  # 0 would mean: for ever


class _Turn(NamedTuple, Generic[L]):
    """One server's turn: its address, and how long it may take."""

    server: str
    dial: Dial[L]
    each_seconds: float
    deadline: float | None
    waiting: int

    async def enter(self, credentials: Credentials) -> L:
        """Dial; nobody who is silent takes more than a fair share of the time that is left."""
        seconds = self.each_seconds
        if self.deadline is not None:
            seconds = min(seconds, (self.deadline - time.monotonic()) / self.waiting)
        return await self.dial(self.server, credentials, max(LEAST_SECONDS, seconds))

    @property
    def is_over(self) -> bool:
        """Whether no time is left, for this or any other server."""
        return self.deadline is not None and time.monotonic() >= self.deadline


async def dial_any(
    servers: Sequence[str],
    credentials: Credentials,
    dial: Dial[L],
    *,
    each_seconds: float,
    deadline: float | None = None,
) -> L:
    """Try every server once, in random order.

    Args:
        servers: Their addresses.
        credentials: Who connects.
        dial: Connects to one of them.
        each_seconds: How long one may take at most.
        deadline: When all is over, by `time.monotonic`; each gets an equal share of what is left.

    Raises:
        MitosisError: Why none can be used.
    """
    errors: list[MitosisError] = []
    order = in_random_order(servers)
    for tried, server in enumerate(order):
        turn = _Turn(server, dial, each_seconds, deadline, len(order) - tried)
        try:
            return await turn.enter(credentials)
        except Refused as refused:
            why = await _explain_refusal(turn, credentials, refused)
            if not isinstance(credentials, Token) or not isinstance(why, AuthenticationFailed):
                raise why from refused
            return await _once_more(turn, credentials, why)
        except (Unavailable, Misconfigured) as error:
            errors.append(error)
    raise errors[0]


def in_random_order(servers: Sequence[str]) -> list[str]:
    """Return all servers; those who come spread over them."""
    if len(servers) == 1:
        return list(servers)
    import random  # it costs the start of a command some milliseconds

    return random.sample(servers, len(servers))


async def _explain_refusal(
    turn: _Turn[L], credentials: Credentials, refused: Refused
) -> MitosisError:
    """Tell a bad identity from an absent coordinator: does a guest get in?"""
    server = turn.server
    if isinstance(credentials, ServiceLogin):
        return failures.wrong_login(server, refused)
    if turn.is_over:
        return failures.too_slow(server)
    if isinstance(credentials, Guest):
        return failures.absent(server)
    try:
        guest = await turn.enter(Guest())
    except (Refused, Unavailable):
        return failures.too_slow(server) if turn.is_over else failures.absent(server)
    await guest.close()
    if not refused.decided:
        return failures.too_slow(server)
    return failures.not_accepted(server, credentials)


async def _once_more(turn: _Turn[L], credentials: Token, why: AuthenticationFailed) -> L:
    """Try a token again that was refused right before a guest got in.

    Between the terms of two coordinators nobody decides, and the server says the same. Who takes
    its token for refused throws it away, and a worker all that it runs.
    """
    try:
        return await turn.enter(credentials)
    except Refused as refused:
        if not refused.decided:
            raise failures.too_slow(turn.server) from refused
        raise why from refused


def tls_context(trust: Trust, servers: Sequence[str]) -> "ssl.SSLContext | None":
    """Return how to secure connections to these servers, or None for not at all.

    Raises:
        Misconfigured: The certificate of the authority cannot be used.
    """
    if trust.ca is None and not any(server.startswith(("tls://", "wss://")) for server in servers):
        return None
    return trust.context()
