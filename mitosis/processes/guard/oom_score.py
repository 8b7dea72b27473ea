"""Tasks go before their helpers when the kernel has to kill for want of memory."""

import os
from types import TracebackType

_OF_TASKS = 500
_FILE = "/proc/self/oom_score_adj"


class OomScore:
    """A context in which this process has the score that its children are to have.

    They inherit it. Setting it in each child costs ten times as much, as the kernel has to make up
    files of a process that is hardly there. Any user may raise a score, and set it back.
    """

    def __init__(self) -> None:
        """Hold the file of this process; where there is none, no task is preferred."""
        self._fd = -1
        try:
            self._fd = os.open(_FILE, os.O_RDWR | os.O_CLOEXEC)
            own = int(os.pread(self._fd, 16, 0))
        except OSError:
            own = 0
        self._own, self._raised = b"%d" % own, b"%d" % max(own, _OF_TASKS)

    def __enter__(self) -> None:
        self._set(self._raised)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._set(self._own)

    def _set(self, score: bytes) -> None:
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, score, 0)
        except OSError:
            return  # the order of the kill is a preference: no reason to run no task
