"""A stream, an archive and buckets of a test alone, with a history whose files are really there."""

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.copies import put
from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.contract import subjects
from mitosis.domain import attachment, platform
from mitosis.events.reader import EventReader
from mitosis.events.streams import ensure_stream
from mitosis.events.writer import PipelinedWriter
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.projections.archive import Archive
from mitosis.runtime import SystemClock
from mitosis.services.backup.taking import Platform
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.testing.history import History
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER, PostgresServer, S3Server


class Site:
    """A platform's stores, without its services."""

    def __init__(self, parts: Platform, database: str, folder: Path) -> None:
        self.parts, self.database, self.folder = parts, database, folder

    async def append(self, commits: list[tuple[int, str, bytes]]) -> None:
        """Store commits at the end of the stream."""
        nc, last = self.parts.nc, dict[str, int]()
        writer = await PipelinedWriter.open(nc, subjects.EVENTS_STREAM)
        try:
            for position, subject, payload in commits:
                if subject not in last:
                    found = await self.parts.reader.last_message(subject)
                    last[subject] = found.position if found else 0
                assert await writer.submit(subject, payload, last[subject])[1] == position
                last[subject] = position
        finally:
            await writer.close()

    async def store(self, history: History, key: str, content: bytes) -> str:
        """Store a file of the group lab, in history and in S3; return the name of the object."""
        name, sha256 = f"lab/{secrets.token_hex(8)}", hashlib.sha256(content).hexdigest()
        await self.put(name, content)
        command = attachment.StoreAttachment("lab", key, name, len(content), sha256)
        history.decide(subjects.attachment_tail("lab", key), command)
        return name

    async def put(self, name: str, content: bytes) -> None:
        """Store an object that no event names."""
        path = self.folder / secrets.token_hex(8)
        path.write_bytes(content)
        await put(self.parts.objects.attachments, name, path)

    async def objects(self) -> set[str]:
        """The names of all objects."""
        return {one.name for one in await self.parts.objects.attachments.list_prefix()}

    async def stream(self) -> list[tuple[int, str, bytes]]:
        """All commits."""
        return [
            (m.position, m.subject, m.payload)
            async for batch in self.parts.reader.batches(follow=False)
            for m in batch
        ]


MakeSite = Callable[[], Awaitable[Site]]


@pytest.fixture
async def make_site(
    postgres_server: PostgresServer, s3_server: S3Server, tmp_path: Path
) -> AsyncIterator[MakeSite]:
    async with AsyncExitStack() as stack:

        async def make(**buckets: Any) -> Site:
            folder = tmp_path / secrets.token_hex(4)
            folder.mkdir()
            server = await stack.enter_async_context(
                EmbeddedNats(
                    folder / "nats", service_users=(SERVICE_USER,), system_users=(SYSTEM_USER,),
                    sync_always=False,
                )
            )  # fmt: skip
            login = ServiceLogin(SERVICE_USER.name, SERVICE_USER.password)
            nc = await open_store_client([server.url], login, name="test of backups")
            stack.push_async_callback(nc.close)
            await ensure_stream(nc)
            database = stack.enter_context(postgres_server.database())
            archive = await Archive.open(database)
            stack.push_async_callback(archive.close)
            name = secrets.token_hex(6)
            settings = S3Settings(
                s3_server.url, s3_server.keys.access_key, s3_server.keys.secret_key,
                artifacts_bucket=f"{name}-a", attachments_bucket=f"{name}-b",
            )  # fmt: skip
            objects = S3Store(settings)
            await objects.check()
            stack.push_async_callback(objects.close)
            parts = Platform(nc, EventReader(nc), archive, objects, SystemClock())
            return Site(parts, database, folder)

        yield make


@pytest.fixture
async def site(make_site: MakeSite) -> Site:
    return await make_site()


@pytest.fixture
async def history(site: Site) -> History:
    """Of a platform with three files, one of them replaced, in stream and store."""
    made = History()
    made.decide(subjects.PLATFORM_TAIL, platform.StartTerm("host-1"), "system:coordinator")
    made.add_user("alice", admin=True)
    made.add_user("lab")
    await site.store(made, "one", b"first version")
    await site.store(made, "one", b"second version")
    await site.store(made, "two", b"")
    await site.store(made, "three", b"second version")
    await site.append(made.commits)
    return made
