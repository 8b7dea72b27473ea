"""Migrated databases, and a nats-server of its own for each test: positions begin at 1."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mitosis.events.streams import ensure_stream
from mitosis.nats.connection import Connection, ServiceLogin
from mitosis.projections.migrations import migrate
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER, PostgresServer


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> Iterator[str]:
    """Name of a migrated, empty database to copy."""
    with postgres_server.database() as url:
        asyncio.run(migrate(url))
        yield urlsplit(url).path.strip("/")


@pytest.fixture
def database(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """Address of a migrated, empty database."""
    with postgres_server.database(template) as url:
        yield url


@pytest.fixture(scope="session")
def make_database(postgres_server: PostgresServer, template: str) -> Iterator[Callable[[], str]]:
    """Makes databases like `database` that last for the session."""
    with ExitStack() as made:
        yield lambda: made.enter_context(postgres_server.database(template))


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Iterator[str]:
    """Address of a database without any schema of ours."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A migrated Postgres that the test may stop and start."""
    async with EmbeddedPostgres(tmp_path / "postgres", durable=False) as server:
        await migrate(server.url)
        yield server


@pytest.fixture
async def own_nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    """A nats-server that the test may stop and start."""
    async with EmbeddedNats(
        tmp_path / "nats",
        service_users=(SERVICE_USER,),
        system_users=(SYSTEM_USER,),
        sync_always=False,
    ) as server:
        yield server


async def open_connection(url: str) -> Connection:
    login = ServiceLogin(SERVICE_USER.name, SERVICE_USER.password)
    return await Connection.open([url], login, name="test of projections")


@pytest.fixture
async def connection(own_nats: EmbeddedNats) -> AsyncIterator[Connection]:
    """A service's connection; the stream of events is there."""
    opened = await open_connection(own_nats.url)
    await ensure_stream(opened.raw)
    yield opened
    await opened.close()


@pytest.fixture
async def other_connection(own_nats: EmbeddedNats) -> AsyncIterator[Connection]:
    """A second connection to the same server."""
    opened = await open_connection(own_nats.url)
    yield opened
    await opened.close()
