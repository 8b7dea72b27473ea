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

# The one that leads may have been cut off right before it was asked again. So the silence is longer
# than a proof of its standing counts (standing.py) by the time between two questions.
PAUSE_SECONDS = 0.5
ASK_SECONDS = 1.0
SILENT_SECONDS = 4.0
MOST_PAUSE_SECONDS = 3.0  # twice as long as between two questions that nobody answers


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
    silence = _Silence()
    connection.add_listener(on_reconnect=silence.begin)
    try:
        await _until_silent(connection, silence, fenced=fenced)
    finally:
        connection.remove_listener(silence.begin)


class _Silence:
    """How long nobody has answered who could have been heard."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self.begin()

    def begin(self) -> None:
        """Count anew: somebody was heard, or nobody could be."""
        self._since = self._looked_at = self._clock()

    def look(self) -> None:
        """Count on; after a long pause anew, since this process was frozen itself."""
        paused = self._clock() - self._looked_at
        self._looked_at = self._clock()
        if paused > MOST_PAUSE_SECONDS:
            self.begin()

    @property
    def is_long(self) -> bool:
        """Whether it has lasted for so long that nobody can be there."""
        return self._clock() - self._since >= SILENT_SECONDS


async def _until_silent(connection: Connection, silence: _Silence, *, fenced: bool) -> None:
    told = False
    while True:
        try:
            term = await active_term(connection)
            in_sight = connection.lone_server is not None and not fenced
        except Unavailable as error:
            silence.look()
            if not connection.is_connected:
                silence.begin()
            elif silence.is_long:
                break
            log.info("who leads is not known: %s", error)
        else:
            silence.look()
            if term is None and not told and in_sight:
                return
            if term is not None:
                silence.begin()
                if not told:
                    log.info("another coordinator holds term %d: waiting as standby", term)
                    told = True
            elif silence.is_long:
                break
        await asyncio.sleep(PAUSE_SECONDS)
    log.info("no coordinator has answered for %g s: taking over", SILENT_SECONDS)
