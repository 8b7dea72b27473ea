"""Opening a blocking link, and what it means when that fails."""

import time
from typing import TYPE_CHECKING

from mitosis.errors import MitosisError
from mitosis.nats import failures
from mitosis.nats.blocking_link import BlockingLink, Broken, NoTls, Said, place_of
from mitosis.nats.credentials import Credentials, connect_options
from mitosis.nats.failures import DECISION_SECONDS, Refused
from mitosis.tls import Place, Trust, why_refused

if TYPE_CHECKING:
    import ssl


async def dial(
    server: str,
    credentials: Credentials,
    *,
    name: str,
    inbox: str,
    tls: "ssl.SSLContext | None",
    trust: Trust | None = None,
    timeout_seconds: float,
) -> BlockingLink:
    """Open one link to one server; blocks, and never suspends.

    With `trust`, of which `tls` was made, a certificate that is not believed is looked at closely.

    Raises:
        Unavailable: Nobody listens there (StoreUnavailable for services, else NoCoordinator).
        Refused: The server does not let this identity in.
        Misconfigured: The address is malformed, or TLS cannot be agreed.
    """
    link, started = BlockingLink(server), time.monotonic()
    try:
        link.enter(connect_options(credentials, name), inbox, tls, started + timeout_seconds)
    except (OSError, ValueError, Broken, Said, NoTls) as error:
        await link.close()
        failure = _explain(error, link, credentials, trust)
        if isinstance(failure, Refused) and time.monotonic() - started >= DECISION_SECONDS:
            failure.decided = False
        raise failure from error
    except BaseException:
        await link.close()
        raise
    return link


def _explain(
    cause: Exception, link: BlockingLink, credentials: Credentials, trust: Trust | None
) -> MitosisError | Refused:
    """Say what a failed attempt to connect means for this identity."""
    server = link.server
    match cause:
        case Said() if failures.is_refusal(str(cause)):
            return failures.refused(server, credentials)
        case NoTls():
            return _insecure(server, cause, trust)
        case TimeoutError() if link.has_greeted and not failures.is_service(credentials):
            return failures.undecided(server, "did not decide in time")
        case Broken() if link.has_greeted:
            return failures.hung_up(server, credentials)
        case ValueError():
            return failures.no_address(server)
    return failures.away(server, credentials, cause)


def _insecure(server: str, cause: NoTls, trust: Trust | None) -> MitosisError:
    if trust is not None and isinstance(cause.args[0], OSError):
        host, port = place_of(server)
        reason = why_refused(Place(host, port, "nats"), trust)
        if reason is not None:
            return failures.not_believed(server, reason)
    return failures.insecure(server, cause)
