"""How long the tasks of each worker took lately: what may be sent to it ahead follows from it."""

from collections.abc import Iterator

WEIGHT = 0.2
SLOW_SECONDS = 1.0
FRESH_SECONDS = 5.0


class Paces:
    """A moving mean by worker, in seconds; a slow task counts at once. Times are monotonic."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def fresh(self, now: float) -> Iterator[str]:
        """Yield the workers that have ended a task in the last seconds.

        Of any other nobody knows whether what it gets next is as quick.
        """
        return (worker for worker, last in self._last.items() if now - last <= FRESH_SECONDS)

    def mean(self, worker: str) -> float | None:
        """Return the mean, or None when nothing is known."""
        return self._means.get(worker)

    def took(self, worker: str, seconds: float, now: float) -> None:
        """A task took so long, and has ended."""
        self._last[worker] = now
        mean = self._means.get(worker)
        if mean is None or seconds > SLOW_SECONDS:
            self._means[worker] = seconds
        else:
            self._means[worker] = mean + WEIGHT * (seconds - mean)

    def was_slow(self, worker: str) -> None:
        """A slot was held for longer than the program ran, or something came back unstarted."""
        self._means[worker] = SLOW_SECONDS

    def forget(self, worker: str) -> None:
        """The worker is gone."""
        self._means.pop(worker, None)
        self._last.pop(worker, None)
