"""The stored form is a promise: these bytes never change."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.errors import CorruptData
from mitosis.events.envelope import Commit, commit_id, decode_commit, digest, encode_commit

SUBJECT = "mito.events.task.lab.4b1c"
TIME = datetime(2026, 11, 25, 17, 21, 12, 123456, tzinfo=UTC)
GOLDEN = (
    b'{"schema":1,"commit":"000102030405060708090a0b0c0d0e0f","command":"c-1",'
    b'"actor":"user:alice","time":"2026-11-25T17:21:12.123456Z","version":1,"previous":"",'
    b'"events":[["task.submitted@1",{"argv":["true"]}],["task.ready@1",{}]]}'
)
GOLDEN_DIGEST = "e139da9810138b6bc60a2d0c60842915c2b0bef0411599eff75b6ae915980d40"
GOLDEN_BASE64 = (
    b'{"schema":1,"commit":"000102030405060708090a0b0c0d0e0f","command":"",'
    b'"actor":"system:library","time":"2026-11-25T17:21:12.123456Z","version":7,'
    b'"previous":"' + b"ab" * 32 + b'","events":[["other","AP8B","base64"]]}'
)


def golden() -> Commit:
    return Commit(
        commit="000102030405060708090a0b0c0d0e0f",
        command="c-1",
        actor="user:alice",
        time=TIME,
        version=1,
        previous="",
        events=[
            ("task.submitted@1", msgspec.Raw(b'{"argv":["true"]}')),
            ("task.ready@1", b"{}"),
        ],
    )


def test_a_commit_is_stored_as_exactly_these_bytes() -> None:
    assert encode_commit(golden()) == GOLDEN


def test_the_digest_covers_subject_and_payload() -> None:
    assert digest(SUBJECT, GOLDEN) == GOLDEN_DIGEST
    assert digest(SUBJECT + "x", GOLDEN) != GOLDEN_DIGEST


def test_the_session_that_asked_is_a_last_key_that_others_do_not_have() -> None:
    commit = msgspec.structs.replace(golden(), session="abc")
    assert encode_commit(commit) == GOLDEN[:-1] + b',"session":"abc"}'
    assert decode_commit(SUBJECT, encode_commit(commit)).session == "abc"
    assert decode_commit(SUBJECT, GOLDEN).session == ""


def test_the_golden_bytes_are_read_back() -> None:
    commit = decode_commit(SUBJECT, GOLDEN, 1)

    assert (commit.commit, commit.command, commit.actor) == (
        "000102030405060708090a0b0c0d0e0f",
        "c-1",
        "user:alice",
    )
    assert commit.time == TIME
    assert (commit.version, commit.last_version, commit.previous) == (1, 2, "")
    assert [(topic, bytes(body)) for topic, body in commit.events] == [
        ("task.submitted@1", b'{"argv":["true"]}'),
        ("task.ready@1", b"{}"),
    ]
    assert encode_commit(commit) == GOLDEN


def test_a_state_that_is_no_json_object_is_stored_as_base64() -> None:
    commit = Commit(
        commit="000102030405060708090a0b0c0d0e0f",
        command="",
        actor="system:library",
        time=TIME,
        version=7,
        previous="ab" * 32,
        events=[("other", b"\x00\xff\x01")],
    )

    assert encode_commit(commit) == GOLDEN_BASE64
    assert decode_commit(SUBJECT, GOLDEN_BASE64).events == [("other", b"\x00\xff\x01")]


json_objects = st.dictionaries(
    st.text(max_size=5), st.integers(-(2**53), 2**53) | st.text(max_size=5), max_size=3
)


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.binary() | json_objects.map(msgspec.json.encode)),
        max_size=4,
    )
)
def test_every_state_comes_back_byte_for_byte(events: list[tuple[str, bytes]]) -> None:
    commit = msgspec.structs.replace(golden(), events=events)

    decoded = decode_commit(SUBJECT, encode_commit(commit))

    assert [(topic, bytes(body)) for topic, body in decoded.events] == events


@pytest.mark.parametrize(
    "state",
    [b"", b"{", b"{}{}", b'{"a":1} ', b' {"a":1}', b'{"\xff":1}', b"[1]", b'"{}"', b"{]}"],
)
def test_states_that_only_look_like_json_survive(state: bytes) -> None:
    commit = msgspec.structs.replace(golden(), events=[("t", state)])

    [(_, body)] = decode_commit(SUBJECT, encode_commit(commit)).events

    assert bytes(body) == state


def test_unknown_keys_of_a_newer_writer_are_ignored() -> None:
    newer = GOLDEN[:-1] + b',"trace":{"id":"x"}}'

    assert decode_commit(SUBJECT, newer) == decode_commit(SUBJECT, GOLDEN)


def test_a_newer_schema_is_refused_with_its_position() -> None:
    newer = GOLDEN.replace(b'"schema":1', b'"schema":2')

    with pytest.raises(CorruptData, match="position 41 has envelope schema 2") as caught:
        decode_commit(SUBJECT, newer, 41)

    assert caught.value.details["position"] == 41
    assert caught.value.details["subject"] == SUBJECT


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff\xfe",
        GOLDEN[:-1],
        GOLDEN.replace(b'"version":1', b'"version":"1"'),
        GOLDEN.replace(b'"commit"', b'"commix"'),
        GOLDEN_BASE64.replace(b'"base64"', b'"rot13"'),
        GOLDEN_BASE64.replace(b"AP8B", b"AP8"),
        GOLDEN_BASE64.replace(b'"AP8B"', b"{}"),
    ],
)
def test_damaged_bytes_are_corrupt_data(damaged: bytes) -> None:
    with pytest.raises(CorruptData, match="at position 3"):
        decode_commit(SUBJECT, damaged, 3)


def test_a_time_without_zone_is_refused() -> None:
    commit = msgspec.structs.replace(golden(), time=datetime(2026, 1, 1))  # noqa: DTZ001

    with pytest.raises(ValueError, match="has no zone"):
        encode_commit(commit)


def test_a_time_in_another_zone_is_the_same_instant() -> None:
    shifted = TIME.astimezone(timezone(timedelta(hours=2)))
    commit = msgspec.structs.replace(golden(), time=shifted)

    assert decode_commit(SUBJECT, encode_commit(commit)).time == TIME


def test_the_commit_id_is_read_without_the_rest() -> None:
    assert commit_id(GOLDEN) == "000102030405060708090a0b0c0d0e0f"
    assert commit_id(b"no json") == ""
