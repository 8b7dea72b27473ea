"""The pipelined writer on three replicas, where JetStream checks in another order."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis.errors import Fenced, StoreUnavailable
from mitosis.events.messages import request, stream_state
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.events.takeover import WINDOW
from mitosis.events.writer import Append, PipelinedWriter

from .conftest import Connect, Server, everything, free_port, fresh_definition


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Server]]:
    routes = [free_port() for _ in range(3)]
    servers = []
    for index, port in enumerate(routes):
        folder = tmp_path / f"n{index}"
        folder.mkdir()
        others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes)
        extra = (
            f"server_name: n{index}\n"
            f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{others}] }}\n'
        )
        servers.append(Server(folder, extra=extra))
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


async def replicated(servers: list[Server], connect: Connect) -> StreamDefinition:
    nc = await connect(servers[0])
    stream = fresh_definition(replicas=3)
    async with asyncio.timeout(30):
        while True:
            try:
                await ensure_stream(nc, stream)
            except StoreUnavailable:  # the group of servers has no leader yet
                await asyncio.sleep(0.1)
            else:
                return stream


async def test_three_replicas_keep_what_one_keeps(cluster: list[Server], connect: Connect) -> None:
    stream = await replicated(cluster, connect)
    info = await request(await connect(cluster[0]), f"$JS.API.STREAM.INFO.{stream.name}")
    leader = int(info["cluster"]["leader"][1:])
    nc = await connect(cluster[(leader + 1) % 3])
    writer = await PipelinedWriter.open(nc, stream.name)
    stored: list[tuple[int, bytes]] = []
    sent: list[bytes] = []
    last: dict[str, int] = {}

    def submit(count: int) -> None:
        for _ in range(count):
            i = len(sent)
            subject = f"{stream.prefix}.{'same' if i % 2 else f'a{i}'}"
            payload = b"%d" % i
            sent.append(payload)
            last[subject] = writer.send(
                subject,
                payload,
                last.get(subject, 0),
                lambda position, payload=payload: stored.append((position, payload)),
            )

    # Successive commits of one aggregate are pipelined too.
    submit(400)
    await asyncio.wait_for(writer.flush(), 20)
    assert writer.closed_by is None

    # A batch between single commits.
    submit(10)
    batch = [Append(f"{stream.prefix}.b{i}", b"batch", 0) for i in range(5)]
    first = writer.next_position
    _, done = writer.submit_batch(batch)
    submit(10)
    assert await asyncio.wait_for(done, 20) == first + 4
    await asyncio.wait_for(writer.flush(), 20)

    # The leader dies with commits on their way.
    submit(100)
    await asyncio.sleep(0)
    await asyncio.to_thread(cluster[leader].kill)
    await asyncio.wait_for(writer.flush(), 30)

    assert [payload for _, payload in stored] == sent
    messages = await everything(nc, stream)
    found = [(m.position, m.payload) for m in messages if m.payload != b"batch"]
    assert found == stored
    assert len(messages) == len(sent) + 5
    await writer.close()


async def test_a_takeover_shuts_out_an_older_writer_on_three_replicas(
    cluster: list[Server], connect: Connect
) -> None:
    stream = await replicated(cluster, connect)
    nc = await connect(cluster[1])
    old = await PipelinedWriter.open(nc, stream.name)
    await asyncio.wait_for(old.submit(f"{stream.prefix}.before", b"x", 0)[1], 20)
    new = await PipelinedWriter.open(await connect(cluster[2]), stream.name)
    term = [Append(f"{stream.prefix}.platform", b"%d" % i, 0) for i in range(WINDOW + 1)]

    opened = new.submit_batch(term)[1]
    futures = [old.submit(f"{stream.prefix}.a{i}", b"old", 0)[1] for i in range(WINDOW)]
    results = await asyncio.gather(opened, *futures, return_exceptions=True)

    # Whichever came first: one of the two has written alone.
    old_wrote = [result for result in results[1:] if not isinstance(result, Fenced)]
    messages = await everything(nc, stream)
    payloads = [m.payload for m in messages[1:]]
    if isinstance(results[0], Fenced):
        assert b"0" not in payloads
    else:
        assert payloads[len(old_wrote) :] == [b"%d" % i for i in range(WINDOW + 1)]
    assert payloads.count(b"old") == len(old_wrote)
    assert (await stream_state(nc, stream.name)).last_seq == len(messages)
    await old.close()
    await new.close()
