"""A stream that is damaged on all nodes of a cluster is repaired through NATS's own API."""

import asyncio
import shutil
from pathlib import Path

import pytest

from mitosis import repair
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.domain.platform import StreamRepaired
from mitosis.errors import StoreUnavailable
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.messages import request
from mitosis.events.reader import EventReader
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.projections.archive import Archive
from mitosis.testing.servers import PostgresServer
from mitosis.testing.signed import new_keys, signed_history
from mitosis.testing.waiting import eventually

from .conftest import Connect, Server
from .test_writer_cluster import cluster  # noqa: F401  a fixture


def block_of(server: Server, payload: bytes) -> Path | None:
    """The file of a node that has a message."""
    files = server.folder / "js" / "jetstream" / "$G" / "streams" / EVENTS_STREAM / "msgs"
    return next((path for path in files.glob("*.blk") if payload in path.read_bytes()), None)


def flip(server: Server, payload: bytes) -> None:
    """Flip a bit of a message in the files of a node that does not run."""
    block = block_of(server, payload)
    assert block is not None
    content = bytearray(block.read_bytes())
    content[content.index(payload) + len(payload) // 2] ^= 4
    block.write_bytes(content)


async def store(
    servers: list[Server], connect: Connect, commits: list[tuple[int, str, bytes]]
) -> None:
    nc = await connect(servers[0])
    async with asyncio.timeout(30):
        while True:
            try:
                await ensure_stream(nc, StreamDefinition(replicas=3))
            except StoreUnavailable:  # the group of servers has no leader yet
                await asyncio.sleep(0.1)
            else:
                break
    writer, last = await PipelinedWriter.open(nc, EVENTS_STREAM), dict[str, int]()
    for start in range(0, len(commits), 100):
        batch = []
        for position, subject, payload in commits[start : start + 100]:
            batch.append(Append(subject, payload, last.get(subject, 0)))
            last[subject] = position
        await writer.submit_batch(batch)[1]
    await writer.close()


async def settled(servers: list[Server], connect: Connect) -> None:
    """Wait until all three nodes have the stream and are up to date."""
    nc = await connect(servers[0])
    current: list[bool] = []

    async def look() -> None:
        try:
            info = await request(nc, f"$JS.API.STREAM.INFO.{EVENTS_STREAM}")
        except StoreUnavailable:
            return
        current[:] = [peer["current"] for peer in info["cluster"].get("replicas") or ()]

    async with asyncio.timeout(60):
        while len(current) < 2 or not all(current):
            await look()
            await asyncio.sleep(0.1)


@pytest.mark.timeout(240)
async def test_a_message_that_no_node_can_read_comes_back_on_all_of_them(
    cluster: list[Server],  # noqa: F811
    connect: Connect,
    postgres_server: PostgresServer,
    tmp_path: Path,
) -> None:
    keys = new_keys()
    (tmp_path / "public.pem").write_text(keys.public_pem)
    commits = signed_history(keys)
    await store(cluster, connect, commits)
    await settled(cluster, connect)
    for server in cluster:
        server.stop()
    for server in cluster:
        flip(server, commits[49][2])
    for server in cluster:
        server.start()
    await settled(cluster, connect)
    with postgres_server.database() as database:
        archive = await Archive.open(database)
        await archive.add(commits, [digest(s, p) for _, s, p in commits])
        await archive.close()
        config = CoordinatorConfig(
            nats_url=",".join(server.url for server in cluster),
            nats_user="any", nats_password="any", db_url=database, replicas=3,
            access_token_public_path=tmp_path / "public.pem",
        )  # fmt: skip
        orders = repair.Orders(yes=True, keep=tmp_path / "kept")
        done = await repair.repair_stream(config, orders, lambda *_: None)
    assert (done.done, done.missing, done.position) == (True, 1, len(commits))
    nc = await connect(cluster[2])
    stored = [tuple(m) async for b in EventReader(nc).batches(follow=False) for m in b]
    assert stored[: len(commits)] == commits
    (told,) = decode_commit(*stored[len(commits)][1:]).events
    assert isinstance(decode_event(*told), StreamRepaired)
    info = await request(nc, f"$JS.API.STREAM.INFO.{EVENTS_STREAM}")
    assert info["config"]["num_replicas"] == 3


@pytest.mark.timeout(240)
async def test_one_node_whose_files_are_moved_away_is_filled_by_the_others(
    cluster: list[Server],  # noqa: F811
    connect: Connect,
) -> None:
    commits = signed_history(new_keys())
    await store(cluster, connect, commits)
    await settled(cluster, connect)
    lost = cluster[2]
    lost.stop()
    shutil.rmtree(lost.folder / "js")
    lost.start()
    await settled(cluster, connect)
    await eventually(lambda: block_of(lost, commits[-1][2]), seconds=30)
    assert all(block_of(lost, payload) for _, _, payload in commits[::25])
