"""Leases: how long a worker may run without being heard, and who has overstayed.

A worker's right ends `lease_seconds` after it sent its last answered renewal; here it is counted
from the arrival, which is later, plus a margin. After a start all workers count as heard just now,
because renewals are not stored (design, Time, leases and leadership); in a cluster a little later,
since whoever led until now may be cut off and not know it yet (standing.py).
"""

from datetime import datetime

from mitosis.runtime import Clock

MARGIN_SECONDS = 2.0


class Leases:
    """The time of the last renewal of each worker, by a clock that never jumps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._heard_at: dict[str, datetime] = {}

    def heard(self, worker: str) -> None:
        """A renewal (or the registration) has arrived."""
        self._heard[worker] = self._clock.monotonic()
        self._heard_at[worker] = self._clock.now()

    def assume(self, worker: str, longest_seconds: float = 0.0) -> None:
        """Count a worker as heard just now, although it was not: a term begins.

        Args:
            worker: Its name.
            longest_seconds: For how long a former coordinator may still answer its renewals.
        """
        self._heard[worker] = self._clock.monotonic() + longest_seconds

    def forget(self, worker: str) -> None:
        """The worker is gone."""
        self._heard.pop(worker, None)
        self._heard_at.pop(worker, None)

    def silent_seconds(self, worker: str) -> float:
        """Seconds since the worker was heard."""
        return self._clock.monotonic() - self._heard[worker]

    def heard_at(self, worker: str) -> datetime | None:
        """When the worker was really heard, for people; None: not in this term."""
        return self._heard_at.get(worker)

    def expired(self, lease_seconds: dict[str, float]) -> list[str]:
        """Return the workers whose lease is over, margin included.

        Args:
            lease_seconds: The lease of each worker that is registered.
        """
        return [
            worker
            for worker, lease in lease_seconds.items()
            if worker in self._heard and self.silent_seconds(worker) > lease + MARGIN_SECONDS
        ]
