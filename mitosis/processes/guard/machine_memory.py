"""Whether the kernel has killed for want of memory: the count that every user may read.

It does not say whom, so it only ever supports a guess about a task that died by SIGKILL.
"""

from .slot_groups import count, read

#: How old the figure at a start may be: reading it for each short task would cost too much.
_FRESH_SECONDS = 1.0


class MachineMemory:
    """The count of kills, as it was before the present task."""

    def __init__(self) -> None:
        self._kills = 0
        self._read_at = -_FRESH_SECONDS

    def refresh(self, now: float) -> None:
        """Remember the count, unless that was done a moment ago.

        Args:
            now: the monotonic clock.
        """
        if now - self._read_at >= _FRESH_SECONDS:
            self._read_at = now
            self._kills = _kills()

    def has_killed(self) -> bool:
        """Whether the kernel killed a process since the last `refresh`."""
        return _kills() > self._kills


def _kills() -> int:
    return count(read(b"/proc/vmstat"), b"oom_kill")
