"""Being found: services answer `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` of NATS."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import nats.micro
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.micro.request import Request
from nats.micro.service import Service

from mitosis.errors import Unavailable
from mitosis.nats.connection import Connection

log = logging.getLogger(__name__)

_INBOXES = "_INBOX."


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
        """Register now and after every reconnect; without a link, with the next one."""
        self._connection.add_listener(on_reconnect=self._register)
        await self._register()

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
        try:
            await self._put_up()
        except (NatsError, Unavailable) as error:
            log.info("%s is not in the list of services until the next link: %s", self._name, error)

    async def _put_up(self) -> None:
        self._service = await nats.micro.add_service(
            cast(Client, _InboxesOnly(self._connection.raw)),
            name=self._name,
            version=self._version,
            description=self._description,
        )
        await self._service.add_endpoint(
            name="status", subject=f"{self._name}.status", handler=self._answer
        )

    async def _answer(self, request: Request) -> None:
        await request.respond(msgspec.json.encode(self._status()))


class _InboxesOnly:
    """The link as nats.micro sees it: a question that wants its answer elsewhere is dropped.

    The server does not check the reply subject of whoever asks, and a service may publish
    anywhere: an answer sent to `mito.events.>` would be stored, and end the history.
    """

    def __init__(self, link: Client) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    async def subscribe(
        self, subject: str, *, cb: Callable[[Msg], Awaitable[None]], **options: Any
    ) -> Subscription:
        async def answer(message: Msg) -> None:
            if message.reply.startswith(_INBOXES):
                await cb(message)
            else:
                log.warning(
                    "a question on %s wants its answer on %r, which is no inbox: dropped",
                    message.subject,
                    message.reply,
                )

        return await self._link.subscribe(subject, cb=answer, **options)
