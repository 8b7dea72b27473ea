"""Reading: everything once, in order, across restarts; what is missing is an error."""

import asyncio
from datetime import UTC, datetime

import pytest

from mitosis.errors import CorruptData, StoreUnavailable
from mitosis.events.envelope import Commit, digest, encode_commit
from mitosis.events.messages import StoredMessage, last_message, request
from mitosis.events.reader import EventReader
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.events.verify import ChainVerifier
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.nats.store_client import StoreClient
from mitosis.testing.waiting import eventually

from .conftest import Connect, Server, fresh_definition


async def fill(nc: StoreClient, stream: StreamDefinition, count: int, subjects: int = 7) -> None:
    """Store `count` messages over some subjects in turn; batches share syncs, so it is quick."""
    writer = await PipelinedWriter.open(nc, stream.name)
    for start in range(0, count, 500):
        batch = []
        for i in range(start, min(start + 500, count)):
            subject = f"{stream.prefix}.a{i % subjects}"
            first = i - start < subjects
            found = await last_message(nc, stream.name, subject) if first else None
            batch.append(Append(subject, b"%d" % i, found.position if found else 0))
        await writer.submit_batch(batch)[1]
    await writer.close()


def reader_of(nc: StoreClient, stream: StreamDefinition) -> EventReader:
    return EventReader(nc, stream.name, stream.prefix, budget_seconds=10)


async def test_a_replay_reads_everything_in_order_and_ends(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await fill(nc, stream, 2500)
    reader = reader_of(nc, stream)

    lists = [batch async for batch in reader.batches(limit=200, follow=False)]

    assert max(map(len, lists)) <= 200
    assert [m.position for batch in lists for m in batch] == list(range(1, 2501))
    assert [m.payload for batch in lists for m in batch] == [b"%d" % i for i in range(2500)]
    assert reader.caught_up.is_set()


async def test_a_replay_starts_where_it_is_told(nc: StoreClient, stream: StreamDefinition) -> None:
    await fill(nc, stream, 20)

    found = [m async for b in reader_of(nc, stream).batches(15, follow=False) for m in b]

    assert [m.position for m in found] == [15, 16, 17, 18, 19, 20]


@pytest.mark.parametrize("filters", [(), ("{prefix}.nobody",)])
async def test_a_replay_of_nothing_ends_at_once(
    nc: StoreClient, stream: StreamDefinition, filters: tuple[str, ...]
) -> None:
    if filters:
        await fill(nc, stream, 5)
    reader = reader_of(nc, stream)
    subjects = [f.format(prefix=stream.prefix) for f in filters]

    async with asyncio.timeout(5):
        found = [b async for b in reader.batches(filters=subjects, follow=False)]

    assert found == []
    assert reader.caught_up.is_set()


async def test_filters_choose_subjects(nc: StoreClient, stream: StreamDefinition) -> None:
    await fill(nc, stream, 21)
    reader = reader_of(nc, stream)
    filters = [f"{stream.prefix}.a2", f"{stream.prefix}.a5"]

    found = [m async for b in reader.batches(filters=filters, follow=False) for m in b]

    assert [m.position for m in found] == [3, 6, 10, 13, 17, 20]


async def test_following_tells_when_it_has_caught_up_and_goes_on(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await fill(nc, stream, 10)
    reader = reader_of(nc, stream)
    seen: list[int] = []

    async def follow() -> None:
        async for batch in reader.batches():
            seen.extend(m.position for m in batch)
            if seen[-1] == 30:
                return

    task = asyncio.create_task(follow())
    await asyncio.wait_for(reader.caught_up.wait(), 5)
    assert seen == list(range(1, 11))
    await fill(nc, stream, 20)
    await asyncio.wait_for(task, 5)

    assert seen == list(range(1, 31))


async def test_following_survives_a_killed_server_without_gap_or_repetition(
    own_server: Server, connect: Connect
) -> None:
    nc = await connect(own_server)
    stream = fresh_definition()
    await ensure_stream(nc, stream)
    await fill(nc, stream, 50)
    reader = reader_of(await connect(own_server), stream)
    seen: list[int] = []
    progress = asyncio.Event()

    async def follow() -> None:
        async for batch in reader.batches():
            seen.extend(m.position for m in batch)
            progress.set()

    async def until(count: int) -> None:
        async with asyncio.timeout(20):
            while len(seen) < count:
                progress.clear()
                await progress.wait()

    task = asyncio.create_task(follow())
    for round_number in range(1, 3):
        await until(50 * round_number)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        writer_nc = await connect(own_server)
        await fill(writer_nc, stream, 50)
    await until(150)

    assert seen == list(range(1, 151))
    task.cancel()


async def test_a_reader_hears_nothing_more_of_the_consumer_that_it_had_before_a_loss(
    own_server: Server, connect: Connect
) -> None:
    nc = await connect(own_server)
    stream = fresh_definition()
    await ensure_stream(nc, stream)
    await fill(nc, stream, 5)
    subscriptions = len(nc._subs)
    batches = reader_of(nc, stream).batches()
    assert len(await anext(batches)) == 5
    follower = asyncio.create_task(anext(batches))
    for number in range(3):
        await asyncio.to_thread(own_server.kill)
        await eventually(lambda: len(nc._subs) == subscriptions)
        await asyncio.to_thread(own_server.start)
        await fill(await connect(own_server), stream, 1)
        assert [m.position for m in await asyncio.wait_for(follower, 20)] == [6 + number]
        assert len(nc._subs) == subscriptions + 1
        follower = asyncio.create_task(anext(batches))
    await asyncio.to_thread(own_server.kill)
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    await batches.aclose()
    assert len(nc._subs) == subscriptions
    await asyncio.to_thread(own_server.start)
    await eventually(lambda: nc.is_connected)


async def test_a_slow_owner_loses_nothing(nc: StoreClient, stream: StreamDefinition) -> None:
    await fill(nc, stream, 6000)
    reader = reader_of(nc, stream)
    found: list[int] = []

    async for batch in reader.batches(limit=100, follow=False):
        found.extend(m.position for m in batch)
        await asyncio.sleep(0)

    assert found == list(range(1, 6001))


async def test_a_lost_message_is_corrupt_data(nc: StoreClient) -> None:
    definition = fresh_definition()
    config = definition.config() | {"deny_delete": False}
    await request(nc, f"$JS.API.STREAM.CREATE.{definition.name}", config)
    await fill(nc, definition, 10)
    await request(nc, f"$JS.API.STREAM.MSG.DELETE.{definition.name}", {"seq": 4})

    with pytest.raises(CorruptData, match=r"position 4 .* is missing"):
        _ = [batch async for batch in reader_of(nc, definition).batches(follow=False)]


async def test_a_stream_shorter_than_what_was_read_is_corrupt_data(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await fill(nc, stream, 10)

    with pytest.raises(CorruptData, match="ends at 10, but position 11 has been read"):
        await anext(reader_of(nc, stream).batches(12))


async def test_a_stream_that_is_not_there_is_unavailable(nc: StoreClient) -> None:
    with pytest.raises(StoreUnavailable):
        await anext(EventReader(nc, "NOT_THERE", "x").batches())


async def test_the_head_is_the_last_position_and_its_digest(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    reader = reader_of(nc, stream)
    assert await reader.head() == (0, "")

    await fill(nc, stream, 3)

    assert await reader.head() == (3, digest(f"{stream.prefix}.a2", b"2"))


async def test_an_aggregate_is_read_whole_or_up_to_a_position(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await fill(nc, stream, 900, subjects=2)
    reader = reader_of(nc, stream)

    whole = await reader.read_aggregate("a1")

    assert [m.position for m in whole] == list(range(2, 901, 2))
    assert [m.position for m in await reader.read_aggregate("a1", upto=6)] == [2, 4, 6]
    assert await reader.read_aggregate("nobody") == []


async def test_the_last_message_is_found_by_wildcard(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await fill(nc, stream, 3)
    reader = reader_of(nc, stream)

    assert await reader.last_message(f"{stream.prefix}.*") == StoredMessage(
        3, f"{stream.prefix}.a2", b"2"
    )
    assert await reader.last_message(f"{stream.prefix}.nobody.*") is None


async def test_chains_are_verified_over_the_real_stream(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name)
    subject = f"{stream.prefix}.task.lab.1"
    previous, position = "", 0
    for version in range(1, 6):
        commit = Commit(
            f"{version:032x}", "", "user:a", datetime.now(UTC), version, previous, [("t@1", b"{}")]
        )
        payload = encode_commit(commit)
        previous = digest(subject, payload)
        position, _ = writer.submit(subject, payload, position)
    await writer.flush()
    await writer.close()
    verifier = ChainVerifier(stream.prefix)

    async for batch in reader_of(nc, stream).batches(limit=2, follow=False):
        verifier.check(batch)

    assert verifier.chains == {"task.lab.1": (5, previous)}


async def test_what_was_stored_while_nobody_wanted_it_comes_at_once(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await fill(nc, stream, 3)
    batches = reader_of(nc, stream).batches(limit=200)
    assert [m.position for m in await anext(batches)] == [1, 2, 3]
    await fill(nc, stream, 50)
    assert [m.position for m in await anext(batches)] == list(range(4, 54))
    waiting = asyncio.create_task(anext(batches))
    await fill(nc, stream, 1)
    assert [m.position for m in await asyncio.wait_for(waiting, 10)] == [54]
    await batches.aclose()
