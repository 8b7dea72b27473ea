"""Typed requests: what comes back for good, bad, foreign, late and broken ones."""

import asyncio

import msgspec
import pytest

from mitosis.contract import wire
from mitosis.errors import (
    AlreadyExists,
    InvalidInput,
    MitosisError,
    NoCoordinator,
    Overloaded,
    TooLarge,
    Unavailable,
)
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection
from mitosis.nats.discovery import Discovery
from mitosis.nats.rpc import Caller, Endpoints
from mitosis.testing.waiting import eventually
from tests.integration.nats.conftest import SERVICE, error_of


class Body(msgspec.Struct):
    number: int
    text: str = ""


class Result(msgspec.Struct):
    number: int
    owner: str = ""


@pytest.fixture
async def coordinator(shared_server):
    async with await Connection.open([shared_server], SERVICE, name="coordinator") as connection:
        yield connection


@pytest.fixture
async def endpoints(coordinator):
    turned_away: list[Caller] = []
    endpoints = Endpoints(
        coordinator, "mito.cmd.>", max_running=2, handler_timeout_seconds=0.5,
        on_refused=lambda caller, _: turned_away.append(caller),
    )  # fmt: skip
    endpoints.turned_away = turned_away
    release = asyncio.Event()

    def at_once(caller: Caller, body: Body) -> wire.Reply[Result]:
        return wire.Reply(Result(body.number + 1, caller.owner), position=7)

    async def in_a_while(caller: Caller, body: Body) -> Result:
        await asyncio.sleep(0)
        return Result(body.number + 2, caller.owner)

    def by_itself(caller: Caller, body: Body) -> None:
        answer = Result(body.number + 3, f"{caller.owner}/{caller.verb}/{caller.request_id}")
        asyncio.get_running_loop().call_soon(endpoints.respond, caller.reply, answer, 9)

    def refuse(caller: Caller, body: Body) -> Result:
        raise AlreadyExists("taken", name=body.text)

    async def refuse_later(caller: Caller, body: Body) -> Result:
        raise AlreadyExists("taken", name=body.text)

    def fail(caller: Caller, body: Body) -> Result:
        raise ZeroDivisionError(f"the secret {body.text}")

    async def wait(caller: Caller, body: Body) -> Result:
        await release.wait()
        return Result(0)

    def bloat(caller: Caller, body: Body) -> Result:
        return Result(0, "x" * wire.MAX_REQUEST_BYTES)

    for verb, handler in {
        "t.once": at_once, "t.while": in_a_while, "t.itself": by_itself, "t.refuse": refuse,
        "t.refuse_later": refuse_later, "t.fail": fail, "t.wait": wait, "t.bloat": bloat,
    }.items():  # fmt: skip
        endpoints.add(verb, Body, handler)
    await endpoints.start()
    await coordinator.flush()
    endpoints.release = release
    yield endpoints
    release.set()
    await endpoints.stop()


def ask(connection, verb, body=None, *, user="alice", timeout_seconds=5.0, **options):
    return call(
        connection,
        f"mito.cmd.{user}.{verb}",
        body or Body(1),
        Result,
        timeout_seconds=timeout_seconds,
        **options,
    )


@pytest.fixture
async def alice(platform, endpoints):
    return await platform.enter("alice")


async def test_handlers_may_answer_at_once_in_a_while_or_by_themselves(alice):
    assert await ask(alice, "t.once") == wire.Reply(Result(2, "alice"), position=7)
    assert await ask(alice, "t.while") == wire.Reply(Result(3, "alice"))
    reply = await ask(alice, "t.itself", command_id="c-1")
    assert reply == wire.Reply(Result(4, "alice/t.itself/c-1"), position=9)


@pytest.mark.parametrize("verb", ["t.refuse", "t.refuse_later"])
async def test_an_error_of_the_tree_arrives_with_type_and_facts(alice, verb):
    error = await error_of(lambda: ask(alice, verb, Body(1, "name")))
    assert (type(error), error.message, error.details) == (AlreadyExists, "taken", {"name": "name"})


async def test_a_failure_is_logged_with_its_trace_and_answered_without(alice, caplog):
    error = await error_of(lambda: ask(alice, "t.fail", Body(1, "hunter2")))
    assert type(error) is MitosisError
    assert error.code == "error"
    assert "coordinator's log" in error.message
    assert "hunter2" not in str(error)
    assert any(record.exc_info for record in caplog.records)


async def test_an_unknown_verb_lists_the_known_ones(alice):
    error = await error_of(lambda: ask(alice, "t.unknown"))
    assert isinstance(error, InvalidInput)
    assert "'t.unknown'" in error.message
    assert "t.once" in error.message


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"body":{"number":"x"}}', b"\xff\xfe", b'{"body":null}']
)
async def test_bytes_that_are_no_request_get_an_answer(alice, data):
    answer = await alice.request("mito.cmd.alice.t.once", data, 5)
    assert wire.reply_decoder(Result).decode(answer).error.code == "invalid"


async def test_another_version_of_the_protocol_is_told_so(alice):
    answer = await alice.request("mito.cmd.alice.t.once", b'{"protocol":2,"body":{"number":1}}', 5)
    assert "protocol version 2" in wire.reply_decoder(Result).decode(answer).error.message


async def test_a_subject_without_a_verb_gets_an_answer(alice):
    answer = await alice.request("mito.cmd.alice.x", b"{}", 5)
    assert wire.reply_decoder(Result).decode(answer).error.code == "invalid"


async def test_too_many_running_handlers_are_answered_with_try_again(alice, endpoints):
    waiting = [asyncio.create_task(ask(alice, "t.wait")) for _ in range(2)]
    await eventually(lambda: len(endpoints._running) == 2)
    error = await error_of(lambda: ask(alice, "t.wait", command_id="it may come again"))
    assert type(error) is Overloaded
    assert error.details["retry_after_seconds"] > 0
    assert [caller.request_id for caller in endpoints.turned_away] == ["it may come again"]
    assert await ask(alice, "t.once")  # synchronous handlers are not held up
    endpoints.release.set()
    assert [(await task).result for task in waiting] == [Result(0)] * 2


async def test_a_handler_that_takes_too_long_is_stopped_and_answered(alice, endpoints):
    error = await error_of(lambda: ask(alice, "t.wait"))
    assert type(error) is Unavailable
    assert "0.5 s" in error.message
    await eventually(lambda: not endpoints._running)


async def test_an_answer_that_is_too_large_becomes_an_error(alice):
    assert isinstance(await error_of(lambda: ask(alice, "t.bloat")), TooLarge)


async def test_a_request_that_is_too_large_is_refused_before_it_is_sent(alice):
    body = Body(1, "x" * wire.MAX_REQUEST_BYTES)
    assert isinstance(await error_of(lambda: ask(alice, "t.once", body)), TooLarge)


@pytest.mark.parametrize(
    "reply",
    [
        "mito.control.worker-1", "mito.work.lab.worker-1", "$JS.API.STREAM.DELETE.MITO_EVENTS",
        "mito.events.user.root", "_INBOX.user.bob.x.1", "_INBOX.worker.w.1", "mito.login.hello",
        "_INBOX.guest.x.1", "_INBOX.user.alice", "_INBOX.user.alicex.1",
    ],
)  # fmt: skip
async def test_nobody_can_borrow_the_coordinators_rights_by_a_reply_subject(
    alice, coordinator, caplog, reply
):
    """The server lets a client name any reply subject; our answer would be published there."""
    seen: list[str] = []
    await coordinator.subscribe(reply, lambda message: seen.append(message.subject))
    await coordinator.flush()
    request = wire.encode(wire.Request(Body(1)))
    alice.publish("mito.cmd.alice.t.once", request, reply)
    await ask(alice, "t.once")  # answered after the one before it
    await coordinator.flush()
    assert seen == []
    assert any(reply in record.getMessage() for record in caplog.records)


async def test_a_request_to_another_users_subject_never_reaches_a_handler(alice):
    error = await error_of(lambda: ask(alice, "t.once", user="bob", timeout_seconds=0.3))
    assert isinstance(error, Unavailable)


async def test_after_the_stop_nobody_answers(alice, endpoints, coordinator):
    await endpoints.stop()
    await coordinator.flush()
    assert isinstance(await error_of(lambda: ask(alice, "t.once")), NoCoordinator)


async def test_services_are_found_by_administrators(platform, coordinator):
    discovery = Discovery(
        coordinator, "mito-coordinator", "1.2.3", "decides", lambda: Result(5, "up")
    )
    await discovery.start()
    await coordinator.flush()
    root = await platform.enter("root")
    for verb in ("PING", "INFO", "STATS"):
        answer = msgspec.json.decode(await root.request(f"$SRV.{verb}.mito-coordinator", b"", 5))
        assert (answer["name"], answer["version"]) == ("mito-coordinator", "1.2.3")
    status = await platform.service.request("mito-coordinator.status", b"", 5)
    assert msgspec.json.decode(status, type=Result) == Result(5, "up")
    await discovery.stop()
    await coordinator.flush()
    assert isinstance(
        await error_of(lambda: root.request("$SRV.PING.mito-coordinator", b"", 5)), NoCoordinator
    )


async def test_a_question_to_a_service_cannot_send_the_answer_anywhere_but_to_an_inbox(
    platform, coordinator
):
    discovery = Discovery(
        coordinator, "mito-coordinator", "1.2.3", "decides", lambda: Result(5, "up")
    )
    await discovery.start()
    await coordinator.flush()
    root, stored = await platform.enter("root"), []
    await platform.service.subscribe("mito.>", lambda message: stored.append(message.subject))
    await platform.service.flush()
    for question in ("$SRV.PING", "$SRV.INFO", "$SRV.STATS", "$SRV.PING.mito-coordinator"):
        for foreign in ("mito.events.task.lab.x", "mito.control.x", "mito.live.task.lab.x"):
            root.publish(question, b"", foreign)
    await root.request("$SRV.PING", b"", 5)  # answered after all of them
    await platform.service.flush()
    assert stored == []
    await discovery.stop()
