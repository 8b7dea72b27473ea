"""A real nats-server on a free port, which tests may kill and start again."""

import asyncio
import json
import os
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from mitosis.errors import StoreUnavailable
from mitosis.events.messages import StoredMessage, subject_messages
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.nats.store_client import StoreClient
from mitosis.services.platform.ports import free_ports

BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"


class Server:
    """One nats-server with JetStream in a folder; the port stays the same over restarts."""

    def __init__(self, folder: Path, port: int = -1, extra: str = "") -> None:
        self.folder = folder
        self.port = port
        self.extra = extra
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        ports = self.folder / "ports"
        ports.mkdir(exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nports_file_dir: "{ports}"\n'
            f'jetstream {{ store_dir: "{self.folder / "js"}", sync_interval: always }}\n'
            + self.extra
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "-c", config], stdout=log, stderr=log, start_new_session=True
            )
        self._wait_ready(ports / f"nats-server_{self.process.pid}.ports")

    def _wait_ready(self, ports: Path) -> None:
        assert self.process is not None
        for _ in range(1000):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            if ports.exists() and (text := ports.read_text()):
                self.port = int(json.loads(text)["nats"][0].rpartition(":")[2])
                return
            try:
                self.process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
        pytest.fail(f"nats-server is not ready:\n{(self.folder / 'log').read_text()}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(20)


def free_port() -> int:
    """A port that no connection of another process takes while its server is down for a moment."""
    (port,) = free_ports(1)
    return port


async def everything(nc: StoreClient, stream: StreamDefinition) -> list[StoredMessage]:
    """All that is stored; who was just started or elected may not answer reads for a moment."""
    async with asyncio.timeout(20):
        while True:
            try:
                return [m async for m in subject_messages(nc, stream.name, f"{stream.prefix}.>")]
            except StoreUnavailable:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("nats"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of this test alone, to be killed and started again."""
    found = Server(tmp_path)
    found.start()
    yield found
    found.stop()


Connect = Callable[[Server], Awaitable[StoreClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[StoreClient] = []
    reported: list[Exception] = []

    async def report(error: Exception) -> None:
        reported.append(error)

    async def open_connection(server: Server) -> StoreClient:
        client = StoreClient()
        await client.connect(
            server.url,
            error_cb=report,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,  # type: ignore[arg-type]
            allow_reconnect=True,
        )
        clients.append(client)
        return client

    yield open_connection
    for client in clients:
        await asyncio.wait_for(client.close(), 5)


@pytest.fixture
async def nc(server: Server, connect: Connect) -> StoreClient:
    return await connect(server)


def fresh_definition(replicas: int = 1) -> StreamDefinition:
    name = f"t{uuid4().hex[:12]}"
    return StreamDefinition(
        name=name.upper(), prefix=f"{name}.events", live=f"{name}.live", replicas=replicas
    )


@pytest.fixture
async def stream(nc: StoreClient) -> StreamDefinition:
    definition = fresh_definition()
    await ensure_stream(nc, definition)
    return definition
