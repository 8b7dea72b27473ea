"""File systems that are mounted in the folders of tasks. A bind mount has no other device."""

import os
import select

from . import linux

#: As the kernel writes paths in its table; the backslash is the first to be replaced.
_ESCAPES = tuple((b"%c" % code, b"\\%03o" % code) for code in b"\\ \t\n")


class MountWatch:
    """Whether a file system is mounted at or below a path, mostly without reading the table.

    A directory that is mounted on itself looks like itself, so looking at it does not tell. The
    kernel tells of each change of the table of this process.
    """

    def __init__(self, path: bytes) -> None:
        """Watch a path; what was mounted before counts, too.

        Raises:
            OSError: The table cannot be opened.
        """
        self._path = path
        self._fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLPRI)
        self._free = False

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def is_mounted(self) -> bool:
        """Whether something is mounted there now.

        Raises:
            OSError: The table cannot be read.
        """
        if self._poll.poll(0):
            self._free = False
        if not self._free:
            self._free = not mounted_below(self._path)
        return not self._free


def mounted_below(path: bytes) -> bool:
    """Whether a file system is mounted at or below a path."""
    return bool(_mounts_below(path))


def unmount_below(path: bytes) -> list[bytes]:
    """Take away what a task mounted at or below a path; the mount points that there were.

    Where it is refused the mount stays, and with it the folder: nothing below a mount point is
    ever deleted.
    """
    found = _mounts_below(path)
    for point in reversed(found):
        linux.unmount(point)
    return found


def _mounts_below(path: bytes) -> list[bytes]:
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        table = file.readall()
    if _escape(path) not in table:
        return []  # nearly always: parsing the table would cost three times as much
    points = (_unescape(line.split(b" ", 5)[4]) for line in table.splitlines())
    return [point for point in points if point == path or point.startswith(path + b"/")]


def _escape(path: bytes) -> bytes:
    for plain, escaped in _ESCAPES:
        path = path.replace(plain, escaped)
    return path


def _unescape(field: bytes) -> bytes:
    for plain, escaped in reversed(_ESCAPES):
        field = field.replace(escaped, plain)
    return field
