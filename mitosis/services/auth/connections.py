"""Live connections, as the system account sees them: who is there, who has gone, who must go."""

import asyncio
import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

import msgspec

from mitosis.errors import Unavailable
from mitosis.nats.connection import Connection, Msg, Subscription
from mitosis.services.auth.permissions import user_label, worker_label

log = logging.getLogger(__name__)

PAGE = 4_096
ANSWER_SECONDS = 2.0
QUIET_SECONDS = 0.25  # servers that we do not know of yet have this long to answer
SECOND_LOOK_SECONDS = 0.2  # a connection let in just before a change stands by then
_USER = user_label("")
_WORKER = worker_label("")


class LiveConnection(msgspec.Struct):
    """A client connection."""

    cid: int
    start: datetime
    authorized_user: str = ""
    name: str = ""
    ip: str = ""
    server: str = ""


class _Page(msgspec.Struct):
    server_id: str
    now: datetime
    total: int
    offset: int
    connections: list[LiveConnection]


class _PageReply(msgspec.Struct):
    data: _Page | None = None


class _Server(msgspec.Struct):
    id: str


class _Client(msgspec.Struct):
    id: int
    user: str = ""


class _Event(msgspec.Struct):
    server: _Server
    client: _Client


class Connections:
    """Lists and closes connections of one account, and follows those of workers."""

    def __init__(
        self,
        system: Connection,
        account: str,
        *,
        on_worker_gone: Callable[[str], None],
        on_worker_back: Callable[[str], None] | None = None,
    ) -> None:
        """`on_worker_gone` gets the UUID when the last connection of a worker is lost."""
        self._system = system
        self._account = account
        self._on_gone = on_worker_gone
        self._on_back = on_worker_back
        self._servers: set[str] = set()
        self._workers: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._left_meanwhile: set[tuple[str, int]] | None = None  # while a comparison runs
        self._subscriptions: list[Subscription] = []
        self._events = msgspec.json.Decoder(_Event)
        self._pages = msgspec.json.Decoder(_PageReply)

    async def start(self) -> None:
        """Follow connects and disconnects; after a lost link the present state is compared."""
        for kind, callback in (("CONNECT", self._connected), ("DISCONNECT", self._disconnected)):
            subject = f"$SYS.ACCOUNT.{self._account}.{kind}"
            self._subscriptions.append(await self._system.subscribe(subject, callback))
        await self._system.flush()
        await self._compare()
        self._system.add_listener(on_reconnect=self._compare)

    async def stop(self) -> None:
        """Stop following."""
        self._system.remove_listener(self._compare)
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()

    def worker_is_connected(self, uuid: str) -> bool:
        """Whether the worker has a connection."""
        return uuid in self._workers

    async def live(self, label: str = "") -> list[LiveConnection]:
        """Return the account's connections; only those of one identity if a label is given.

        Raises:
            Unavailable: No server answers.
        """
        return [found for _, found in await self._look(label)]

    async def kick_user(self, name: str) -> int:
        """Close all connections of a user; they may come back with what is true by then.

        Returns:
            How many were closed.

        Raises:
            Unavailable: No server answers.
        """
        return await self.kick_users(frozenset({name}))

    async def kick_users(self, names: frozenset[str] | None) -> int:
        """Close all connections of these users, or of every user; as `kick_user`."""
        if names is None:
            return await self._kick(lambda label: label.startswith(_USER))
        labels = {user_label(name) for name in names}
        alone = labels.copy().pop() if len(labels) == 1 else ""
        return await self._kick(labels.__contains__, alone)

    async def kick_worker(self, uuid: str) -> int:
        """Close all connections of a worker, as `kick_user`."""
        return await self._kick(lambda _: True, worker_label(uuid))

    async def kick_others(self, name: str, instance: str) -> int:
        """Close connections of other processes of the same service (names `<name>... <instance>`).

        A frozen process keeps its subscriptions until the server misses its pings. Until then every
        second login would be given to it, and wait in vain.

        Returns:
            How many were closed.

        Raises:
            Unavailable: No server answers.
        """
        others = [
            found
            for found in await self.live()
            if found.name.startswith(name) and not found.name.endswith(f" {instance}")
        ]
        for found in others:
            self._close(found)
        return len(others)

    async def _kick(self, wanted: Callable[[str], bool], label: str = "") -> int:
        """Close what stood, or was being let in, before the first look; by the servers' clocks.

        Args:
            wanted: Of the labels of connections.
            label: The only one that is asked for, which spares the servers the others.
        """
        closed: set[tuple[str, int]] = set()
        first_look: dict[str, datetime] = {}
        for look in range(2):
            if look:
                await asyncio.sleep(SECOND_LOOK_SECONDS)
            for now, found in await self._look(label):
                before = first_look.setdefault(found.server, now)
                if found.start <= before and wanted(found.authorized_user):
                    self._close(found)
                    closed.add((found.server, found.cid))
        return len(closed)

    def _close(self, found: LiveConnection) -> None:
        self._system.publish(
            f"$SYS.REQ.SERVER.{found.server}.KICK",
            msgspec.json.encode({"cid": found.cid}),
            self._system.inbox + "kick",  # the server ignores it without one
        )

    async def _look(self, label: str) -> list[tuple[datetime, LiveConnection]]:
        found: list[tuple[datetime, LiveConnection]] = []
        for offset in itertools.count(0, PAGE):
            pages = await self._ask(label, offset)
            for page in pages:
                for connection in page.connections:
                    connection.server = page.server_id
                    found.append((page.now, connection))
            if all(page.offset + PAGE >= page.total for page in pages):
                return found
        raise AssertionError("unreachable")

    async def _ask(self, label: str, offset: int) -> list[_Page]:
        """Ask every server; return when all known ones have answered, or after a silence."""
        body: dict[str, object] = {"auth": True, "limit": PAGE, "offset": offset}
        body |= {"user": label} if label else {}
        answers: asyncio.Queue[_Page] = asyncio.Queue()

        def receive(message: Msg) -> None:
            reply = self._pages.decode(message.data)
            if reply.data is not None:
                answers.put_nowait(reply.data)

        inbox = f"{self._system.inbox}all{id(answers)}"
        subscription = await self._system.subscribe(inbox, receive)
        try:
            self._system.publish(
                f"$SYS.REQ.ACCOUNT.{self._account}.CONNZ", msgspec.json.encode(body), inbox
            )
            return await self._gather(answers)
        finally:
            with contextlib.suppress(Unavailable):
                await subscription.unsubscribe()

    async def _gather(self, answers: "asyncio.Queue[_Page]") -> list[_Page]:
        pages: list[_Page] = []
        alone = self._system.lone_server
        if alone is not None:
            self._servers = {alone}
        missing = set(self._servers)
        while missing or not pages or not self._servers:
            patience = QUIET_SECONDS if pages and not missing else ANSWER_SECONDS
            try:
                async with asyncio.timeout(patience):
                    page = await answers.get()
            except TimeoutError:
                break
            pages.append(page)
            missing.discard(page.server_id)
        if not pages:
            raise Unavailable("the NATS server does not list its connections: try again")
        self._servers -= missing  # a server that has left the cluster
        self._servers.update(page.server_id for page in pages)
        return pages

    def _connected(self, message: Msg) -> None:
        event = self._events.decode(message.data)
        self._servers.add(event.server.id)
        if event.client.user.startswith(_WORKER):
            uuid = event.client.user[len(_WORKER) :]
            self._arrived(uuid, (event.server.id, event.client.id))

    def _disconnected(self, message: Msg) -> None:
        event = self._events.decode(message.data)
        if event.client.user.startswith(_WORKER):
            uuid = event.client.user[len(_WORKER) :]
            self._left(uuid, (event.server.id, event.client.id))

    def _arrived(self, uuid: str, connection: tuple[str, int]) -> None:
        known = uuid in self._workers
        self._workers[uuid].add(connection)
        if not known and self._on_back is not None:
            self._on_back(uuid)

    def _left(self, uuid: str, connection: tuple[str, int]) -> None:
        if self._left_meanwhile is not None:
            self._left_meanwhile.add(connection)
        connections = self._workers.get(uuid)
        if connections is None:
            return
        connections.discard(connection)
        if not connections:
            del self._workers[uuid]
            self._on_gone(uuid)

    async def _compare(self) -> None:
        """Take the servers' word for who is connected; events may have been missed.

        Their word is as old as the question: what comes or goes meanwhile is told by events.
        """
        before = {uuid: set(connections) for uuid, connections in self._workers.items()}
        left = self._left_meanwhile = set()
        try:
            present = await self._present()
        except Unavailable as error:
            log.warning("connections of workers are not known: %s", error)
            return
        finally:
            self._left_meanwhile = None
        # Arrivals first: a worker that came back before anybody looked was never away.
        for uuid, connections in present.items():
            for arrived in connections - left:
                self._arrived(uuid, arrived)
        for uuid, connections in before.items():
            for gone in connections - present.get(uuid, set()):
                self._left(uuid, gone)

    async def _present(self) -> dict[str, set[tuple[str, int]]]:
        present: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for connection in await self.live():
            if connection.authorized_user.startswith(_WORKER):
                uuid = connection.authorized_user[len(_WORKER) :]
                present[uuid].add((connection.server, connection.cid))
        return present
