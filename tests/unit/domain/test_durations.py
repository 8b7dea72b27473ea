"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.domain.durations import (
    MAX_SECONDS,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from mitosis.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7d", 604_800),
        ("600s", 600),
        ("3m", 180),
        ("5m", 300),
        ("10min", 600),
        ("1year", 31_557_600),
        ("1h 30m", 5_400),
        ("1h30m", 5_400),
        ("500ms", 0.5),
        ("1.5h", 5_400),
        ("2weeks", 1_209_600),
        ("1 month", 2_630_016),
        (" 90 s ", 90),
        ("100years", MAX_SECONDS),
        ("0.001ms", 0.000_001),
    ],
)
def test_a_duration_is_read_as_people_mean_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "abc",
        "-5s",
        "",
        " ",
        "5",
        "s",
        "5 parsecs",
        "1h30",
        "1e3s",
        "0s",
        "0.0000001s",
        "inf s",
        "nan",
        "101years",
        "٣s",
        "5S",
        "01:30:00",
        "30:00",
        "2-12",
        "1-00:00:00",
        "PT5M",
        "5mon",
        "1h 1h",
        "1h 30m 1hour",
        "9" * 5_000 + "s",
        "9" * 400 + ".0s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_duration(text)
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("30", "write 30s, 30min or 30h"),
        ("30:00", "1h 30m or 1d 12h"),
        ("1-00:00:00", "1h 30m or 1d 12h"),
        ("5M", "min for minutes, month for months"),
        ("5mon", "month for months"),
        ("PT5M", "like 500ms, 90s, 30min"),
    ],
)
def test_a_form_of_another_system_is_refused_with_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(InvalidInput, match=advice):
        parse_duration(text)


@given(st.integers(1, int(MAX_SECONDS)) | st.integers(1, 59_999_999).map(lambda us: us / 1e6))
def test_a_written_duration_is_read_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5s"), (59, "59s"), (60, "1m"), (5_400, "1h 30m"), (90_061, "1d 1h 1m 1s"),
     (1_234_567.5, "1234567.5s"), (0, "0s")],
)  # fmt: skip
def test_a_duration_is_written_shortly(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16 * 1000**3),
        ("20GiB", 20 * 1024**3),
        ("500MB", 500_000_000),
        ("1k", 1_000),
        ("1KiB", 1_024),
        ("0", 0),
        ("17", 17),
        ("17 B", 17),
        ("1.5 MB", 1_500_000),
        ("9007199254740991", 2**53 - 1),
    ],
)
def test_a_size_is_read_exactly(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GB", "-1GB", "1XB", "1e3", "nan", "9223372036854775808", "10000PB", "٣GB",
     "1.5", "0.5 B", "0.0001kB", "9" * 5_000, "9" * 400 + ".0"],
)  # fmt: skip
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_size(text)
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_500_000, "1.5 MB"),
     (16 * 1000**3, "16.0 GB"), (2**53 - 1, "9.0 PB")],
)  # fmt: skip
def test_a_size_is_written_in_powers_of_1000(size: int, text: str) -> None:
    assert format_size(size) == text
