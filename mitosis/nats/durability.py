"""Does the NATS server sync every commit before it acknowledges it? Asked of the server itself."""

import msgspec

from mitosis.errors import Unavailable
from mitosis.nats.connection import Connection

ASK_SECONDS = 2.0


class _Config(msgspec.Struct):
    sync_always: bool = False


class _JetStream(msgspec.Struct):
    config: _Config = msgspec.field(default_factory=_Config)


class _Answer(msgspec.Struct):
    data: _JetStream = msgspec.field(default_factory=_JetStream)


_decode = msgspec.json.Decoder(_Answer).decode


async def syncs_always(system: Connection) -> bool:
    """Return whether `sync_interval: always` is set; of a cluster the first server answers.

    Args:
        system: A connection of the system account.

    Raises:
        Unavailable: The server does not tell.
    """
    answer = await system.request("$SYS.REQ.SERVER.PING.JSZ", b"{}", ASK_SECONDS)
    try:
        return _decode(answer).data.config.sync_always
    except msgspec.MsgspecError as error:
        raise Unavailable(
            f"the NATS server's answer about JetStream cannot be read: {error}"
        ) from error
