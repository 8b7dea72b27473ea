"""Clock and ids of the real world: the one place that asks the machine for time or chance."""

import os
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

# For tests only: names a file with the seconds by which the wall clock of a process is wrong. It is
# read at each look at the clock, so that a test can let it jump. What cannot be read is 0.
CLOCK_OFFSET_VARIABLE = "MITOSIS_TEST_CLOCK_OFFSET_FILE"


class Clock(Protocol):
    """Time as services see it."""

    def now(self) -> datetime:
        """Return the time in UTC, for what is stored."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never jump and count suspension, for durations."""
        ...


class Ids(Protocol):
    """New identities."""

    def commit_id(self) -> str:
        """Return 32 hexadecimal digits that nobody else has."""
        ...

    def uuid(self) -> str:
        """Return a random UUID."""
        ...


def wall_offset_seconds() -> float:
    """Return by how much the wall clock of this process is wrong on purpose; 0 but in tests."""
    path = os.environ.get(CLOCK_OFFSET_VARIABLE)
    if not path:
        return 0.0
    try:
        return float(Path(path).read_text())
    except (OSError, ValueError):
        return 0.0


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._is_right = CLOCK_OFFSET_VARIABLE not in os.environ

    def now(self) -> datetime:
        """Return the time in UTC."""
        if self._is_right:
            return datetime.now(UTC)
        return datetime.now(UTC) + timedelta(seconds=wall_offset_seconds())

    def monotonic(self) -> float:
        """Return seconds that never jump and, on Linux, count suspension."""
        return time.clock_gettime(_CLOCK)


class RandomIds:
    """Identities by chance, of which the kernel is asked for many at once; for one thread."""

    def __init__(self) -> None:
        self._digits = ""
        self._used = 0

    def commit_id(self) -> str:
        """Return 32 random hexadecimal digits."""
        if self._used == len(self._digits):
            self._digits, self._used = os.urandom(4_096).hex(), 0
        begin = self._used
        self._used += 32
        return self._digits[begin : self._used]

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())
