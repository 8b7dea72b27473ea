"""How long the tasks of each worker took lately: what may be sent to it ahead follows from it."""

WEIGHT = 0.2
SLOW_SECONDS = 1.0


class Paces:
    """A moving mean by worker, in seconds; a slow task counts at once."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def mean(self, worker: str) -> float | None:
        """Return the mean, or None when nothing is known."""
        return self._means.get(worker)

    def took(self, worker: str, seconds: float) -> None:
        """A task took so long."""
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
