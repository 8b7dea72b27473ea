"""Workers that cannot set tasks up: one whose disk is broken fails fast, and would take every task.

Counted in memory: a coordinator that takes over begins to count anew.
"""

#: So many set-ups of tasks may fail in a row until the worker is paused.
MAX_IN_A_ROW = 3
#: A task that was begun more often than this, its retries apart, is counted as lost when it cannot
#: be set up, or is handed back: nothing is tried without end.
MAX_UNCOUNTED_ATTEMPTS = 100


class Faults:
    """How many tasks each worker could not set up since it started a program the last time."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}

    def failed(self, worker: str) -> bool:
        """A task could not be set up; return whether the worker has to be paused for it."""
        count = self._in_a_row.get(worker, 0) + 1
        if count < MAX_IN_A_ROW:
            self._in_a_row[worker] = count
            return False
        self.forget(worker)  # a worker that is resumed gets new tries
        return True

    def started(self, worker: str) -> None:
        """A program was started."""
        if self._in_a_row:
            self.forget(worker)

    def forget(self, worker: str) -> None:
        """The worker is gone, or is to be tried anew."""
        self._in_a_row.pop(worker, None)
