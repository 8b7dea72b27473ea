"""The short ways to name a task or a worker: pure."""

import re
import uuid

from mitosis.domain.names import check_name
from mitosis.errors import InvalidInput

MIN_PREFIX = 6
MAX_CANDIDATES = 10

_HEX_AND_DASHES = re.compile(r"[0-9a-f-]{1,36}", re.ASCII)
_NUMBERED = re.compile(r"([^#]+)#(\d{1,18})", re.ASCII)


def uuid_range(text: str, what: str) -> tuple[str, str]:
    """Return the lowest and the highest UUID that begins with a text.

    Raises:
        InvalidInput: No beginning of a UUID, or too short to be safe.
    """
    lower = text.lower()
    digits = lower.replace("-", "")
    if not _HEX_AND_DASHES.fullmatch(lower) or len(digits) > 32 or not _dashed_well(lower, digits):
        raise InvalidInput(f"{text[:60]!r} is no UUID of a {what}, nor the beginning of one")
    if len(digits) < MIN_PREFIX:
        raise InvalidInput(
            f"{text!r} is too short to name a {what}: give at least {MIN_PREFIX} characters"
        )
    return str(uuid.UUID(digits.ljust(32, "0"))), str(uuid.UUID(digits.ljust(32, "f")))


def _dashed_well(text: str, digits: str) -> bool:
    """A UUID may be written with its dashes, where they belong, or without any."""
    if "-" not in text:
        return True
    whole = str(uuid.UUID(digits.ljust(32, "0")))
    return (
        len(text) <= 36
        and whole[: len(text.rstrip("-"))] == text.rstrip("-")
        and (not text.endswith("-") or whole[: len(text)] == text)
    )


def task_number(text: str) -> tuple[str, int] | None:
    """Return group and number of `GROUP#12`; None if the text has another form.

    Raises:
        InvalidInput: It has this form, but its parts cannot be.
    """
    if "#" not in text:
        return None
    match = _NUMBERED.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text[:60]!r} names no task: write GROUP#NUMBER, such as lab#12")
    return check_name(match[1], "group"), int(match[2])
