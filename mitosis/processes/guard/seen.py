"""Whether a directory is as it was left, mostly without reading it.

Reading costs four times as much as asking when the directory was changed, a time (ctime) that no
program can set. But two changes within a moment may bear the same time: within a tick of the kernel
(at most 10 ms), on old file systems within two seconds. So the time says something only about a
directory that was read when it had stood unchanged for longer than that; and only where the file
system was seen to tell of a change.
"""

import os
import time

#: Longer than the coarsest clock of a file system (FAT: two seconds).
SETTLED_SECONDS = 3.0
#: The same where times have digits below a tick, which such file systems do not keep.
FINE_SETTLED_SECONDS = 0.1
_TICK_NS = 10_000_000
_PROBE = ".probe"

#: Device, number, type and rights of a directory, and when it was changed.
Look = tuple[int, int, int, int]


def look(info: os.stat_result) -> Look:
    """What tells a directory from another one, and from itself before a change."""
    return (info.st_dev, info.st_ino, info.st_mode, info.st_ctime_ns)


class Seen:
    """One directory, as it was when it held nothing but what belongs there.

    Attributes:
        settled: The look that proves that it is as it was; None before there is one.
    """

    __slots__ = ("_entries", "_look", "_since", "settled")

    def __init__(self, info: os.stat_result, entries: int) -> None:
        """Take a directory that has `entries` entries."""
        self.settled: Look | None = None
        self._look = look(info)
        self._entries = entries
        self._since = time.monotonic()

    def is_it(self, info: os.stat_result) -> bool:
        """Whether something is that directory, whatever its rights and what it holds."""
        return look(info)[:2] == self._look[:2]

    def has_its_rights(self, info: os.stat_result) -> bool:
        """Whether the directory has the rights that it had."""
        return info.st_mode == self._look[2]

    def is_same(self, info: os.stat_result, fd: int) -> bool:
        """Whether it is that directory with those rights, and holds what it held, by reading it.

        Args:
            info: what is found under its name just now.
            fd: the directory that was taken.
        """
        now = look(info)
        if now[:3] != self._look[:3] or len(os.listdir(fd)) != self._entries:
            return False
        clock = time.monotonic()
        if now != self._look:
            self._look, self._since, self.settled = now, clock, None
            return True
        fine = now[3] % _TICK_NS > 0
        if clock - self._since >= (FINE_SETTLED_SECONDS if fine else SETTLED_SECONDS):
            self.settled = now
        return True


def tells_of_changes(fd: int) -> bool:
    """Whether the file system gives a settled directory a new time when it is changed; try it."""
    try:
        before = look(os.fstat(fd))
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(_PROBE, flags, 0o600, dir_fd=fd))
        after = look(os.fstat(fd))
        os.unlink(_PROBE, dir_fd=fd)
    except OSError:
        return False  # a full disk, for instance: reading is always right
    return after != before
