"""Folders whose removal would hold up a slot: renamed at once, removed by a process of its own.

The names in the root of the slots are the queue, so nothing of it is lost when a helper dies:
`trash-...` waits for its removal, `aside-...` could not be removed and is tried again at the next
start of a worker. Decision: docs/decisions/0027-removal-beside-the-slot.md.
"""

import os
import traceback

from . import linux
from .folders import remove_folder

#: Files and folders that a slot removes before its next task, in at most `AT_ONCE_SECONDS`.
REMOVED_AT_ONCE = 2_000
#: Folders that may wait. With more the slot removes its own, or the disk would fill with them.
MOST_WAITING = 8
#: With less than this free of the disk (or of its files), and less than a share of all, the slot
#: removes its own, too: the next task may need the room.
_TIGHT_BYTES, _TIGHT_FILES, _TIGHT_SHARE = 32 << 30, 4_000_000, 1 / 4
_WAITING, _ASIDE = b"trash-", b"aside-"
_NICENESS = 10


class Trash:
    """Where runners put folders, and how they wake the guardian."""

    def __init__(self, root: bytes, wake_fd: int) -> None:
        self._root = root
        self._wake_fd = wake_fd

    def removed_at_once(self) -> int | None:
        """How much a slot removes by itself before it may `take` the rest; None: all."""
        full = len(_names(self._root, _WAITING)) >= MOST_WAITING
        return None if full or _is_tight(self._root) else REMOVED_AT_ONCE

    def take(self, path: bytes) -> None:
        """Put a folder of a slot aside, to be removed later.

        Raises:
            OSError: it cannot be renamed.
        """
        rest = os.path.basename(path).partition(b"-")[2]
        name = b"%b%b-%b" % (_WAITING, rest, os.urandom(4).hex().encode())
        os.rename(path, self._root + b"/" + name)
        try:
            os.write(self._wake_fd, b"\0")
        except (BlockingIOError, BrokenPipeError):
            return  # woken often enough; or the guardian is dead, and the next one looks itself


class Remover:
    """The guardian's process that empties the trash; there is none while nothing waits."""

    def __init__(self) -> None:
        self.wake_read_fd, self._wake_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.pid = 0
        self._root = b""
        self._told: set[bytes] = set()

    def trash(self, root: bytes) -> Trash:
        """For a runner, which closes the other end (`wake_read_fd`) of the pipe."""
        return Trash(root, self._wake_fd)

    def begin(self, root: bytes, *, first: bool) -> None:
        """Know the root, and remove what earlier helpers left; what they gave up if `first`."""
        if self._root:
            return
        self._root = root
        if first:
            for name in _names(root, _ASIDE):
                _rename(root, name, _WAITING + name[len(_ASIDE) :])
        self.start()

    def heed(self) -> None:
        """Start a process if a runner asked for it."""
        try:
            asked = os.read(self.wake_read_fd, 4096)
        except BlockingIOError:
            return
        if asked:
            self.start()

    def ended(self, status: int) -> list[bytes]:
        """The process has ended; the folders that it could not remove.

        One that failed or was killed is not started again before a runner asks for it.
        """
        self.pid = 0
        aside = [name for name in _names(self._root, _ASIDE) if name not in self._told]
        self._told.update(aside)
        if status == 0:
            self.start()
        return [self._root + b"/" + name for name in aside]

    def abandon(self) -> None:
        """The worker is dead: the process is ended like everything else."""
        self.pid = 0

    def start(self) -> None:
        """Start the process, if there is none and something waits."""
        if self.pid or not _names(self._root, _WAITING):
            return
        guardian = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            return  # no process can be had just now: the next one that asks gets it
        if self.pid:
            return
        code = 1
        try:
            linux.die_with_parent(guardian)
            os.nice(_NICENESS)
            code = 0 if empty(self._root) else 1
        except BaseException:  # noqa: BLE001 - the last frame of a forked process
            traceback.print_exc()
        finally:
            os._exit(code)


def empty(root: bytes) -> bool:
    """Remove all that waits in a root; what cannot be removed gets the other name.

    Returns whether nothing waits any more: False where no name can be given either.
    """
    while names := _names(root, _WAITING):
        for name in names:
            try:
                remove_folder(root + b"/" + name)
            except OSError:
                if not _rename(root, name, _ASIDE + name[len(_WAITING) :]):
                    return False
    return True


def _rename(root: bytes, name: bytes, new: bytes) -> bool:
    try:
        os.rename(root + b"/" + name, root + b"/" + new)
    except OSError:
        return False
    return True


def _names(root: bytes, beginning: bytes) -> list[bytes]:
    try:
        return [name for name in os.listdir(root) if name.startswith(beginning)]
    except OSError:
        return []  # the root has vanished: the start of the next task says so


def _is_tight(root: bytes) -> bool:
    try:
        found = os.statvfs(root)
    except OSError:
        return True
    few_bytes = found.f_bavail * found.f_frsize < _TIGHT_BYTES
    few_files = 0 < found.f_ffree < _TIGHT_FILES  # some file systems do not count them
    return (few_bytes and found.f_bavail < found.f_blocks * _TIGHT_SHARE) or (
        few_files and found.f_ffree < found.f_files * _TIGHT_SHARE
    )
