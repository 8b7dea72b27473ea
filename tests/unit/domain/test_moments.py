"""Points of the past, as people write them."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mitosis.domain.moments import LAST_POSITION, checked_moment, parse_moment
from mitosis.errors import InvalidInput

HERE = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 26, 5, 30, tzinfo=HERE)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", 0),
        ("4711", 4711),
        ("2026-11-20T14:05:00Z", datetime(2026, 11, 20, 14, 5, tzinfo=UTC)),
        ("2026-11-20T14:05:00.25+01:00", datetime(2026, 11, 20, 13, 5, 0, 250_000, UTC)),
        ("2026-11-20 14:05", datetime(2026, 11, 20, 12, 5, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 19, 22, tzinfo=UTC)),
        ("today", datetime(2026, 11, 25, 22, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 24, 22, tzinfo=UTC)),
        (" 1h30m ago", datetime(2026, 11, 26, 2, tzinfo=UTC)),
    ],
)
def test_a_point_of_the_past_is_read(text: str, wanted: datetime | int) -> None:
    assert parse_moment(text, NOW) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "tomorrow", "-1", "1.5", "2h", "-2h ago", "90000000000000000", "2026-11-27", "٣",
        "2026-13-01", "99999999999999999 years ago", "12:00",
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_moment(text, NOW)
    if text:
        assert text[:20] in error.value.message


@pytest.mark.parametrize("moment", [None, 0, LAST_POSITION, NOW])
def test_a_moment_that_can_be_meant_stays_as_it_is(moment: datetime | int | None) -> None:
    assert checked_moment(moment) == moment


@pytest.mark.parametrize(
    "moment", [-1, LAST_POSITION + 1, True, "yesterday", 1.5, NOW.replace(tzinfo=None)]
)
def test_no_other_value_is_a_moment(moment: Any) -> None:
    with pytest.raises(InvalidInput):
        checked_moment(moment)
