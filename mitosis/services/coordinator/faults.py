"""Workers that cannot set tasks up: one whose disk is broken fails fast, and would take every task.

Counted in memory: a coordinator that takes over begins to count anew.
"""

#: So many different tasks may fail to be set up in a row until the worker is paused.
MAX_TASKS_IN_A_ROW = 3
#: The same for set-ups, whosever they are. More, since fewer tasks prove less: one alone must not
#: pause a worker at once. But it must in the end, or a broken worker would try its only task on.
MAX_SETUPS_IN_A_ROW = 10
#: A task that was begun more often than this, its retries apart, is counted as lost when it cannot
#: be set up, or is handed back: nothing is tried without end.
MAX_UNCOUNTED_ATTEMPTS = 100


class Faults:
    """Which tasks each worker could not set up since it started a program the last time."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, list[str]] = {}

    def failed(self, worker: str, task: str) -> str:
        """A task could not be set up; return how often that was, if it is to be paused for it."""
        row = self._in_a_row.setdefault(worker, [])
        row.append(task)
        different = len(set(row))
        if different >= MAX_TASKS_IN_A_ROW:
            why = f"{different} tasks in a row"
        elif len(row) >= MAX_SETUPS_IN_A_ROW:
            why = f"{len(row)} set-ups in a row"
        else:
            return ""
        self.forget(worker)  # a worker that is resumed gets new tries
        return why

    def started(self, worker: str) -> None:
        """A program was started."""
        if self._in_a_row:
            self.forget(worker)

    def forget(self, worker: str) -> None:
        """The worker is gone, or is to be tried anew."""
        self._in_a_row.pop(worker, None)
