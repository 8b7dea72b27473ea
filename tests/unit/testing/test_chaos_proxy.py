"""The link that the fault suite cuts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mitosis.testing.chaos.proxy import Cut, Link

SOON = 0.2


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def link(echo: int) -> AsyncIterator[Link]:
    link = await Link([("127.0.0.1", 1), ("127.0.0.1", echo)]).start()
    yield link
    await link.close()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, link: Link) -> "Peer":
        return cls(*await asyncio.open_connection("127.0.0.1", link.port))

    async def says(self, text: bytes, seconds: float = 5.0) -> bytes | None:
        """What comes back; None: nothing in this time, or the end."""
        self.writer.write(text + b"\n")
        return await self.hears(seconds)

    async def hears(self, seconds: float = 5.0) -> bytes | None:
        try:
            line = await asyncio.wait_for(self.reader.readline(), seconds)
        except (TimeoutError, OSError):
            return None
        return line.strip() or None


async def test_a_whole_link_goes_to_the_first_place_that_answers(link: Link) -> None:
    assert await (await Peer.of(link)).says(b"one") == b"one"


async def test_a_link_can_lead_to_a_unix_socket(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    place = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(answer, place):
        link = await Link([place]).start()
        assert await (await Peer.of(link)).says(b"one") == b"one"
        await link.close()


async def test_a_dropped_link_closes_what_stands_and_lets_nobody_through(link: Link) -> None:
    peer = await Peer.of(link)
    assert await peer.says(b"one") == b"one"
    link.cut(Cut.DROP)
    assert await peer.hears() is None
    assert await (await Peer.of(link)).says(b"two") is None
    link.heal()
    assert await (await Peer.of(link)).says(b"three") == b"three"


async def test_a_stalled_link_delivers_later_what_was_sent(link: Link) -> None:
    peer = await Peer.of(link)
    assert await peer.says(b"one") == b"one"
    link.cut(Cut.STALL)
    assert await peer.says(b"two", SOON) is None
    link.heal()
    assert await peer.hears() == b"two"


async def test_a_silent_link_stands_and_loses_what_was_sent(link: Link) -> None:
    peer = await Peer.of(link)
    assert await peer.says(b"one") == b"one"
    link.cut(Cut.SILENT)
    assert await peer.says(b"two", SOON) is None
    assert not peer.reader.at_eof()
    link.heal()
    assert await peer.hears() is None, "what was lost stays lost"
    assert await (await Peer.of(link)).says(b"three") == b"three"


async def test_a_slow_link_takes_longer(link: Link) -> None:
    peer = await Peer.of(link)
    link.cut(Cut.DELAY, delay_seconds=SOON)
    before = asyncio.get_running_loop().time()
    assert await peer.says(b"one") == b"one"
    assert asyncio.get_running_loop().time() - before >= 2 * SOON


async def test_answers_to_some_connections_are_lost_and_what_they_send_is_not(link: Link) -> None:
    lost, other = await Peer.of(link), await Peer.of(link)
    assert await lost.says(b"I am the store") == b"I am the store"
    assert await other.says(b"I am another") == b"I am another"
    link.lose_answers(to=b"the store")
    assert await lost.says(b"two", SOON) is None
    assert await other.says(b"two") == b"two"
    link.heal()
    assert await lost.hears() is None  # closed: a stream with a hole is of no use
    assert await (await Peer.of(link)).says(b"the store") == b"the store"
