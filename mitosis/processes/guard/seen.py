"""Whether a directory is as it was left, mostly without reading it.

Reading costs four times as much as asking when the directory was changed, a time (ctime) that no
program can set. But two changes within a moment may bear the same time: within a tick of the kernel
(at most 10 ms), on old file systems within two seconds. So the time says something only about a
directory that was read when it had stood unchanged for longer than that; and only where the file
system was seen to tell of a change.
"""

import fcntl
import os
import struct
import time

#: Longer than the coarsest clock of a file system (FAT: two seconds).
SETTLED_SECONDS = 3.0
#: The same where times have digits below a tick, which such file systems do not keep.
FINE_SETTLED_SECONDS = 0.1
_TICK_NS = 10_000_000
_PROBE = ".probe"
#: FS_IOC_GETFLAGS: what `lsattr` shows.
_GET_FLAGS = 0x80000000 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
#: Of these the file system's own, which come and go with what a directory holds: in extents, with
#: an index, with its content in the inode.
_OWN_FLAGS = 0x00001000 | 0x00080000 | 0x10000000

#: Device, number, type and rights of a directory, and when it was changed.
Look = tuple[int, int, int, int]


def look(info: os.stat_result) -> Look:
    """What tells a directory from another one, and from itself before a change."""
    return (info.st_dev, info.st_ino, info.st_mode, info.st_ctime_ns)


#: Owner and group, flags, and extended attributes with their values (of which access lists are).
Manner = tuple[int, int, int, tuple[tuple[str, bytes], ...]]


def manner(info: os.stat_result, fd: int) -> Manner:
    """What a directory has besides its rights that a program can change, and would leave behind.

    Each of them changes its time (ctime), too. What the file system does not tell is nothing.
    """
    return (info.st_uid, info.st_gid, _flags(fd), _attributes(fd))


def _flags(fd: int) -> int:
    try:
        answer = fcntl.ioctl(fd, _GET_FLAGS, bytes(struct.calcsize("l")))
    except OSError:
        return 0  # a file system without flags
    return int(struct.unpack_from("i", answer)[0]) & ~_OWN_FLAGS


def _attributes(fd: int) -> tuple[tuple[str, bytes], ...]:
    try:
        names = sorted(os.listxattr(fd))
    except OSError:
        return ()  # a file system without attributes
    return tuple((name, _value(fd, name)) for name in names)


def _value(fd: int, name: str) -> bytes:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return b""  # one of the kernel's own, which not everybody may read


class Seen:
    """One directory, as it was when it held nothing but what belongs there.

    Attributes:
        settled: The look that proves that it is as it was; None before there is one.
    """

    __slots__ = ("_entries", "_look", "_manner", "_since", "settled")

    def __init__(self, fd: int, entries: int) -> None:
        """Take a directory that has `entries` entries.

        Raises:
            OSError: it cannot be looked at.
        """
        info = os.fstat(fd)
        self.settled: Look | None = None
        self._look = look(info)
        self._manner = manner(info, fd)
        self._entries = entries
        self._since = time.monotonic()

    def is_it(self, info: os.stat_result) -> bool:
        """Whether something is that directory, whatever its rights and what it holds."""
        return look(info)[:2] == self._look[:2]

    def has_its_rights(self, info: os.stat_result) -> bool:
        """Whether the directory has the rights that it had."""
        return info.st_mode == self._look[2]

    def has_its_manner(self, info: os.stat_result, fd: int) -> bool:
        """Whether owner, flags and attributes are those that it had."""
        return manner(info, fd) == self._manner

    def is_same(self, info: os.stat_result, fd: int) -> bool:
        """Whether it is that directory as it was, and holds what it held, by reading it.

        Args:
            info: what is found under its name just now.
            fd: the directory that was taken.
        """
        now = look(info)
        if now[:3] != self._look[:3] or len(os.listdir(fd)) != self._entries:
            return False
        if not self.has_its_manner(info, fd):
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
