"""Real servers for tests, from the wheels: started once a session, emptied by name or template.

Call these from the main thread: the servers live as long as the thread that started them, and end
with it, also when it is killed.
"""

import asyncio
import contextlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from mitosis.nats.server_config import CalloutConfig, StaticUser
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import DATABASE, EmbeddedPostgres
from mitosis.services.platform.embedded_s3 import EmbeddedS3, S3Keys
from mitosis.services.platform.server import EmbeddedServer

T = TypeVar("T")

SERVICE_USER = StaticUser(name="mito_coordinator", password="service-password")  # noqa: S106
SYSTEM_USER = StaticUser(name="mito_system", password="system-password")  # noqa: S106


class NatsServer(msgspec.Struct, frozen=True, kw_only=True):
    """A running nats-server with JetStream and the accounts of the platform."""

    url: str
    user: str
    password: str
    system_user: str
    system_password: str

    @property
    def user_url(self) -> str:
        """`nats://user:password@host:port` of the service user, for `nats.connect` alone."""
        return self.url.replace("nats://", f"nats://{self.user}:{self.password}@", 1)


class PostgresServer(msgspec.Struct, frozen=True, kw_only=True):
    """A running Postgres; every test gets a database of its own."""

    url: str
    """The database `mitosis`, which stays empty: it is the default template."""

    def url_of(self, database: str) -> str:
        """Returns the address of another database of the server."""
        return self.url.replace(f"/{DATABASE}?", f"/{database}?", 1)

    @contextlib.contextmanager
    def database(self, template: str = DATABASE) -> Iterator[str]:
        """Yields the address of a database made from a template; drops it with its connections."""
        import psycopg
        from psycopg import sql

        name = f"test_{uuid.uuid4().hex}"
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(make.format(sql.Identifier(name), sql.Identifier(template)))
            try:
                yield self.url_of(name)
            finally:
                connection.execute(drop.format(sql.Identifier(name)))


class S3Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running S3 server. A new bucket costs 0.2 s: use one bucket and a prefix for each test."""

    url: str
    keys: S3Keys


@contextlib.asynccontextmanager
async def open_nats(
    *, callout: CalloutConfig | None = None, sync_always: bool = False
) -> AsyncIterator[NatsServer]:
    """Runs a nats-server in a scratch folder, inside of an asynchronous test.

    Args:
        callout: With it, others than the two static users are sent to the auth callout.
        sync_always: True as on a real platform; False saves a disk sync for each append.
    """
    with _scratch("nats") as folder:
        server = EmbeddedNats(
            folder,
            service_users=(SERVICE_USER,),
            system_users=(SYSTEM_USER,),
            callout=callout,
            sync_always=sync_always,
        )
        async with _running(server):
            yield NatsServer(
                url=server.url,
                user=SERVICE_USER.name,
                password=SERVICE_USER.password,
                system_user=SYSTEM_USER.name,
                system_password=SYSTEM_USER.password,
            )


@contextlib.asynccontextmanager
async def open_postgres() -> AsyncIterator[PostgresServer]:
    """Runs a Postgres in a scratch folder, without syncs to disk."""
    with _scratch("postgres") as folder:
        server = EmbeddedPostgres(folder, durable=False)
        async with _running(server):
            yield PostgresServer(url=server.url)


@contextlib.asynccontextmanager
async def open_s3() -> AsyncIterator[S3Server]:
    """Runs an S3 server in a scratch folder, without syncs to disk."""
    keys = S3Keys(access_key=uuid.uuid4().hex[:20], secret_key=uuid.uuid4().hex)
    with _scratch("s3") as folder:
        server = EmbeddedS3(folder, keys=keys, sync_objects=False)
        async with _running(server):
            yield S3Server(url=server.url, keys=keys)


@contextlib.contextmanager
def outside_of_loops(opened: contextlib.AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Runs one of the above in a loop of its own, for fixtures that outlive the loops of tests."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        server = runner.run(_entered(opened))
        try:
            yield server
        finally:
            runner.run(_left(opened))


async def _entered(opened: contextlib.AbstractAsyncContextManager[T]) -> T:
    return await opened.__aenter__()


async def _left(opened: contextlib.AbstractAsyncContextManager[T]) -> None:
    await opened.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def _running(server: EmbeddedServer) -> AsyncIterator[None]:
    await server.start()
    try:
        yield
    finally:
        await server.stop(fast=True)


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[Path]:
    # Not below pytest's own folders, whose paths are too long for sockets.
    folder = Path(tempfile.mkdtemp(prefix=f"mito-test-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
