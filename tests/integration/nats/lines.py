"""Both ways of connecting behind one face, for the tests that hold them to the same promises."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from mitosis.nats.blocking import BlockingConnection, finish
from mitosis.nats.connection import Connection
from mitosis.nats.credentials import Credentials


class Line(Protocol):
    """What both can do."""

    failure: Exception | None
    address: str

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes: ...

    async def close(self) -> None: ...


class InThread:
    """A `BlockingConnection` in a thread, so that it may wait for what runs on the event loop."""

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection

    @property
    def failure(self) -> Exception | None:
        return self._connection.failure

    @property
    def address(self) -> str:
        return self._connection.address

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        work = self._connection.request(subject, data, timeout_seconds)
        return await asyncio.to_thread(finish, work)

    async def close(self) -> None:
        await asyncio.to_thread(finish, self._connection.close())


KINDS = ("loop", "in place")


async def open_line(
    kind: str, servers: Sequence[str], credentials: Credentials, *, name: str = "x", **options: Any
) -> Line:
    """Open a connection of a kind of `KINDS`."""
    if kind == "loop":
        return await Connection.open(servers, credentials, name=name, **options)
    opening = BlockingConnection.open(servers, credentials, name=name, **options)
    return InThread(await asyncio.to_thread(finish, opening))
