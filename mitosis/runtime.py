"""Clock and ids of the real world: the one place that asks the machine for time or chance."""

import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Protocol

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


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


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump and, on Linux, count suspension."""
        return time.clock_gettime(_CLOCK)


class RandomIds:
    """Identities by chance."""

    def commit_id(self) -> str:
        """Return 32 random hexadecimal digits."""
        return secrets.token_hex(16)

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.uuid4())
