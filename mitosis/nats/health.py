"""Why a NATS server does not take commits: asked of the server, which answers publishers nothing.

nats-server 2.15 keeps silent towards whoever publishes to a stream whose file cannot be written,
and goes on so when there is space again, until it is restarted. Its own health report knows.
"""

import logging

import msgspec

from mitosis.errors import MitosisError
from mitosis.nats.connection import Connection

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0
_WRITE_ERROR = "write error: "


class _Health(msgspec.Struct):
    error: str = ""


class _Server(msgspec.Struct):
    name: str = ""


class _Answer(msgspec.Struct):
    server: _Server = msgspec.field(default_factory=_Server)
    data: _Health = msgspec.field(default_factory=_Health)


_decode = msgspec.json.Decoder(_Answer).decode


async def write_fault(system: Connection) -> str | None:
    """Return why the server cannot write a stream, or None when it can or does not tell.

    Of a cluster the first server that answers is believed: ask only when commits are not taken.

    Args:
        system: A connection of the system account.
    """
    try:
        raw = await system.request("$SYS.REQ.SERVER.PING.HEALTHZ", b"{}", ASK_SECONDS)
        answer = _decode(raw)
    except (MitosisError, msgspec.MsgspecError) as error:
        log.info("the NATS server does not tell how it is: %s", error)
        return None
    _, found, reason = answer.data.error.partition(_WRITE_ERROR)
    if not found:
        return None
    # Without the path of its file, which is nobody's business.
    return f"the NATS server {answer.server.name} cannot write: {reason.rpartition(': ')[2]}"
