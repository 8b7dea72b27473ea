"""The pipelined writer against a real server: nothing acknowledged is lost, nothing is twice."""

import asyncio
import signal
from datetime import UTC, datetime

import pytest

from mitosis.errors import (
    Fenced,
    MitosisError,
    OutcomeUnknown,
    StoreUnavailable,
    TooLarge,
    VersionConflict,
)
from mitosis.events.envelope import Commit, encode_commit
from mitosis.events.messages import request, stream_state
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.events.takeover import WINDOW, takeover_payloads
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.nats.store_client import StoreClient
from mitosis.testing.waiting import eventually

from .conftest import Connect, Server, everything, fresh_definition


async def foreign(nc: StoreClient, stream: StreamDefinition, tail: str = "foreign") -> int:
    ack = await nc.jetstream().publish(f"{stream.prefix}.{tail}", b"foreign")
    return ack.seq


async def test_every_commit_gets_the_position_that_was_predicted(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name)
    told: list[int] = []

    predicted = [
        writer.send(f"{stream.prefix}.a{i}", b"%d" % i, 0, told.append) for i in range(300)
    ]
    await writer.flush()

    assert told == predicted == list(range(1, 301))
    assert [(m.position, m.payload) for m in await everything(nc, stream)] == [
        (i + 1, b"%d" % i) for i in range(300)
    ]
    assert writer.room == WINDOW
    await writer.close()


async def test_commits_of_one_aggregate_are_pipelined(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name)
    previous = 0
    futures = []
    for i in range(50):
        previous, future = writer.submit(f"{stream.prefix}.same", b"%d" % i, previous)
        futures.append(future)

    assert [await future for future in futures] == list(range(1, 51))
    assert [m.payload for m in await everything(nc, stream)] == [b"%d" % i for i in range(50)]
    await writer.close()


async def test_a_full_window_is_refused_and_nothing_is_sent(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name, window=3)
    for i in range(3):
        writer.submit(f"{stream.prefix}.a{i}", b"x", 0)

    assert writer.room == 0
    with pytest.raises(StoreUnavailable, match="3 in flight"):
        writer.submit(f"{stream.prefix}.b", b"x", 0)

    await writer.flush()
    assert writer.submit(f"{stream.prefix}.b", b"x", 0)[0] == 4
    await writer.flush()
    await writer.close()


async def test_a_commit_over_the_servers_limit_is_refused_before_it_is_sent(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name)

    with pytest.raises(TooLarge):
        writer.submit(f"{stream.prefix}.a", b"x" * nc.max_payload, 0)

    assert await writer.submit(f"{stream.prefix}.a", b"y", 0)[1] == 1
    await writer.close()


async def test_a_batch_is_stored_as_a_whole_between_single_commits(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name)
    p = stream.prefix
    writer.submit(f"{p}.a", b"1", 0)
    last, future = writer.submit_batch(
        [Append(f"{p}.a", b"2", 1), Append(f"{p}.b", b"3", 0), Append(f"{p}.b", b"4", 3)]
    )
    _, after = writer.submit(f"{p}.b", b"5", last)

    assert (last, await future, await after) == (4, 4, 5)
    assert [m.payload for m in await everything(nc, stream)] == [b"1", b"2", b"3", b"4", b"5"]
    await writer.close()


async def test_something_foreign_closes_the_writer_for_good(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    closed: list[MitosisError] = []
    writer = await PipelinedWriter.open(nc, stream.name, on_closed=closed.append)
    await foreign(nc, stream)

    _, future = writer.submit(f"{stream.prefix}.a", b"x", 0)

    with pytest.raises(Fenced, match="position 1"):
        await future
    assert [type(error) for error in closed] == [Fenced]
    assert writer.room == 0
    with pytest.raises(Fenced):
        writer.submit(f"{stream.prefix}.a", b"x", 0)
    with pytest.raises(Fenced):
        await writer.flush()
    assert [m.payload for m in await everything(nc, stream)] == [b"foreign"]
    await writer.close()


async def test_without_a_takeover_a_shifted_commit_would_slip_through(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    """The hole that takeover.py closes, shown so that nobody thinks it away."""
    writer = await PipelinedWriter.open(nc, stream.name)
    await foreign(nc, stream)

    futures = [writer.submit(f"{stream.prefix}.a{i}", b"%d" % i, 0)[1] for i in range(5)]
    results = await asyncio.gather(*futures, return_exceptions=True)

    assert all(isinstance(result, Fenced) for result in results)
    assert [m.payload for m in await everything(nc, stream)] == [b"foreign", b"1", b"2", b"3", b"4"]
    await writer.close()


def takeover(stream: StreamDefinition, tail: str = "platform") -> list[Append]:
    subject = f"{stream.prefix}.{tail}"
    term = Commit("f" * 32, "", "system:coordinator", datetime.now(UTC), 1, "", [("t@1", b"{}")])
    payloads = takeover_payloads(subject, term, [f"{i:032x}" for i in range(WINDOW)])
    return [Append(subject, payload, 0) for payload in payloads]


async def test_after_a_takeover_nothing_of_an_older_writer_is_stored(
    nc: StoreClient, stream: StreamDefinition, server: Server, connect: Connect
) -> None:
    old = await PipelinedWriter.open(nc, stream.name)
    await old.submit(f"{stream.prefix}.before", b"x", 0)[1]
    new = await PipelinedWriter.open(await connect(server), stream.name)
    last, opened = new.submit_batch(takeover(stream))

    assert await opened == last == WINDOW + 2
    futures = [old.submit(f"{stream.prefix}.a{i}", b"%d" % i, 0)[1] for i in range(WINDOW)]
    results = await asyncio.gather(*futures, return_exceptions=True)

    assert all(isinstance(result, Fenced) for result in results)
    assert (await stream_state(nc, stream.name)).last_seq == WINDOW + 2
    assert await new.submit(f"{stream.prefix}.a0", b"new", 0)[1] == WINDOW + 3
    await old.close()
    await new.close()


async def test_a_wrong_idea_of_an_aggregate_is_a_conflict_not_an_endless_retry(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await foreign(nc, stream, "a")
    writer = await PipelinedWriter.open(nc, stream.name)

    _, future = writer.submit(f"{stream.prefix}.a", b"x", 0)

    with pytest.raises(VersionConflict, match="last written at 1, not at 0"):
        await future
    await writer.close()


async def test_nothing_is_lost_or_doubled_when_the_server_is_killed(
    own_server: Server, connect: Connect
) -> None:
    nc = await connect(own_server)
    stream = fresh_definition()
    await ensure_stream(nc, stream)
    writer = await PipelinedWriter.open(nc, stream.name)
    stored: list[tuple[int, bytes]] = []
    subject = f"{stream.prefix}.same"
    sent: list[bytes] = []
    previous = 0

    async def submit_some(count: int) -> None:
        nonlocal previous
        for _ in range(count):
            while writer.room == 0:
                assert writer.closed_by is None
                await asyncio.sleep(0.001)
            payload = b"%d" % len(sent)
            previous = writer.send(
                subject, payload, previous, lambda p, payload=payload: stored.append((p, payload))
            )
            sent.append(payload)

    for _ in range(2):
        await submit_some(400)
        seen = len(stored)
        while len(stored) < seen + 50:  # noqa: ASYNC110  (so that it dies in the middle)
            await asyncio.sleep(0)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
    await submit_some(200)
    await asyncio.wait_for(writer.flush(), 30)

    assert stored == [(i + 1, payload) for i, payload in enumerate(sent)]
    assert [(m.position, m.payload) for m in await everything(nc, stream)] == stored
    await writer.close()


async def test_a_frozen_server_is_waited_for(own_server: Server, connect: Connect) -> None:
    nc = await connect(own_server)
    stream = fresh_definition()
    await ensure_stream(nc, stream)
    writer = await PipelinedWriter.open(nc, stream.name, answer_seconds=0.3)
    await writer.submit(f"{stream.prefix}.a", b"1", 0)[1]

    own_server.signal(signal.SIGSTOP)
    futures = [writer.submit(f"{stream.prefix}.b{i}", b"2", 0)[1] for i in range(20)]
    async with asyncio.timeout(10):
        while writer.room:  # noqa: ASYNC110  (the writer stops accepting when it sees trouble)
            await asyncio.sleep(0.01)
    own_server.signal(signal.SIGCONT)

    assert await asyncio.gather(*futures) == list(range(2, 22))
    assert len(await everything(nc, stream)) == 21
    await writer.close()


async def test_when_the_budget_is_over_the_outcome_is_unknown(
    own_server: Server, connect: Connect
) -> None:
    nc = await connect(own_server)
    stream = fresh_definition()
    await ensure_stream(nc, stream)
    closed: list[MitosisError] = []
    writer = await PipelinedWriter.open(
        nc, stream.name, budget_seconds=0.5, on_closed=closed.append
    )
    own_server.kill()

    _, future = writer.submit(f"{stream.prefix}.a", b"x", 0)

    with pytest.raises(OutcomeUnknown, match="position 1"):
        await asyncio.wait_for(future, 10)
    assert isinstance(writer.closed_by, OutcomeUnknown)
    assert closed == [writer.closed_by]
    await writer.close()


async def test_closing_tells_what_was_still_on_its_way(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    writer = await PipelinedWriter.open(nc, stream.name)
    _, future = writer.submit(f"{stream.prefix}.a", b"x", 0)

    await writer.close()

    with pytest.raises(OutcomeUnknown):
        await future


async def test_a_callback_that_raises_does_not_stop_the_writer(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    seen: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: seen.append(c["message"]))
    writer = await PipelinedWriter.open(nc, stream.name)

    def fail(position: int) -> None:
        raise RuntimeError(position)

    writer.send(f"{stream.prefix}.a", b"1", 0, fail)
    assert await writer.submit(f"{stream.prefix}.b", b"2", 0)[1] == 2

    assert seen == ["a callback of the event writer failed: 1"]
    await writer.close()


def test_the_payloads_of_a_takeover_need_a_full_window_of_ids() -> None:
    term = Commit("f" * 32, "", "system:coordinator", datetime.now(UTC), 1, "", [("t@1", b"{}")])

    with pytest.raises(ValueError, match="needs 500"):
        takeover_payloads("s", term, ["0" * 32])
    assert encode_commit(term) == takeover_payloads("s", term, ["0" * 32] * WINDOW)[0]


async def test_a_batch_with_a_wrong_idea_of_an_aggregate_stores_nothing(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    await foreign(nc, stream, "b")
    writer = await PipelinedWriter.open(nc, stream.name)

    _, future = writer.submit_batch(
        [Append(f"{stream.prefix}.a", b"1", 0), Append(f"{stream.prefix}.b", b"2", 0)]
    )

    with pytest.raises(VersionConflict, match=r"\.b was last written at 1"):
        await future
    assert [m.payload for m in await everything(nc, stream)] == [b"foreign"]
    await writer.close()


async def test_a_fault_that_the_server_tells_is_waited_for_beyond_the_budget(
    nc: StoreClient,
) -> None:
    stream = fresh_definition()
    config = stream.config() | {"max_bytes": 1000}
    await request(nc, f"$JS.API.STREAM.CREATE.{stream.name}", config)
    asked: list[str | None] = []

    async def why() -> str | None:
        asked.append("the disk is full" if len(asked) < 4 else None)
        return asked[-1]

    writer = await PipelinedWriter.open(nc, stream.name, budget_seconds=0.2, why=why)
    await writer.submit(f"{stream.prefix}.a", b"x" * 500, 0)[1]
    assert asked == []
    _, future = writer.submit(f"{stream.prefix}.b", b"x" * 500, 0)
    await eventually(lambda: writer.fault == "the disk is full", seconds=10)
    await eventually(lambda: len(asked) > 2, seconds=10)
    assert not future.done()
    await request(nc, f"$JS.API.STREAM.UPDATE.{stream.name}", config | {"max_bytes": -1})
    assert await asyncio.wait_for(future, 10) == 2
    assert writer.fault is None
    await writer.close()


async def test_a_full_store_is_the_reason_when_the_budget_is_over(nc: StoreClient) -> None:
    stream = fresh_definition()
    config = stream.config() | {"max_bytes": 1000}
    await request(nc, f"$JS.API.STREAM.CREATE.{stream.name}", config)
    writer = await PipelinedWriter.open(nc, stream.name, budget_seconds=0.5)
    assert await writer.submit(f"{stream.prefix}.a", b"x" * 500, 0)[1] == 1

    _, future = writer.submit(f"{stream.prefix}.b", b"x" * 500, 0)

    with pytest.raises(OutcomeUnknown, match="maximum bytes exceeded"):
        await asyncio.wait_for(future, 10)
    assert (await stream_state(nc, stream.name)).last_seq == 1
    await writer.close()
