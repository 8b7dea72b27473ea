"""Who may become the one writer.

A coordinator that is alive answers `hello` on the login subject. Another one that starts asks
first, and waits as a standby while somebody answers. When nobody has answered for
`SILENT_SECONDS`, it opens a term. Asking is only politeness: what keeps two writers apart is the
expected end of the stream on each append, and the term event that fences the former one.
"""

import asyncio
import logging
import secrets

from mitosis._version import __version__
from mitosis.contract import login, subjects
from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection
from mitosis.nats.rpc import call

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
SILENT_SECONDS = 4.0


async def active_term(connection: Connection) -> int | None:
    """Return the term of the coordinator that answers, or None."""
    try:
        reply = await call(
            connection,
            subjects.login("hello"),
            login.Hello(__version__),
            login.Welcome,
            command_id=secrets.token_hex(8),
            timeout_seconds=ASK_SECONDS,
        )
    except MitosisError:
        return None
    return reply.result.term if reply.result else None


async def wait_for_office(connection: Connection) -> None:
    """Return when no other coordinator is alive: at once, or after it was silent long enough."""
    term = await active_term(connection)
    if term is None:
        return
    log.info("another coordinator holds term %d: waiting as standby", term)
    clock = asyncio.get_running_loop().time
    heard_at = clock()
    while clock() - heard_at < SILENT_SECONDS:
        await asyncio.sleep(ASK_SECONDS)
        if await active_term(connection) is not None:
            heard_at = clock()
    log.info("no coordinator has answered for %g s: taking over", SILENT_SECONDS)
