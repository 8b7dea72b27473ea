import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.domain.names import check_name, check_uuid, task_uuid
from mitosis.errors import InvalidInput


@pytest.mark.parametrize("name", ["a", "Alice", "lab-3", "_", "-", "0", "x" * 255])
def test_letters_digits_dash_and_underscore_make_a_name(name: str) -> None:
    assert check_name(name, "user") == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 256, "a b", "a.b", "a*", ">", "a/b", "é", "٣", "a\n", "\0", "a\u200b", "../x"],
)
def test_other_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidInput, match="1 to 255 letters, digits") as refusal:
        check_name(name, "group")
    assert refusal.value.details == {"field": "group"}
    assert len(str(refusal.value)) < 200


def test_a_uuid_is_brought_into_its_canonical_form() -> None:
    canonical = "0199a0b1-7c1e-8d2f-9a3b-4c5d6e7f8091"
    assert check_uuid(canonical.upper(), "task") == canonical
    assert check_uuid(canonical.replace("-", ""), "task") == canonical


@pytest.mark.parametrize("text", ["", "0199a0b1", "last", "z" * 32, "1" * 5_000])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no UUID of a task"):
        check_uuid(text, "task")


def test_the_uuid_of_a_task_never_changes_between_versions() -> None:
    assert task_uuid("lab", "alice", "key-1") == "26f8646c-fe15-8416-885f-7b8351f3f5b2"


@given(st.text(), st.text())
def test_the_uuid_of_a_task_is_a_version_8_and_depends_on_the_key(one: str, other: str) -> None:
    derived = uuid.UUID(task_uuid("lab", "alice", one))
    assert (derived.version, derived.variant) == (8, uuid.RFC_4122)
    assert (task_uuid("lab", "alice", other) == str(derived)) == (one == other)


def test_the_uuid_of_a_task_depends_on_group_and_user() -> None:
    places = [("lab", "alice"), ("lab", "bob"), ("alice", "lab"), ("la", "balice")]
    assert len({task_uuid(group, user, "k") for group, user in places}) == len(places)


def test_short_prefixes_of_uuids_of_tasks_are_spread_evenly() -> None:
    firsts = [task_uuid("lab", "alice", str(number))[0] for number in range(4_096)]
    assert all(150 < firsts.count(digit) < 370 for digit in "0123456789abcdef")
