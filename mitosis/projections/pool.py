"""A few connections for reads: opened when needed, thrown away when broken, never above a bound.

psycopg_pool does more, in background tasks with a back-off of their own: after an outage it can
wait half a minute before it tries again. A read wants to know at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg.errors import DeadlockDetected

from mitosis.errors import MitosisError, ViewUnavailable
from mitosis.projections.postgres import Connection, connect, explained, shown

T = TypeVar("T")

# The server ends a long read; if the server itself is frozen, this side gives up a little later.
STATEMENT_SECONDS = 4.0
READ_SECONDS = 5.0
READ_SETTINGS = {
    "statement_timeout": f"{STATEMENT_SECONDS:g}s",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "10s",
    "jit": "off",
    "search_path": "views",  # reads name tables without it: past.py gives them other rows
}


class ReadPool:
    """Runs reads on a bounded number of read-only connections."""

    def __init__(self, url: str, *, size: int = 4, wait_seconds: float = 2.0) -> None:
        """At most `size` connections; a read waits `wait_seconds` for a free one."""
        self._url = url
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._wait_seconds = wait_seconds
        self._closed = False

    async def read(
        self, query: Callable[[Connection], Awaitable[T]], seconds: float = READ_SECONDS
    ) -> T:
        """Run a read; once more if the connection was dead, or a rebuild came between its tables.

        Args:
            query: Reads.
            seconds: How long it may take.

        Raises:
            ViewUnavailable: Postgres does not answer, or all connections are busy.
            MitosisError: What the read raises.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise ViewUnavailable("too many reads at once: send it again") from None
        try:
            if self._idle:
                connection = self._idle.pop()
                try:
                    return await self._run(connection, query, seconds)
                except ViewUnavailable:
                    if not connection.broken:
                        raise
                    await self._drop_idle()  # a restarted server has closed them all
            return await self._run(await self._connect(), query, seconds)
        finally:
            self._free.release()

    async def _connect(self) -> Connection:
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await connect(self._url, "mito-queries", settings=READ_SETTINGS)
        except TimeoutError:
            raise ViewUnavailable(
                f"Postgres at {shown(self._url)} does not answer in {self._wait_seconds:g} s"
            ) from None

    async def _run(
        self, connection: Connection, query: Callable[[Connection], Awaitable[T]], seconds: float
    ) -> T:
        reusable = False
        try:
            with explained(self._url):
                async with asyncio.timeout(seconds):
                    try:
                        result = await query(connection)
                    except DeadlockDetected:
                        # A rebuild took the place of tables, of which this had read some already.
                        result = await query(connection)
            reusable = True
        except MitosisError:
            reusable = not connection.broken
            raise
        finally:
            if reusable and not self._closed:
                self._idle.append(connection)
            else:
                await connection.close()
        return result

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def close(self) -> None:
        """Close all connections; those in use when their read is done."""
        self._closed = True
        await self._drop_idle()
