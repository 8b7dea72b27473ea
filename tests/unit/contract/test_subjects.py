import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.contract import subjects
from mitosis.domain.attachment import MAX_KEY_BYTES
from mitosis.errors import CorruptData


def test_subjects_are_the_ones_that_permissions_are_written_for() -> None:
    assert subjects.login("hello") == "mito.login.hello"
    assert subjects.command("alice", "task", "submit") == "mito.cmd.alice.task.submit"
    assert subjects.query("alice", "task", "get") == "mito.query.alice.task.get"
    assert subjects.from_worker("w", "renew") == "mito.worker.w.renew"
    assert subjects.work("lab", "w") == "mito.work.lab.w"
    assert subjects.control("w") == "mito.control.w"
    assert subjects.events(subjects.task_tail("lab", "t")) == "mito.events.task.lab.t"
    assert subjects.live(subjects.user_tail("alice")) == "mito.live.user.alice"


def test_a_request_is_taken_apart() -> None:
    request = subjects.command("alice", "task", "submit")
    assert subjects.parse_request(request) == ("alice", "task.submit")
    assert subjects.parse_request(subjects.from_worker("w", "renew")) == ("w", "renew")


@pytest.mark.parametrize(
    "tail",
    [
        subjects.user_tail("alice"),
        subjects.group_tail("lab"),
        subjects.worker_tail("w"),
        subjects.task_tail("lab", "t"),
        subjects.attachment_tail("lab", "data/a.csv"),
        subjects.PLATFORM_TAIL,
    ],
)
def test_stored_and_live_subjects_name_the_same_aggregate(tail: str) -> None:
    assert subjects.tail_of(subjects.events(tail)) == tail
    assert subjects.tail_of(subjects.live(tail)) == tail


def test_the_kind_of_an_aggregate_is_its_first_token() -> None:
    assert subjects.aggregate_kind(subjects.task_tail("lab", "t")) == "task"
    assert subjects.aggregate_kind(subjects.PLATFORM_TAIL) == "platform"


@pytest.mark.parametrize("subject", ["", "mito.cmd.alice.task.get", "mito.eventsx.user.a"])
def test_a_subject_that_stores_nothing_has_no_aggregate(subject: str) -> None:
    with pytest.raises(CorruptData):
        subjects.tail_of(subject)


@given(st.text(min_size=1, max_size=50), st.text(min_size=1, max_size=50))
def test_any_key_becomes_one_token_of_its_own(one: str, other: str) -> None:
    token = subjects.key_token(one)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert (subjects.key_token(other) == token) == (one == other)


def test_the_longest_key_still_fits_into_a_control_line_of_nats() -> None:
    subject = subjects.events(subjects.attachment_tail("g" * 255, "k" * MAX_KEY_BYTES))
    assert len(subject) < 4096 - 200  # the server's max_control_line, with room for the rest
