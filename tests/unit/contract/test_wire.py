import pytest

from mitosis.contract import commands, login, queries, wire, work
from mitosis.contract.wire import Nothing, Reply, Request
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind
from mitosis.errors import InvalidInput, NotFound, TooLarge

CANCEL = wire.request_decoder(commands.CancelTask)


def test_a_request_arrives_as_it_was_sent() -> None:
    sent = Request(commands.CancelTask("t", "enough"), id="c1")
    assert wire.decode_request(CANCEL, wire.encode(sent)) == sent


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"{}", b'{"body":{}}', b'{"body":{"task":1}}', b"\xff", b'{"body":',
     b'{"body":{"task":"\xff"}}', b'{"body":' * 50_000, b'{"new":' + b"[" * 50_000],
)  # fmt: skip
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="the request cannot be read"):
        wire.decode_request(CANCEL, data)


def test_a_request_of_another_protocol_is_refused_with_what_to_do() -> None:
    data = wire.encode(Request(commands.CancelTask("t"), protocol=2))
    with pytest.raises(InvalidInput, match="protocol version 2, this side speaks 1: use client"):
        wire.decode_request(CANCEL, data)


@pytest.mark.parametrize(
    "data", [b'{"body":{"task":"t","colour":"red"}}', b'{"body":{"task":"t"},"mood":1}']
)
def test_a_wish_that_this_version_does_not_know_is_refused_instead_of_forgotten(
    data: bytes,
) -> None:
    with pytest.raises(InvalidInput, match=r"unknown field.*use client and coordinator of"):
        wire.decode_request(CANCEL, data)


def test_a_fact_that_this_version_does_not_know_costs_no_report() -> None:
    reports = wire.request_decoder(work.Reports)
    request = wire.decode_request(reports, b'{"body":{"reports":[],"weather":"fine"}}')
    assert request.body.reports == []


def test_a_message_that_nats_would_not_carry_is_refused_before_it_is_sent() -> None:
    body = commands.CancelTask("t", "x" * wire.MAX_REQUEST_BYTES)
    with pytest.raises(TooLarge) as refusal:
        wire.encode(Request(body))
    assert refusal.value.details["limit"] == wire.MAX_REQUEST_BYTES


def test_a_text_that_is_no_utf8_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidInput, match="character 4 of a text with 5 is not valid") as refusal:
        wire.encode(Request(commands.CancelTask("pas\udce9s")))
    assert "pas" not in str(refusal.value)  # it may be a password
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__


def test_an_error_arrives_as_the_error_that_was_raised() -> None:
    data = wire.error_reply(NotFound("no such task", task="t"), position=7)
    reply = wire.reply_decoder(Nothing).decode(data)
    assert reply.position == 7
    assert reply.error is not None
    with pytest.raises(NotFound, match="no such task") as raised:
        wire.raise_error(reply.error)
    assert raised.value.details == {"task": "t"}


def test_an_error_repeats_a_huge_value_only_in_part() -> None:
    huge = "\x7f" * 1_000_000
    data = wire.error_reply(NotFound(f"there is no {huge!r}", name=huge))
    assert len(data) < 32 * 1024
    error = wire.reply_decoder(Nothing).decode(data).error
    assert error is not None
    assert error.message.startswith("there is no '")
    assert error.message.endswith("...")


def test_a_reply_arrives_as_it_was_sent() -> None:
    sent = Reply(commands.Cancelled("t", ended=True), position=3)
    assert wire.reply_decoder(commands.Cancelled).decode(wire.encode(sent)) == sent


@pytest.mark.parametrize(
    "message",
    [
        commands.CreateUser("alice", "SECRET"),
        login.PasswordLogin("alice", "SECRET"),
        commands.Registered("w", "SECRET", 600.0, 60.0, {"lab": Role.WRITE}),
        queries.ArtifactLink("t", ArtifactKind.RESULT, 1, "0" * 64, "http://SECRET"),
        work.UploadGranted("o", "http://SECRET", 60.0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_secret_is_never_shown_by_its_message(message: object) -> None:
    assert "SECRET" not in f"{message!r} {message}"


@pytest.mark.parametrize("made_up", ["a" * 101, "line\\nbreak", "\\u0000", "é"])
def test_an_id_that_could_not_be_stored_with_the_commit_is_refused(made_up: str) -> None:
    text = f'{{"body": {{"task": "t"}}, "id": "{made_up}"}}'
    with pytest.raises(InvalidInput, match="printable ASCII"):
        wire.decode_request(CANCEL, text.encode())
    assert wire.decode_request(CANCEL, text.replace(made_up, "0-c").encode()).id == "0-c"
