"""A TCP link that can be cut: refused, silent (half open), stalled or slow."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

CHUNK_BYTES = 65_536
CONNECT_SECONDS = 2.0
OPENING_BYTES = 4_096  # of a connection, in which it says who it is

Place = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


class Cut(StrEnum):
    """What is wrong with a link.

    `DROP`: what stands is closed, nobody gets through. `SILENT`: it stands, and what is sent is
    lost; closed when the link is whole again. `STALL`: it stands, and what is sent arrives when
    the link is whole again. `DELAY`: everything takes longer.
    """

    DROP = "drop"
    SILENT = "silent"
    STALL = "stall"
    DELAY = "delay"


class Link:
    """Listens on loopback and passes on to the first of its places that answers.

    Args:
        places: The servers behind it, preferred first.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = list(places)
        self._server: asyncio.Server | None = None
        self._cut: Cut | None = None
        self._delay_seconds = 0.0
        self._unanswered: bytes | None = None
        self._whole = asyncio.Event()
        self._whole.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()

    async def start(self) -> "Link":
        """Begin to listen, on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        if self._server is None:
            raise RuntimeError("the link was not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self, how: Cut, delay_seconds: float = 0.1) -> None:
        """Break it; `delay_seconds` is what each piece takes longer over a slow one."""
        self._cut, self._delay_seconds = how, delay_seconds
        if how is Cut.DROP:
            self._close_all()
        elif how is Cut.STALL:
            self._whole.clear()

    def lose_answers(self, to: bytes) -> None:
        """Pass on what is sent, and lose what comes back, until it is whole again.

        Args:
            to: Only connections that begin with words which hold these.
        """
        self._unanswered = to

    def heal(self) -> None:
        """Make it whole again."""
        if self._cut is Cut.SILENT or self._unanswered is not None:
            self._close_all()
        self._cut = self._unanswered = None
        self._whole.set()

    async def close(self) -> None:
        """Listen no more, and close what stands."""
        self.heal()
        self._close_all()
        if self._server is not None:
            self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    def _close_all(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            await self._whole.wait()
            far = None if self._cut is Cut.DROP else await self._connect()
            if far is not None:
                await self._pass_both(reader, writer, *far)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for place in self._places:
            with suppress(OSError, TimeoutError):
                return await asyncio.wait_for(_open(place), CONNECT_SECONDS)
        return None

    async def _pass_both(
        self,
        near_reader: asyncio.StreamReader,
        near: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far: asyncio.StreamWriter,
    ) -> None:
        self._open.add(far)
        opening = bytearray()
        pumps = [
            asyncio.create_task(self._pump(near_reader, far, opening)),
            asyncio.create_task(self._pump(far_reader, near, opening, answers=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._open.discard(far)
            far.transport.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opening: bytearray,
        *,
        answers: bool = False,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._whole.wait()
                if not answers and len(opening) < OPENING_BYTES:
                    opening += data[:OPENING_BYTES]
                lost = answers and self._unanswered is not None and self._unanswered in opening
                if self._cut is Cut.SILENT or lost:
                    continue
                if self._cut is Cut.DELAY:
                    await asyncio.sleep(self._delay_seconds)
                writer.write(data)
                await writer.drain()


async def _open(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(place, str):
        return await asyncio.open_unix_connection(place)
    return await asyncio.open_connection(*place)
