"""A connection that lasts: order, losses, returns, and what callers hear meanwhile."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal

import pytest
from nats.errors import UnexpectedEOF

from mitosis.errors import (
    InvalidInput,
    NoCoordinator,
    TooLarge,
    Unavailable,
)
from mitosis.nats.connection import Connection, Msg
from mitosis.nats.link import dial
from mitosis.testing.waiting import eventually
from tests.integration.nats.conftest import SERVICE, error_of, kill


@pytest.fixture
async def service(shared_server):
    async with await Connection.open([shared_server], SERVICE, name="one") as connection:
        yield connection


@pytest.fixture
async def other(shared_server):
    async with await Connection.open([shared_server], SERVICE, name="two") as connection:
        yield connection


async def answer_everything(connection: Connection, subject: str) -> None:
    def answer(message: Msg) -> None:
        connection.publish(message.reply, b"re:" + message.data)

    await connection.subscribe(subject, answer)
    await connection.flush()


async def test_many_requests_at_once_each_get_their_own_answer(service, other):
    await answer_everything(service, "t.echo")
    bodies = [str(number).encode() for number in range(1_000)]
    answers = await asyncio.gather(*(other.request("t.echo", body, 10) for body in bodies))
    assert answers == [b"re:" + body for body in bodies]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_callback_gets_its_messages_one_by_one_in_order(service, other, asynchronous):
    seen: list[int] = []
    running = 0

    async def slow(message: Msg) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        seen.append(int(message.data))
        running -= 1

    await service.subscribe("t.order", slow if asynchronous else lambda m: seen.append(int(m.data)))
    await service.flush()
    for number in range(5_000):
        other.publish("t.order", str(number).encode())
    await eventually(lambda: len(seen) == 5_000)
    assert seen == list(range(5_000))


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_callback_that_fails_is_logged_and_gets_the_next_message(
    service, other, asynchronous, caplog
):
    seen: list[bytes] = []

    def fragile(message: Msg) -> None:
        seen.append(bytes(message.data))
        if message.data == b"bad":
            raise KeyError("broken callback")

    async def fragile_later(message: Msg) -> None:
        fragile(message)

    await service.subscribe("t.fragile", fragile_later if asynchronous else fragile)
    await service.flush()
    other.publish("t.fragile", b"bad")
    other.publish("t.fragile", b"good")
    await eventually(lambda: len(seen) == 2)
    assert any("t.fragile" in record.getMessage() for record in caplog.records)


async def test_nothing_is_dropped_for_a_subscriber_that_is_behind(service, other):
    """nats-py's default limit (512 Ki messages, 128 MiB) would drop without a word."""
    release = asyncio.Event()
    count = 0

    async def blocked(_: Msg) -> None:
        nonlocal count
        await release.wait()
        count += 1

    await service.subscribe("t.behind", blocked)
    await service.flush()
    for _ in range(2_200):  # 138 MiB
        other.publish("t.behind", b"x" * 64 * 1024)
        if other.raw.pending_data_size > 8_000_000:
            await other.flush()
    await other.flush()
    release.set()
    await eventually(lambda: count == 2_200)


async def test_a_request_without_an_answer_ends_in_time(service, other):
    await service.subscribe("t.silent", lambda _: None)
    await service.flush()
    error = await error_of(lambda: other.request("t.silent", b"", 0.05))
    assert type(error) is Unavailable
    assert "0.05 s" in error.message
    assert not other._waiting


async def test_a_message_that_is_too_large_is_refused_before_it_is_sent(service):
    size = service.raw.max_payload + 1
    with pytest.raises(TooLarge) as caught:
        service.publish("t.large", b"x" * size)
    assert caught.value.details["size"] == size
    await service.flush()


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb"])
async def test_a_subject_cannot_smuggle_commands(service, subject):
    with pytest.raises(ValueError, match="malformed subject"):
        service.publish(subject, b"")
    with pytest.raises(ValueError, match="malformed subject"):
        service.publish("ok", b"", subject or " ")


async def test_subscriptions_and_requests_survive_a_restart_of_the_server(own_server):
    events: list[str] = []
    one = await Connection.open(
        [own_server.url],
        SERVICE,
        name="one",
        on_disconnect=lambda: events.append("lost"),
        on_reconnect=lambda: events.append("back"),
    )
    two = await Connection.open([own_server.url], SERVICE, name="two")
    await answer_everything(one, "t.echo")
    assert await two.request("t.echo", b"1", 5) == b"re:1"
    await kill(own_server)
    await eventually(lambda: not (one.is_connected or two.is_connected))
    with pytest.raises(Unavailable):
        one.publish("t.echo", b"lost")
    early = asyncio.create_task(two.request("t.echo", b"2", 20))
    await own_server.restart()
    await eventually(lambda: events == ["lost", "back"])
    # The early request may have come before the other side was back: then nobody listened.
    outcome = (await asyncio.gather(early, return_exceptions=True))[0]
    assert outcome == b"re:2" or isinstance(outcome, NoCoordinator)
    await one.flush()
    assert await two.request("t.echo", b"3", 5) == b"re:3"
    await one.close()
    await two.close()


async def test_a_request_in_the_moment_of_a_loss_waits_for_the_next_link(service, shared_server):
    """Found by the one who reads, and not told yet: whoever asked just then was sent away."""
    await answer_everything(service, "t.echo")
    async with await Connection.open([shared_server], SERVICE, name="one") as connection:
        link = connection._link
        link.is_broken = True
        asked = asyncio.create_task(connection.request("t.echo", b"x", 10))
        await asyncio.sleep(0)  # it has begun
        assert not asked.done()
        await link._process_op_err(UnexpectedEOF())
        assert await asked == b"re:x"
        assert connection._link is not link


async def test_what_has_arrived_is_handled_although_the_link_is_lost(own_server):
    connection = await Connection.open([own_server.url], SERVICE, name="one")
    release, seen = asyncio.Event(), []

    async def slow(message: Msg) -> None:
        await release.wait()
        seen.append(bytes(message.data))

    await connection.subscribe("t.slow", slow)
    for data in (b"1", b"2", b"3"):
        connection.publish("t.slow", data)
    await connection.flush()
    await kill(own_server)
    await eventually(lambda: not connection.is_connected)
    release.set()
    await eventually(lambda: seen == [b"1", b"2", b"3"])
    await connection.close()


async def test_without_reconnecting_a_loss_ends_the_connection(own_server):
    connection = await Connection.open([own_server.url], SERVICE, name="one", reconnect=False)
    await kill(own_server)
    async with asyncio.timeout(5):
        await connection.wait_closed()
    error = await error_of(lambda: connection.request("t.echo", b"", 5))
    assert isinstance(error, Unavailable)
    await connection.close()


async def test_closing_ends_requests_under_way_and_leaves_no_task(shared_server):
    before = asyncio.all_tasks()
    connection = await Connection.open([shared_server], SERVICE, name="one")

    async def later(_: Msg) -> None:
        await asyncio.sleep(60)

    await connection.subscribe("t.silent", later)
    request = asyncio.create_task(error_of(lambda: connection.request("t.silent", b"", 60)))
    await asyncio.sleep(0)
    await connection.flush()
    await connection.close()
    assert isinstance(await request, Unavailable)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert isinstance(await error_of(lambda: connection.request("t.x", b"", 5)), Unavailable)


async def test_draining_handles_what_has_arrived_and_then_closes(shared_server, other):
    connection = await Connection.open([shared_server], SERVICE, name="one")
    seen: list[bytes] = []

    async def slow(message: Msg) -> None:
        await asyncio.sleep(0)
        seen.append(bytes(message.data))
        connection.publish("t.drained", message.data)

    answers: list[bytes] = []
    await other.subscribe("t.drained", lambda message: answers.append(bytes(message.data)))
    await other.flush()
    await connection.subscribe("t.drain", slow)
    await connection.flush()
    for number in range(200):
        other.publish("t.drain", str(number).encode())
    await other.flush()
    await connection.drain()
    assert len(seen) == 200
    await eventually(lambda: len(answers) == 200)
    assert not connection.is_connected


async def test_unsubscribing_stops_the_messages(service, other):
    seen: list[bytes] = []
    subscription = await service.subscribe("t.stop", lambda message: seen.append(message.data))
    await service.flush()
    other.publish("t.stop", b"1")
    await eventually(lambda: seen == [b"1"])
    await subscription.unsubscribe()
    await service.flush()
    other.publish("t.stop", b"2")
    await other.flush()
    await service.flush()
    assert seen == [b"1"]


async def test_an_idle_round_trip_makes_no_task(service, other):
    await answer_everything(service, "t.echo")
    await other.request("t.echo", b"warm", 5)
    made = itertools.count()
    loop = asyncio.get_running_loop()

    def factory(loop, coro, **options):
        next(made)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        await other.request("t.echo", b"1", 5)
    finally:
        loop.set_task_factory(None)
    assert next(made) == 0


async def test_a_listener_that_fails_does_not_stop_the_return(own_server, caplog):
    def fail() -> None:
        raise InvalidInput("a broken listener")

    back = asyncio.Event()
    connection = await Connection.open(
        [own_server.url], SERVICE, name="one", on_disconnect=fail, on_reconnect=back.set
    )
    await kill(own_server)
    await own_server.restart()
    async with asyncio.timeout(10):
        await back.wait()
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    await connection.close()


async def test_the_end_of_a_link_is_told_although_something_still_waits_to_be_sent(own_server):
    ended = asyncio.Event()

    async def on_closed(_: object) -> None:
        ended.set()

    async def send_on() -> None:
        while not ended.is_set():
            with contextlib.suppress(Unavailable):
                link.send("late", b"x" * 1_000)
            await asyncio.sleep(0)

    link = await dial(
        own_server.url,
        SERVICE,
        name="one",
        tls=None,
        timeout_seconds=5.0,
        on_closed=on_closed,
        on_error=lambda _: None,
    )
    # A server that dies with unread data resets the connection.
    os.kill(own_server.process.pid, signal.SIGSTOP)
    link.send("unread", b"x" * 10_000)
    await asyncio.sleep(0)
    sending = asyncio.create_task(send_on())
    await kill(own_server)
    await asyncio.wait_for(ended.wait(), 5)
    await sending
    with pytest.raises(Unavailable):
        link.send("later", b"")
