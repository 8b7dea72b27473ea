"""What a failed connection or an unanswered request means, and how it is said.

Written once for both ways of connecting (connection.py, blocking.py), so that whoever asks hears
the same.
"""

import re
from collections.abc import Sequence

from mitosis.errors import (
    AuthenticationFailed,
    Misconfigured,
    MitosisError,
    NoCoordinator,
    StoreUnavailable,
    TooLarge,
    Unavailable,
)
from mitosis.nats.credentials import Credentials, Guest, ServiceLogin, Token

# A responder says no within milliseconds; the server gives up after its own timeout (3 s in our
# configuration) with the same error. Slower than this, a no proves nothing.
DECISION_SECONDS = 1.0
_UNSAFE = re.compile(r"[ \t\r\n]")
_REFUSALS = ("authorization violation", "authentication timeout", "user authentication")


class Refused(Exception):
    """The server does not let this identity in. What that means depends on who else gets in.

    Attributes:
        decided: Whether somebody said no. False: the answer took so long that the server may
            have given up waiting for it, which it tells in the same words.
    """

    decided = True


def address(server: str) -> str:
    """Return the address without a user or password that somebody put into it."""
    scheme, mark, rest = server.rpartition("://")
    return scheme + mark + rest.rpartition("@")[2]


def is_service(credentials: Credentials) -> bool:
    """Whether the server itself knows this identity, without asking anybody."""
    return isinstance(credentials, ServiceLogin)


def is_refusal(text: str) -> bool:
    """Whether an error of the server, in small letters, says that somebody is not let in."""
    return any(words in text for words in _REFUSALS)


# --- connecting -------------------------------------------------------------------------------


def refused(server: str, credentials: Credentials) -> Refused:
    """The server has said no."""
    return Refused(f"the NATS server at {address(server)} refused {_who(credentials)}")


def undecided(server: str, why: str) -> Refused:
    """Nobody has said yes or no in time."""
    found = Refused(f"{address(server)} {why}")
    found.decided = False
    return found


def no_address(server: str) -> Misconfigured:
    """The address is malformed."""
    return Misconfigured(
        f"{address(server)!r} is no address of a NATS server: write nats://HOST:PORT"
    )


def insecure(server: str, cause: object) -> Misconfigured:
    """TLS cannot be agreed, for a reason that the library gives."""
    return Misconfigured(
        f"no secure connection to the NATS server at {address(server)} ({cause}): "
        "check nats_ca and the certificate of the server",
        server=address(server),
    )


def not_believed(server: str, reason: str) -> Misconfigured:
    """The certificate of the server is not believed, for a reason that was looked for."""
    return Misconfigured(
        f"no secure connection to the NATS server at {address(server)}: {reason}",
        server=address(server),
    )


def away(server: str, credentials: Credentials, cause: Exception) -> Unavailable:
    """Nobody answers there, or not as a NATS server does."""
    place, why = address(server), _reason(cause)
    if is_service(credentials):
        return StoreUnavailable(
            f"no NATS server answers at {place} ({why}): start it, or correct nats_url",
            server=place,
        )
    return NoCoordinator(
        f"no coordinator answers at {place} ({why}): start it, or correct its address",
        server=place,
    )


def hung_up(server: str, credentials: Credentials) -> StoreUnavailable | Refused:
    """The stream has ended in place of a greeting.

    A server that refuses says so first, but its words may be lost with the connection.
    """
    if is_service(credentials):
        return StoreUnavailable(
            f"the NATS server at {address(server)} closed the connection at once: try again",
            server=address(server),
        )
    return undecided(server, "closed the connection before it decided")


def absent(server: str) -> NoCoordinator:
    """The server lets nobody in, not even a guest."""
    return NoCoordinator(
        f"no coordinator answers at {address(server)}: a NATS server runs there, but nobody "
        "decides who may connect; start the coordinator",
        server=address(server),
    )


def too_slow(server: str) -> Unavailable:
    """A guest gets in, and of this identity nobody has said that it does not."""
    return Unavailable(
        f"{address(server)} took too long to decide who may connect: no coordinator runs there, or "
        "it is busy. Try again",
        server=address(server),
    )


def not_accepted(server: str, token: Token) -> AuthenticationFailed:
    """A guest gets in, and this token does not."""
    return AuthenticationFailed(
        f"the session of {token.kind} {token.owner!r} is not accepted any more: log in again",
        server=address(server),
    )


def wrong_login(server: str, no: Refused) -> AuthenticationFailed:
    """The server does not accept a name and password of its own configuration."""
    return AuthenticationFailed(str(no), server=address(server))


# --- asking -----------------------------------------------------------------------------------


def addresses(servers: Sequence[str]) -> str:
    """Return all servers as they are named in messages."""
    return ", ".join(map(address, servers))


def nobody(servers: str, subject: str) -> MitosisError:
    """Nobody listens on a subject; nothing was done."""
    if subject.startswith("$JS."):
        return StoreUnavailable(f"JetStream does not answer at {servers}", subject=subject)
    return NoCoordinator(
        f"no coordinator answers at {servers}: start it, or correct its address", subject=subject
    )


def no_answer(servers: str, subject: str, timeout_seconds: float) -> Unavailable:
    """No answer in time; it may have been done."""
    return Unavailable(
        f"no answer from {servers} in {timeout_seconds:.3g} s: try again", subject=subject
    )


def lost(servers: str) -> Unavailable:
    """The connection has ended while an answer was waited for; it may have been done."""
    return Unavailable(f"the connection to {servers} was lost before the answer came")


def lost_before(servers: str) -> Unavailable:
    """The connection had ended before, and does not come back by itself."""
    return Unavailable(f"the connection to {servers} was lost: try again")


def closed(servers: str) -> Unavailable:
    """The connection was closed by this side."""
    return Unavailable(f"the connection to {servers} is closed")


def check_subjects(subject: str, reply: str) -> None:
    """Check that a message can be sent there.

    Raises:
        ValueError: One of the subjects would end the command, and begin another one.
    """
    if not subject or _UNSAFE.search(subject) or _UNSAFE.search(reply):
        raise ValueError(f"malformed subject {subject!r} or reply {reply!r}")


def too_large(size: int, limit: int) -> TooLarge:
    """The message has more bytes than the server takes."""
    return TooLarge(
        f"the message has {size} bytes, the NATS server takes {limit}", size=size, limit=limit
    )


def _who(credentials: Credentials) -> str:
    match credentials:
        case ServiceLogin(user, _, settings):
            return f"user {user!r}: check {settings}"
        case Guest():
            return "a guest"
        case _:
            return f"the token of {credentials.kind} {credentials.owner!r}"


def _reason(cause: Exception) -> str:
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return str(cause) or type(cause).__name__
