"""Being found: services answer `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` of NATS."""

import logging
from collections.abc import Callable

import msgspec
import nats.micro
from nats.errors import Error as NatsError
from nats.micro.request import Request
from nats.micro.service import Service

from mitosis.errors import Unavailable
from mitosis.nats.connection import Connection

log = logging.getLogger(__name__)


class Discovery:
    """One service's entry, put up again on every new link."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        version: str,
        description: str,
        status: Callable[[], msgspec.Struct],
    ) -> None:
        """`name`: `mito-coordinator` or `mito-projector`; `status` is what its endpoint says."""
        self._connection = connection
        self._name = name
        self._version = version
        self._description = description
        self._status = status
        self._service: Service | None = None

    async def start(self) -> None:
        """Register now and after every reconnect."""
        await self._register()
        self._connection.add_listener(on_reconnect=self._register)

    async def stop(self) -> None:
        """Be gone from the lists."""
        self._connection.remove_listener(self._register)
        if self._service is not None and self._connection.is_connected:
            try:
                await self._service.stop()
            except (NatsError, Unavailable) as error:
                log.info("%s could not sign off: %s", self._name, error)
        self._service = None

    async def _register(self) -> None:
        self._service = await nats.micro.add_service(
            self._connection.raw,
            name=self._name,
            version=self._version,
            description=self._description,
        )
        await self._service.add_endpoint(
            name="status", subject=f"{self._name}.status", handler=self._answer
        )

    async def _answer(self, request: Request) -> None:
        await request.respond(msgspec.json.encode(self._status()))
