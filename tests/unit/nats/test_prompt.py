"""Writing to the socket at the end of a turn of the event loop."""

import asyncio
from types import SimpleNamespace

from nats.aio.client import Client

from mitosis.nats.prompt import PromptClient


async def test_to_a_socket_that_has_just_closed_nothing_is_written() -> None:
    """uvloop raises from such a write, as here; nobody who sends sees that, and the log has it."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: failures.append(what))

    def closed(_: list[bytes]) -> None:
        raise RuntimeError("unable to perform operation: the handler is closed")

    transport = SimpleNamespace(get_write_buffer_size=lambda: 0, is_closing=lambda: True)
    client = PromptClient()
    client._status = Client.CONNECTED
    client._flush_queue = asyncio.Queue()
    client._transport = SimpleNamespace(  # type: ignore[assignment]
        _io_writer=SimpleNamespace(transport=transport, writelines=closed)
    )
    client._pending.append(b"PING\r\n")
    client.write_soon()
    await asyncio.sleep(0)  # the turn ends
    assert failures == []
    assert client._pending == [b"PING\r\n"]
