"""Points of the past, as people write them: a time, how long ago, or a position of the stream."""

import re
from datetime import UTC, datetime, timedelta

from mitosis.domain.durations import parse_duration
from mitosis.domain.limits import check_number
from mitosis.errors import InvalidInput

LAST_POSITION = 2**53 - 1  # what every reader of JSON keeps exact
_POSITION = re.compile(r"[0-9]{1,18}", re.ASCII)
_DAYS = {"today": 0, "yesterday": 1}
FORMS = (
    "a position such as 4711, a time such as 2026-11-20T14:05:00Z or '2026-11-20 14:05' (local), "
    "'today', 'yesterday', or how long ago, such as '2h ago'"
)


def parse_moment(text: str, now: datetime) -> datetime | int:
    """Read a point of the past.

    Args:
        text: One of `FORMS`. A day without a time is its beginning.
        now: With the time zone in which a time without one is meant.

    Returns:
        A time in UTC, or a position of the stream.

    Raises:
        InvalidInput: Another form, or a time that is still to come.
    """
    wanted = text.strip()
    if _POSITION.fullmatch(wanted):
        if int(wanted) > LAST_POSITION:
            raise InvalidInput(f"position {wanted} is beyond every stream", field="position")
        return int(wanted)
    moment = _moment(wanted, now)
    if moment > now:
        raise InvalidInput(f"{text[:60]!r} is still to come", field="time")
    return moment.astimezone(UTC)


def checked_moment(as_of: datetime | int | None) -> datetime | int | None:
    """Return a moment that can be meant: a time with its zone, or a position; None: now.

    Raises:
        InvalidInput: Another kind of value, or no zone.
    """
    if as_of is None:
        return None
    if isinstance(as_of, datetime):
        if as_of.tzinfo is None:
            raise InvalidInput(
                f"the time {as_of.isoformat()} has no zone: give one, such as {as_of.isoformat()}Z",
                field="as_of",
            )
        return as_of
    if not isinstance(as_of, int) or isinstance(as_of, bool):
        raise InvalidInput(f"{as_of!r} is no moment: give a datetime or a position", field="as_of")
    check_number(as_of, "as_of", 0, LAST_POSITION)
    return as_of


def _moment(text: str, now: datetime) -> datetime:
    if text in _DAYS:
        return _midnight(now) - timedelta(days=_DAYS[text])
    try:
        if text.endswith(" ago"):
            return now - timedelta(seconds=parse_duration(text.removesuffix(" ago")))
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, InvalidInput):
        raise InvalidInput(
            f"{text[:60]!r} is no point of the past: give {FORMS}", field="time"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=now.tzinfo)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
