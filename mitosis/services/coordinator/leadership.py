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
from mitosis.errors import NoCoordinator, Unavailable
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
SILENT_SECONDS = 4.0


async def active_term(connection: Connection) -> int | None:
    """Return the term of the coordinator that answers, or None when there is none.

    Raises:
        Unavailable: Nobody knows: no answer in time, or the own connection is down.
    """
    try:
        reply = await call(
            connection,
            subjects.login("hello"),
            login.Hello(__version__),
            login.Welcome,
            command_id=secrets.token_hex(8),
            timeout_seconds=ASK_SECONDS,
        )
    except NoCoordinator:
        return None
    return reply.result.term if reply.result else None


async def wait_for_office(connection: Connection, *, fenced: bool = False) -> None:
    """Return when no other coordinator is alive.

    At once when a lone server says that nobody listens; else after nobody has answered for long
    enough. In a cluster the one that leads may only be out of hearing, in the other half, and goes
    on answering for a moment (standing.py). With `fenced` somebody else has just taken over: two
    coordinators must not take the office from each other all the time.
    """
    clock = asyncio.get_running_loop().time
    heard_at, told = clock(), False
    while True:
        try:
            term = await active_term(connection)
            in_sight = connection.lone_server is not None and not fenced
        except Unavailable as error:
            if clock() - heard_at >= SILENT_SECONDS and connection.is_connected:
                break
            log.info("who leads is not known: %s", error)
        else:
            if term is None and not told and in_sight:
                return
            if term is not None:
                heard_at = clock()
                if not told:
                    log.info("another coordinator holds term %d: waiting as standby", term)
                    told = True
            elif clock() - heard_at >= SILENT_SECONDS:
                break
        await asyncio.sleep(ASK_SECONDS)
    log.info("no coordinator has answered for %g s: taking over", SILENT_SECONDS)
