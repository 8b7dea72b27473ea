"""Reading from the socket: against a server of few words, which says them when it must."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg

from mitosis.nats.intake import promptly
from mitosis.nats.prompt import PromptClient
from mitosis.testing.waiting import eventually

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

INFO = b'INFO {"server_id":"S","version":"2.12.0","headers":true,"max_payload":1048576}\r\n'


@asynccontextmanager
async def server(say: Say) -> AsyncIterator[str]:
    """A server that greets, takes CONNECT and PING, and then does what it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        while await reader.readline() != b"PING\r\n":
            pass
        await say(reader, writer)

    served = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with served:
        yield f"nats://127.0.0.1:{served.sockets[0].getsockname()[1]}"


async def connected(url: str, **options: object) -> PromptClient:
    client = PromptClient()
    await client.connect(url, allow_reconnect=False, **options)  # type: ignore[arg-type]
    return client


async def test_what_comes_in_one_piece_with_the_greeting_is_heard() -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PONG\r\nMSG a 1 3\r\none\r\nMSG a 1 3\r\nt")
        await writer.drain()
        await listening.wait()
        writer.write(b"wo\r\n")

    listening, seen = asyncio.Event(), list[bytes]()
    async with server(say) as url:
        client = PromptClient()
        # It listens before it is connected, as all that listened do after a reconnect.
        client._subs[1] = _Listener(lambda message: seen.append(message.data))  # type: ignore[assignment]
        await client.connect(url, allow_reconnect=False)
        listening.set()
        await eventually(lambda: len(seen) == 2)
        assert seen == [b"one", b"two"]
        client._subs.clear()
        await client.close()


class _Listener:
    """As much of a subscription as reading looks at."""

    def __init__(self, callback: Callable[[Msg], None]) -> None:
        self._cb = promptly(callback)
        self._max_msgs = self._received = 0
        self.subject = "a"


@pytest.mark.parametrize("pieces", [1, 2])
async def test_the_last_words_of_a_server_that_hangs_up_are_told_before_its_end(
    pieces: int,
) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PONG\r\n")
        words = b"-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
        for at in range(pieces):
            writer.write(words[at * len(words) // pieces : (at + 1) * len(words) // pieces])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    told: list[str] = []
    closed = asyncio.Event()

    async def note(error: Exception) -> None:
        told.append(str(error))

    async def end() -> None:
        closed.set()

    async with server(say) as url:
        await connected(url, error_cb=note, closed_cb=end)
        await asyncio.wait_for(closed.wait(), 5)
    assert "permissions violation" in told[0]
    assert "unexpected EOF" in told[1]


async def test_what_is_not_the_protocol_of_nats_ends_the_connection() -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PONG\r\nHTTP/1.1 400 Bad Request\r\n")

    closed = asyncio.Event()

    async def end() -> None:
        closed.set()

    async with server(say) as url:
        client = await connected(url, closed_cb=end)
        await asyncio.wait_for(closed.wait(), 5)
    assert client.is_closed


async def test_a_ping_among_messages_is_answered_and_their_order_stays() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PONG\r\n")
        while not (await reader.readline()).startswith(b"SUB a"):
            pass
        writer.write(b"MSG a 1 1\r\n1\r\nPING\r\nMSG a 1 1\r\n2\r\n")
        await writer.drain()
        answers.append(await reader.readline())
        writer.write(b"MSG a 1 1\r\n3\r\n")

    answers, seen = list[bytes](), list[bytes]()
    async with server(say) as url:
        client = await connected(url)
        await client.subscribe("a", cb=promptly(lambda message: seen.append(message.data)))
        await eventually(lambda: len(seen) == 3)
        assert (seen, answers) == ([b"1", b"2", b"3"], [b"PONG\r\n"])
        await client.close()
