"""A node of three that the others cannot reach: what it does not know is not taken for the truth.

Every way from one node to another goes through a link that can be cut.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import permutations
from pathlib import Path

import pytest

from mitosis.errors import StoreUnavailable
from mitosis.events.messages import (
    ask,
    parse_answer,
    request,
    stream_state,
    subject_messages,
)
from mitosis.events.reader import EventReader
from mitosis.events.streams import StreamDefinition
from mitosis.events.writer import PipelinedWriter
from mitosis.nats.store_client import StoreClient
from mitosis.testing.chaos.proxy import Cut, Link

from .conftest import Connect, Server, free_port
from .test_writer_cluster import replicated

HOST = "127.0.0.1"
TRIES = 3  # an election may last until the one that was cut off gives up by itself


class Mesh:
    """Three servers, and the ways between them."""

    def __init__(self, servers: list[Server], ways: dict[tuple[int, int], Link]) -> None:
        self.servers, self._ways = servers, ways

    def cut(self, *nodes: int) -> None:
        """Cut a node off, or two from each other."""
        for way, link in self._ways.items():
            if set(nodes) <= set(way):
                link.cut(Cut.DROP)

    def heal(self) -> None:
        for link in self._ways.values():
            link.heal()

    def leader_of_all(self) -> int:
        """Who leads JetStream itself, as the logs say."""
        said = [
            (line.split("] ", 1)[-1], number)
            for number, server in enumerate(self.servers)
            for line in (server.folder / "log").read_text().splitlines()
            if "Self is new JetStream cluster metadata leader" in line
        ]
        return max(said)[1]


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    routes = [free_port() for _ in range(3)]
    ways = {way: await Link([(HOST, routes[way[1]])]).start() for way in permutations(range(3), 2)}
    servers = []
    for number, route in enumerate(routes):
        folder = tmp_path / f"n{number}"
        folder.mkdir()
        others = ", ".join(
            f'"nats://{HOST}:{link.port}"' for way, link in ways.items() if way[0] == number
        )
        extra = (  # nobody may come by another way than these: port 1 is told and dead
            f'server_name: n{number}\ncluster {{ name: c, listen: "{HOST}:{route}", '
            f'advertise: "{HOST}:1", routes: [{others}] }}\n'
        )
        servers.append(Server(folder, extra=extra))
    try:
        for server in servers:
            await asyncio.to_thread(server.start)
        yield Mesh(servers, ways)
    finally:
        for server in servers:
            await asyncio.to_thread(server.stop)
        for link in ways.values():
            await link.close()


async def leader_of(nc: StoreClient, stream: StreamDefinition) -> int:
    """Who leads the stream, when all have what it has."""
    async with asyncio.timeout(60):
        while True:
            try:
                info = await request(nc, f"$JS.API.STREAM.INFO.{stream.name}")
            except StoreUnavailable:
                info = {"cluster": {}}
            others = info["cluster"].get("replicas") or []
            if len(others) == 2 and all(o["current"] and not o.get("lag") for o in others):
                return int(info["cluster"]["leader"][1:])
            await asyncio.sleep(0.1)


async def fill(nc: StoreClient, stream: StreamDefinition, tail: str, count: int) -> None:
    """Store commits of one aggregate."""
    writer = await PipelinedWriter.open(nc, stream.name)
    found = await EventReader(nc, stream.name, stream.prefix).last_message(
        f"{stream.prefix}.{tail}"
    )
    last = found.position if found else 0
    for _ in range(count):
        last = await asyncio.wait_for(
            writer.submit(f"{stream.prefix}.{tail}", b"commit", last)[1], 20
        )
    await writer.close()


def reader_of(nc: StoreClient, stream: StreamDefinition) -> EventReader:
    return EventReader(nc, stream.name, stream.prefix, budget_seconds=10)


@pytest.mark.timeout(120)
async def test_an_aggregate_is_not_read_from_a_replica_that_does_not_have_its_last_commit(
    mesh: Mesh, connect: Connect
) -> None:
    """What was decided on it had the version of what it did not know, and was stored."""
    stream = await replicated(mesh.servers, connect)
    leader = await leader_of(await connect(mesh.servers[0]), stream)
    nc = await connect(mesh.servers[leader])
    await fill(nc, stream, "a", 2)
    assert await leader_of(nc, stream) == leader
    behind = (leader + 1) % 3
    there = await connect(mesh.servers[behind])
    reader = reader_of(there, stream)
    assert len(await reader.read_aggregate("a")) == 2
    async with asyncio.timeout(60):
        mesh.cut(behind)
        while not await _answers_alone(there, stream):  # it begins to some seconds after its start
            mesh.heal()
            await leader_of(nc, stream)
            mesh.cut(behind)
    await fill(nc, stream, "a", 1)
    assert await _answers_alone(there, stream)
    with pytest.raises(StoreUnavailable):
        await reader.read_aggregate("a")
    mesh.heal()
    await leader_of(nc, stream)
    assert len(await reader.read_aggregate("a")) == 3
    assert len(await reader.read_aggregate("a", 2)) == 2
    assert len(await reader.read_aggregate("a", start=3)) == 1
    assert await reader.read_aggregate("a", start=4) == []


async def _answers_alone(nc: StoreClient, stream: StreamDefinition) -> bool:
    """Whether the replica at the other end answers reads, with what it had when it was cut off."""
    try:
        found = [m async for m in subject_messages(nc, stream.name, f"{stream.prefix}.a")]
    except StoreUnavailable:
        return False
    return len(found) == 2


@pytest.mark.timeout(240)
async def test_a_leader_that_was_cut_off_does_not_make_a_stream_shorter_than_it_is(
    mesh: Mesh, connect: Connect
) -> None:
    """It answers for some seconds; a repair was asked for of a stream that was sound."""
    stream = await replicated(mesh.servers, connect)
    nc = await connect(mesh.servers[0])
    for _ in range(TRIES):
        leader = await leader_of(nc, stream)
        left = await connect(mesh.servers[leader])
        known = (await stream_state(left, stream.name)).last_seq
        mesh.cut(leader)
        other = await connect(mesh.servers[(leader + 1) % 3])
        await _publish(other, stream)
        try:
            still_leads = (await stream_state(left, stream.name)).last_seq == known
        except StoreUnavailable:
            still_leads = False
        if still_leads:
            with pytest.raises(StoreUnavailable):
                await anext(reader_of(left, stream).batches(known + 2))
            return
        mesh.heal()
    pytest.fail("nobody was elected in time")


async def _publish(nc: StoreClient, stream: StreamDefinition) -> None:
    """Store something as soon as there is a leader."""
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await ask(nc, f"{stream.prefix}.other", b"x", timeout=1)
            except StoreUnavailable:
                continue
            if parse_answer(answer.data).seq:
                return


@pytest.mark.timeout(120)
async def test_history_is_read_to_its_end_also_when_a_replica_is_behind(
    mesh: Mesh, connect: Connect
) -> None:
    """Who reads is sent to any of them: a start took the end of that one for that of history."""
    stream = await replicated(mesh.servers, connect)
    nc = await connect(mesh.servers[0])
    await fill(nc, stream, "a", 10)
    while (leader := await leader_of(nc, stream)) == mesh.leader_of_all():
        await request(nc, f"$JS.API.STREAM.LEADER.STEPDOWN.{stream.name}")
    between = mesh.leader_of_all()
    (behind,) = {0, 1, 2} - {leader, between}
    mesh.cut(behind, leader)
    nc = await connect(mesh.servers[between])
    await fill(nc, stream, "b", 10)
    lengths = []
    for _ in range(15):
        batches = reader_of(nc, stream).batches(follow=False)
        lengths.append(sum([len(batch) async for batch in batches]))
    assert lengths == [20] * 15
