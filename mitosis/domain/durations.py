"""Durations and sizes as people write them."""

import re

from mitosis.domain.limits import MAX_SIZE_BYTES
from mitosis.errors import InvalidInput

# The units that the original's documents use; a month is 30.44 days, a year 365.25,
# as in the original's parser.
_SECONDS = {
    **dict.fromkeys(("ms", "msec", "millis"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800.0),
    **dict.fromkeys(("month", "months"), 2_630_016.0),
    **dict.fromkeys(("y", "year", "years"), 31_557_600.0),
}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)", re.ASCII)
_BARE = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_FOREIGN = re.compile(r"\d+(?:-\d+)?(?::\d+){0,3}", re.ASCII)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", re.ASCII)
_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _BYTES |= {_letter: 1000**_power, f"{_letter}b": 1000**_power, f"{_letter}ib": 1024**_power}

MAX_SECONDS = 100 * 31_557_600.0
_MAX_TEXT = 100  # no honest duration or size is longer; Python refuses numbers of 4300 digits


def parse_duration(text: str) -> float:
    """Read a duration such as `10min`, `1h 30m`, `500ms` or `1year`.

    Every number has its unit, so that nothing can be read in two ways. Other systems read bare
    numbers as seconds, minutes or hours, and `30:00` or `2-12` each in its own way: these are
    refused, with an example of what to write.

    Returns:
        Seconds.

    Raises:
        InvalidInput: Not a duration, no unit, a unit twice, zero, negative, or above 100 years.
    """
    if len(text) > _MAX_TEXT:
        raise InvalidInput(f"{text[:20]!r}... is no duration: it has {len(text)} characters")
    total, at, end = 0.0, 0, len(text.rstrip())
    units: set[float] = set()
    while at < end:
        part = _PART.match(text, at)
        if part is None or part[2] not in _SECONDS:
            raise _no_duration(text, part[2] if part else "")
        unit = _SECONDS[part[2]]
        if unit in units:
            raise InvalidInput(f"{text!r} is no duration: {part[2]} stands there twice", value=text)
        units.add(unit)
        total += float(part[1]) * unit
        at = part.end()
    if not end:
        raise _no_duration(text, "")
    return _in_bounds(text, total)


def _no_duration(text: str, unit: str) -> InvalidInput:
    bare = text.strip()
    if _BARE.fullmatch(bare):
        advice = f"it has no unit: write {bare}s, {bare}min or {bare}h"
    elif _FOREIGN.fullmatch(bare):
        advice = "days, hours and minutes are written with their units: 30min, 1h 30m or 1d 12h"
    elif unit == "M":
        advice = "M can be read in two ways: write min for minutes, month for months"
    elif unit == "mon":
        advice = "write month for months, min for minutes"
    else:
        advice = "write it like 500ms, 90s, 30min, 1h 30m or 1d"
    return InvalidInput(f"{text!r} is no duration: {advice}", value=text)


def _in_bounds(text: str, seconds: float) -> float:
    seconds = round(seconds, 6)
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidInput(f"{text!r} is no usable duration: it must be above 0, up to 100 years")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds shortly, such as `10m`, `1h 30m` or `0.5s`."""
    if seconds < 60 or seconds != int(seconds):
        return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
    parts = []
    rest = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def parse_size(text: str) -> int:
    """Read a size such as `16GB` (powers of 1000) or `20GiB` (powers of 1024).

    Returns:
        Bytes.

    Raises:
        InvalidInput: Not a size, a part of a byte, negative, or above 2^53 - 1 bytes.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None or match[2].lower() not in _BYTES:
        shown = text[:_MAX_TEXT]
        raise InvalidInput(f"{shown!r} is no size: write it like 500MB, 16GB or 20GiB", value=shown)
    unit = _BYTES[match[2].lower()]
    if unit == 1 and "." in match[1]:
        raise InvalidInput(f"{text!r} is no size: bytes are whole, is a unit missing?", value=text)
    number = float(match[1]) if "." in match[1] else int(match[1])  # whole ones stay exact
    size = int(number * unit)
    if not size and number:
        raise InvalidInput(f"{text!r} is no size: it is less than a byte", value=text)
    if size > MAX_SIZE_BYTES:
        raise InvalidInput(f"{text!r} is too large for a size", value=text)
    return size


def format_size(size: int) -> str:
    """Write bytes in powers of 1000 with one decimal, such as `1.5 MB`."""
    amount, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if amount < 1000 or unit == "PB":
            break
        amount /= 1000
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def format_exact_size(size: int) -> str:
    """Write bytes in the largest unit in which they are a whole number, such as `2GiB`.

    What `parse_size` reads again as the same size.
    """
    for power, letter in reversed(list(enumerate("kMGTP", start=1))):
        for base, unit in ((1024, f"{letter.upper()}iB"), (1000, f"{letter}B")):
            if size and size % base**power == 0:
                return f"{size // base**power}{unit}"
    return f"{size}B"
