"""Short names of tasks and workers."""

import uuid

import pytest

from mitosis.errors import InvalidInput
from mitosis.projections.naming import task_number, uuid_range

UUID = "0123abcd-4567-8901-8234-56789abcdef0"


@pytest.mark.parametrize("length", [6, 7, 8, 9, 10, 13, 14, 18, 19, 23, 24, 36])
def test_every_beginning_contains_its_uuid_and_little_else(length: int) -> None:
    low, high = uuid_range(UUID[:length], "task")
    digits = len(UUID[:length].replace("-", ""))
    assert low <= UUID <= high
    assert uuid.UUID(high).int - uuid.UUID(low).int == 16 ** (32 - digits) - 1


def test_dashes_and_case_do_not_matter() -> None:
    assert uuid_range(UUID.replace("-", "").upper(), "task") == (UUID, UUID)


@pytest.mark.parametrize(
    "text",
    ["", "01234", "0123-", "012g45", "0123-abcd", "0123abcd--4567", UUID + "0", "-0123abcd",
     "0123abcd-45678", "٠١٢٣٤٥", "0123abcd\n", "%", "0123abcd' OR true"],
)  # fmt: skip
def test_what_is_no_beginning_of_a_uuid_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        uuid_range(text, "task")


def test_a_number_in_a_group_is_taken_apart() -> None:
    assert task_number("lab-1#12") == ("lab-1", 12)
    assert task_number(UUID) is None
    assert task_number("last") is None


@pytest.mark.parametrize("text", ["#12", "lab#", "lab#-1", "lab#1#2", "a.b#1", "lab#" + "9" * 19])
def test_a_malformed_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        task_number(text)
