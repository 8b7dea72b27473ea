"""A whole platform of separate processes, with a link that can be cut before each of them."""

import asyncio
import itertools
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from mitosis.config.client import ClientConfig
from mitosis.nats.nkeys import issuer_account
from mitosis.nats.server_config import CalloutConfig, ClusterConfig, NatsServerConfig
from mitosis.services.platform.credentials import ADMIN_USER, Credentials
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import DATABASE, USER, EmbeddedPostgres
from mitosis.services.platform.embedded_s3 import HOST, EmbeddedS3
from mitosis.services.platform.ports import free_ports
from mitosis.services.platform.server import EmbeddedServer
from mitosis.services.platform.service_config import (
    Addresses,
    coordinator_config,
    worker_config,
    write_config,
)
from mitosis.testing.chaos.parts import Part, Server, Service
from mitosis.testing.chaos.proxy import Cut, Link, Place

COORDINATORS = 2
LAB = "lab"
CLIENT_TIMEOUT = timedelta(seconds=10)
DEAD_PORT = 1  # what nodes tell of each other, or one would learn of a way that cannot be cut


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How large a platform is.

    Attributes:
        nats_nodes: 1 or 3.
        workers: Each a process with a work folder of its own.
        slots: Of each.
        lease_seconds: Of an attempt.
        code: Folder with the package that the services run; None: the one that runs this.
        settings: More settings of parts, by name and key.
        environment: More variables of parts, by name of the part and of the variable.
    """

    nats_nodes: int = 1
    workers: int = 3
    slots: int = 3
    lease_seconds: float = 5.0
    code: Path | None = None
    settings: dict[str, dict[str, Any]] = {}
    environment: dict[str, dict[str, str]] = {}


class Site:
    """The platform; an asynchronous context manager that leaves nothing behind.

    Args:
        root: A short path that is not there yet.
        shape: How large.

    Attributes:
        parts: What can be killed, by name.
        links: What can be cut, by the name of who is behind it.
        ways: From one NATS node of a cluster to another one, by their numbers from 0.
    """

    def __init__(self, root: Path, shape: Shape) -> None:
        self.root, self.shape = root, shape
        self.parts: dict[str, Part] = {}
        self.links: dict[str, Link] = {}
        self.ways: dict[tuple[int, int], Link] = {}
        self.ledger, self.locks = root / "ledger", root / "locks"
        for folder in (root, self.locks, root / "config", root / "logs", root / "secrets"):
            folder.mkdir(mode=0o700)
        self.credentials = Credentials(root / "secrets")
        self.postgres = EmbeddedPostgres(root / "pg", durable=False)
        self.s3 = EmbeddedS3(root / "s3", keys=self.credentials.s3, sync_objects=False)
        self._routes = free_ports(shape.nats_nodes)
        self.nats = [self._nats_node(n, p) for n, p in enumerate(free_ports(shape.nats_nodes))]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start_servers()
            await self._start_services()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def of_kind(self, *kinds: str) -> list[Part]:
        """Return the parts of some kinds."""
        return [part for part in self.parts.values() if part.kind in kinds]

    @property
    def services(self) -> list[Service]:
        """The processes that are ours."""
        return [part for part in self.parts.values() if isinstance(part, Service)]

    def client_config(
        self,
        user: str = ADMIN_USER,
        password: str = "",
        timeout: timedelta = CLIENT_TIMEOUT,
    ) -> ClientConfig:
        """Return the settings of a client behind the link `client`."""
        return ClientConfig(
            coordinator_addr=self._nats_behind("client"),
            credential_path=self.root / "secrets" / f"client-{secrets.token_hex(4)}",
            user=user,
            password=password or self.credentials.admin_password,
            timeout=timeout,
        )

    def cut_off(self, node: int, how: Cut, delay_seconds: float = 0.1) -> None:
        """Cut all ways between a NATS node and the others; who is connected to it stays so."""
        for way, link in self.ways.items():
            if node in way:
                link.cut(how, delay_seconds)

    def join(self, node: int) -> None:
        """Let a NATS node that was cut off and the others hear of each other again."""
        for way, link in self.ways.items():
            if node in way:
                link.heal()

    async def heal(self) -> None:
        """Thaw, connect and start everything."""
        for link in (*self.links.values(), *self.ways.values()):
            link.heal()
        for part in self.parts.values():
            part.thaw()
        for part in self.parts.values():
            if part.pid() is None:
                await part.start()

    # --- start ----------------------------------------------------------------------------

    async def _start_servers(self) -> None:
        for kind, server in (("postgres", self.postgres), ("s3", self.s3)):
            await self._serve(kind, kind, server)
        for way in itertools.permutations(range(len(self.nats)), 2):
            self.ways[way] = await self._opened([(HOST, self._routes[way[1]])])
        for number, node in enumerate(self.nats, 1):
            await self._serve("nats", f"nats{number}", node)

    async def _serve(self, kind: str, name: str, server: EmbeddedServer) -> None:
        await server.start()
        part = Server(kind, name, server)
        self.parts[name] = part
        self._stack.push_async_callback(server.stop, fast=True)
        self._stack.callback(part.thaw)

    async def _start_services(self) -> None:
        names = [f"coordinator{n + 1}" for n in range(COORDINATORS)]
        workers = [f"worker{n + 1}" for n in range(self.shape.workers)]
        for number, name in enumerate([*names, "projector", *workers, "client"]):
            await self._link(name, self._nats_places(number))
        await self._link("store", [(HOST, int(self.s3.url.rpartition(":")[2]))])
        await self._link("database", [self.postgres.socket])
        ports = free_ports(COORDINATORS)
        for name, port in zip(names, ports, strict=True):
            self._add("coordinator", name, self._coordinator(name, port))
        self._add("projector", "projector", self._coordinator("projector", ports[0]))
        for name in workers:
            self._add("worker", name, self._worker(name))
        for part in self.of_kind("coordinator", "projector"):
            await part.start()

    async def start_workers(self) -> None:
        """Start them, once there is a group to serve."""
        await asyncio.gather(*(part.start() for part in self.of_kind("worker")))

    async def _link(self, name: str, places: Sequence[Place]) -> None:
        self.links[name] = await self._opened(places)

    async def _opened(self, places: Sequence[Place]) -> Link:
        link = await Link(places).start()
        self._stack.push_async_callback(link.close)
        return link

    def _add(self, kind: str, name: str, arguments: list[str]) -> None:
        code = [str(self.shape.code)] if self.shape.code else [p for p in sys.path if p]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.root),
            "PYTHONPATH": os.pathsep.join(code),
            "CHAOS_ROOT": str(self.root),
            **self.shape.environment.get(name, {}),
        }
        service = Service(kind, name, arguments, self.root, environment)
        self.parts[name] = service
        self._stack.push_async_callback(service.close)

    # --- configurations -------------------------------------------------------------------

    def _nats_node(self, number: int, port: int) -> EmbeddedNats:
        def configure(config: NatsServerConfig) -> NatsServerConfig:
            routes = [link.port for (near, _), link in self.ways.items() if near == number]
            if not routes:
                return config
            own = ClusterConfig(
                name="chaos",
                host=HOST,
                port=self._routes[number],
                routes=tuple(f"nats-route://{HOST}:{route}" for route in routes),
                advertise=f"{HOST}:{DEAD_PORT}",
            )
            return replace(config, server_name=f"chaos{number + 1}", cluster=own)

        return EmbeddedNats(
            self.root / f"nats{number + 1}",
            service_users=(self.credentials.service,),
            system_users=(self.credentials.system,),
            callout=CalloutConfig(issuer=issuer_account(self.credentials.private_pem)),
            wanted_port=port,
            configure=configure,
        )

    def _nats_places(self, first: int) -> list[tuple[str, int]]:
        """Return all nodes, the preferred one first; what a load balancer would do."""
        places = [(HOST, int(node.url.rpartition(":")[2])) for node in self.nats]
        turn = first % len(places)
        return places[turn:] + places[:turn]

    def _nats_behind(self, name: str) -> str:
        return f"nats://{HOST}:{self.links[name].port}"

    def _addresses(self, name: str, http_port: int = 0) -> Addresses:
        return Addresses(
            nats=self._nats_behind(name),
            http=f"http://{HOST}:{http_port}",
            database=f"postgresql://{USER}@{HOST}:{self.links['database'].port}/{DATABASE}",
            s3=f"http://{HOST}:{self.links['store'].port}",
        )

    def _coordinator(self, name: str, port: int) -> list[str]:
        values = coordinator_config(self._addresses(name, port), self.credentials)
        values |= {
            "projector": False,
            "replicas": len(self.nats),
            "heartbeat_timeout": f"{self.shape.lease_seconds:g}s",
            "snapshot_every": 2_000,
            "shutdown_secret_path": str(self.root / "secrets" / f"{name}.shutdown"),
            **self.shape.settings.get(name, {}),
        }
        path = write_config(self.root / "config" / f"{name}.toml", "coordinator", values)
        return ["projector" if name == "projector" else "coordinator", "--config", str(path)]

    def _worker(self, name: str) -> list[str]:
        values = worker_config(
            self._addresses(name),
            self.credentials,
            slots=self.shape.slots,
            work_folder=self.root / name,
            credential_path=self.root / "secrets" / f"{name}.session",
        )
        values |= {"polling_interval": "1s", **self.shape.settings.get(name, {})}
        path = write_config(self.root / "config" / f"{name}.toml", "worker", values)
        return ["worker", "--config", str(path), "--groups", LAB]
