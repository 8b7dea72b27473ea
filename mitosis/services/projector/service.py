"""The projector: keeps the read models up to the stream and answers reads from them."""

import asyncio
import logging
from contextlib import suppress

import msgspec

from mitosis._version import __version__
from mitosis.contract.subjects import EVENTS_STREAM, QUERIES_ALL
from mitosis.nats.connection import Connection
from mitosis.nats.discovery import Discovery
from mitosis.nats.rpc import Endpoints
from mitosis.projections.pool import ReadPool
from mitosis.projections.queries import Queries
from mitosis.projections.runner import Runner
from mitosis.projections.store import ViewStore
from mitosis.services.projector.decoding import decode
from mitosis.services.projector.handlers import Links, QueryHandlers
from mitosis.services.projector.head import Head
from mitosis.services.projector.presence import PresenceOfWorkers
from mitosis.services.projector.source import StreamSource

log = logging.getLogger(__name__)

QUEUE = "projector"


class ProjectorStatus(msgspec.Struct):
    """What the projector says of itself; `active`: it writes, else it stands by and answers."""

    active: bool
    applied_position: int


class ProjectorService:
    """Runs until stopped. Several may run at once: one writes, all answer.

    Attributes:
        runner: The projection.
    """

    def __init__(
        self,
        connection: Connection,
        db_url: str,
        links: Links,
        *,
        stream: str = EVENTS_STREAM,
        pool_size: int = 4,
    ) -> None:
        """Args: open connection of a service, database, makers of download links."""
        source = StreamSource(connection, stream)
        self._db_url = db_url
        self.runner = Runner(db_url, source, decode, stream=stream)
        self._pool = ReadPool(db_url, size=pool_size)
        self._endpoints = Endpoints(connection, QUERIES_ALL)
        QueryHandlers(
            Queries(self._pool, decode),
            self.runner.progress,
            Head(source.last_position),
            links,
            PresenceOfWorkers(connection),
            connection.publish,
        ).register(self._endpoints)
        self._discovery = Discovery(
            connection, "mito-projector", __version__, "Read models of Mitosis", self.status
        )
        self._task: asyncio.Task[None] | None = None

    def status(self) -> ProjectorStatus:
        """Return what `$SRV` and health checks show."""
        return ProjectorStatus(self.runner.active, self.runner.applied_position)

    async def start(self) -> None:
        """Check the database, then project and answer.

        Raises:
            ViewUnavailable: Postgres does not answer; the address is named without its password.
            Misconfigured: No access, or tables of another version.
        """
        store = await ViewStore.open(self._db_url)
        await store.close()
        self._task = asyncio.create_task(self.runner.run(), name="project")
        await self._endpoints.start(QUEUE)
        await self._discovery.start()

    async def wait(self) -> None:
        """Return when stopped.

        Raises:
            CorruptData: The history cannot be read, or is not what was read before.
            Misconfigured: The database has become one of another version or stream.
        """
        if self._task is not None:
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()

    async def stop(self) -> None:
        """Answer what is being asked, then stop. Safe to call twice, or before `start`."""
        await self._discovery.stop()
        await self._endpoints.stop()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(self._task, return_exceptions=True)
        await self._pool.close()
