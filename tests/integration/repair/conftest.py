"""A stream of a test alone, whose files can be damaged, and its archive."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from nats.aio.client import Client

from mitosis import repair
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.domain.platform import StreamRepaired, TermStarted
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.reader import EventReader
from mitosis.events.streams import ensure_stream
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.server_config import PLATFORM_ACCOUNT
from mitosis.nats.store_client import open_store_client
from mitosis.projections.archive import Archive
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.proof.online import verify_stream
from mitosis.services.proof.walk import Walk
from mitosis.services.repair.rebuild import Repaired
from mitosis.services.repair.salvage import salvaged, stream_end
from mitosis.testing.history import History, Stored, campaign
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER, PostgresServer
from mitosis.testing.signed import PLATFORM, Signer, new_keys, public

LARGE = "x" * 600_000
BLOCKS = 3  # of 8 MiB each, as JetStream makes them


class Site:
    """The stores of a platform that is stopped."""

    def __init__(self, folder: Path, database: str, keys: TokenKeys) -> None:
        self.folder, self.database, self.keys = folder, database, keys
        self.commits: list[Stored] = []
        (folder / "public.pem").write_text(keys.public_pem)
        self.server = EmbeddedNats(
            folder / "nats", service_users=(SERVICE_USER,), system_users=(SYSTEM_USER,),
            sync_always=False,
        )  # fmt: skip

    @property
    def files(self) -> Path:
        """The files of the stream's messages."""
        streams = self.folder / "nats" / "jetstream" / PLATFORM_ACCOUNT / "streams"
        return streams / EVENTS_STREAM / "msgs"

    @property
    def keep(self) -> Path:
        return self.folder / "kept"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run the server, if it does not run."""
        if self.server.is_started:
            yield
            return
        async with self.server:
            yield

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """Run the server, and connect to it."""
        async with self.serving():
            login = ServiceLogin(SERVICE_USER.name, SERVICE_USER.password)
            nc = await open_store_client([self.server.url], login, name="test of repairs")
            try:
                yield nc
            finally:
                await nc.close()

    async def store(self, commits: list[Stored]) -> None:
        """Make the stream, with these commits at the positions 1, 2, 3, ..."""
        async with self.connected() as nc:
            await ensure_stream(nc)
            writer, last = await PipelinedWriter.open(nc, EVENTS_STREAM), dict[str, int]()
            for position, (_, subject, payload) in enumerate(commits, 1):
                batch = [Append(subject, payload, last.get(subject, 0))]
                assert await writer.submit_batch(batch)[1] == position
                last[subject] = position
            await writer.close()

    async def archive(self, commits: list[Stored]) -> None:
        """Fill the archive."""
        archive = await Archive.open(self.database)
        await archive.add(commits, [digest(s, p) for _, s, p in commits])
        await archive.close()

    def edit_archive(self, statement: str, *values: object) -> None:
        """Change it as a bad disk or a thief does."""
        with psycopg.connect(self.database) as connection:
            connection.execute("ALTER TABLE archive.commits DISABLE TRIGGER only_append")
            connection.execute(statement, values)  # type: ignore[call-overload]
            connection.execute("ALTER TABLE archive.commits ENABLE ALWAYS TRIGGER only_append")

    async def repair(self, *, yes: bool = True, progress=lambda *_: None, **orders) -> Repaired:
        """Run the repair, with the server."""
        async with self.serving():
            config = CoordinatorConfig(
                nats_url=self.server.url,
                nats_user=SERVICE_USER.name,
                nats_password=SERVICE_USER.password,
                db_url=self.database,
                access_token_public_path=self.folder / "public.pem",
            )
            orders.setdefault("keep", self.keep)
            return await repair.repair_stream(config, repair.Orders(yes, **orders), progress)

    async def stream(self) -> list[Stored]:
        """All commits that are there; they must be without a gap."""
        async with self.connected() as nc:
            return [tuple(m) async for b in EventReader(nc).batches(follow=False) for m in b]  # type: ignore[misc]

    async def readable(self) -> list[int]:
        """The positions that can be read, whatever is between them."""
        async with self.connected() as nc:
            pieces = salvaged(nc, await stream_end(nc))
            return [message.position async for piece in pieces for message in piece]

    async def require_whole(self, position: int) -> StreamRepaired:
        """Check that history up to a position is what was stored, and return what is told of it."""
        stored = await self.stream()
        assert stored[:position] == self.commits[:position]
        told = decode_commit(stored[position][1], stored[position][2])
        (event,) = [decode_event(topic, body) for topic, body in told.events]
        assert isinstance(event, StreamRepaired)
        assert event.position == position
        async with self.connected() as nc:
            archive = await Archive.look_at(self.database)
            walk = Walk([public(self.keys)])
            found = await verify_stream(EventReader(nc), archive, walk, lambda *_: None)
            await archive.close()
        assert not found.found, found.findings
        assert found.archived == position
        return event


def large_history(keys: TokenKeys) -> list[Stored]:
    """Some tasks, then terms that fill blocks, with a checkpoint now and then."""
    history = History(1)
    signer = Signer(history, keys)
    history.store(PLATFORM, [TermStarted(1, "first")])
    signer.tell()
    for _, subject, payload in campaign(7, 6, live=2).commits:
        history.commits.append((len(history.commits) + 1, subject, payload))
    signer.sign()
    for number in range(BLOCKS * 8 * 1024 * 1024 // len(LARGE)):
        history.store(PLATFORM, [TermStarted(2 + number, LARGE)])
        if number % 5 == 0:
            signer.sign()
    signer.sign()
    return history.commits


@pytest.fixture(scope="session")
def keys() -> TokenKeys:
    return new_keys()


@pytest.fixture
def bare(tmp_path: Path, postgres_server: PostgresServer, keys: TokenKeys) -> Iterator[Site]:
    """Nothing stored yet."""
    folder = tmp_path / secrets.token_hex(4)
    folder.mkdir()
    with postgres_server.database() as database:
        yield Site(folder, database, keys)
