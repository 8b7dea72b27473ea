"""A changed, lost, moved or repeated commit is found at its position."""

from datetime import UTC, datetime

import msgspec
import pytest

from mitosis.errors import CorruptData
from mitosis.events.envelope import Commit, decode_commit, digest, encode_commit
from mitosis.events.messages import StoredMessage
from mitosis.events.verify import ChainVerifier

PREFIX = "mito.events"


def history(count: int = 3) -> list[StoredMessage]:
    """Two aggregates, written alternately; every commit has two events."""
    found: list[StoredMessage] = []
    ends = {"a": "", "b": ""}
    for i in range(count):
        for tail, previous in list(ends.items()):
            subject = f"{PREFIX}.{tail}"
            commit = Commit(
                f"{len(found):032x}",
                "",
                "user:alice",
                datetime(2026, 1, 1, tzinfo=UTC),
                2 * i + 1,
                previous,
                [("t@1", b"{}"), ("t@1", b"{}")],
            )
            payload = encode_commit(commit)
            ends[tail] = digest(subject, payload)
            found.append(StoredMessage(len(found) + 1, subject, payload))
    return found


def check(messages: list[StoredMessage]) -> ChainVerifier:
    verifier = ChainVerifier(PREFIX)
    verifier.check(messages)
    return verifier


def test_whole_chains_are_accepted() -> None:
    messages = history()

    verifier = check(messages)

    assert (verifier.commits, verifier.position) == (6, 6)
    last = messages[-1]
    assert verifier.chains["b"] == (6, digest(last.subject, last.payload))


def test_a_changed_byte_is_found_at_the_next_commit() -> None:
    messages = history()
    messages[2] = messages[2]._replace(payload=messages[2].payload.replace(b"alice", b"mally"))

    with pytest.raises(
        CorruptData, match=r"position 5 on mito\.events\.a breaks its chain"
    ) as caught:
        check(messages)
    assert caught.value.details == {"position": 5, "subject": "mito.events.a"}


def test_a_lost_commit_is_found() -> None:
    messages = history()
    del messages[2]

    with pytest.raises(CorruptData, match="position 5"):
        check(messages)


def test_a_lost_beginning_is_found() -> None:
    with pytest.raises(CorruptData, match="must be none"):
        check(history()[2:])


def test_a_commit_on_another_subject_is_found() -> None:
    messages = history()
    messages[1] = messages[1]._replace(subject=f"{PREFIX}.c")

    with pytest.raises(CorruptData, match="position 4"):
        check(messages)


def test_a_repeated_position_is_found() -> None:
    messages = history(1)

    with pytest.raises(CorruptData, match="comes after position 2"):
        check([*messages, messages[1]])


def test_a_foreign_subject_is_found() -> None:
    with pytest.raises(CorruptData, match=r"not under mito\.events"):
        check([history(1)[0]._replace(subject="mito.live.a")])


def test_a_wrong_version_is_found() -> None:
    messages = history(2)
    last = messages[-1]
    commit = msgspec.structs.replace(decode_commit(last.subject, last.payload), version=4)
    messages[-1] = last._replace(payload=encode_commit(commit))

    with pytest.raises(CorruptData, match="version 4, but must have 3"):
        check(messages)
