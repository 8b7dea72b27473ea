"""Every id has a subject of its own and comes back from it."""

import re
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.events.originators import from_tail, to_tail

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = texts | st.uuids() | st.from_regex(r"_[su]\.[-=0-9a-f]*", fullmatch=True)


@given(ids)
def test_an_id_comes_back_from_its_tail(originator_id: UUID | str) -> None:
    assert from_tail(to_tail(originator_id)) == originator_id


@given(ids, ids)
def test_different_ids_have_different_tails(one: UUID | str, other: UUID | str) -> None:
    assert (to_tail(one) == to_tail(other)) == (one == other and type(one) is type(other))


@given(ids)
def test_a_tail_is_always_a_valid_subject(originator_id: UUID | str) -> None:
    assert re.fullmatch(r"[^\s.*>\x00]+(\.[^\s.*>\x00]+)*", to_tail(originator_id))


@pytest.mark.parametrize("tail", ["platform", "user.alice", f"task.lab.{uuid4()}", "worker.x-1_y"])
def test_our_own_ids_are_tails_already(tail: str) -> None:
    assert to_tail(tail) == tail
