"""Quotas as they are typed, and what a change makes of what there is."""

import pytest

from mitosis.domain.durations import parse_size
from mitosis.domain.quotas import QuotaChange, parse_count, parse_quota
from mitosis.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [("5", 8, 5), ("=5", 8, 5), ("+5", 8, 13), ("-5", 8, 3), ("-9", 8, 0), ("=0", 8, 0)],
)
def test_each_form_of_a_count_makes_its_own_number(text: str, before: int, after: int) -> None:
    assert parse_quota(text, parse_count).applied_to(before) == after


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("+5GB", QuotaChange(5 * 1000**3, relative=True)),
        ("=20GiB", QuotaChange(20 * 1024**3)),
        ("1.5MB", QuotaChange(1_500_000)),
        ("-1kB", QuotaChange(-1_000, relative=True)),
    ],
)
def test_each_form_of_a_size_is_read(text: str, change: QuotaChange) -> None:
    assert parse_quota(text, parse_size) == change


@pytest.mark.parametrize(
    "text", ["", "+", "--1", "+-1", "=+1", "1.5", "1e3", "five", "\u0663", "9" * 19]
)
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is no count"):
        parse_quota(text, parse_count)


@pytest.mark.parametrize("text", ["+", "5 parsecs", "--5GB", "-", "9999999999999TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_quota(text, parse_size)
