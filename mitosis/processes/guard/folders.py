"""The folders of a slot: kept from task to task, emptied in between.

Making and removing directories for each task costs as much as spawning on some file systems. All
work is done through descriptors of directories and never follows a link, as a task may leave
anything: links out, directories without permissions, a million files, a mounted file system.
"""

import errno
import itertools
import os
import stat
import time
from collections.abc import Collection, Iterable

from .mounts import MountWatch, mounted_below
from .seen import Seen, look, tells_of_changes

PARTS = ("work", "result", "exec", "resource", "tmp", "output")
#: Written by the runner alone: never given to the user that tasks run as.
_OWN_PART = "output"
_MODE = 0o700
#: Of a slot whose tasks run as another user, who must come through to the parts.
_PASSABLE = 0o711
_BATCH = 1000
_MAX_DEPTH = 32
#: Of a bounded removal; 2 ms a file were seen on a busy disk.
AT_ONCE_SECONDS = 0.3
_LOOK_EVERY = 64
_MAX_NUMBER = 1_000_000
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SlotFolder:
    """One folder with its six parts.

    A folder that cannot be made is reported at the next task, by the spawn that does not find it.
    """

    def __init__(self, path: bytes, owner: tuple[int, int] | None = None) -> None:
        """Name a folder whose tasks run as `owner` (uid, gid), or as this process."""
        self.path = path
        self._owner = owner
        self._mode = _MODE if owner is None else _PASSABLE
        self._fd = -1
        self._self: Seen | None = None
        self._parts: dict[str, tuple[int, Seen]] = {}
        #: Whether the file system tells of changes; None before that was tried.
        self._tells: bool | None = None
        self._mounts: MountWatch | None = None

    def close(self) -> None:
        """Close the descriptors."""
        for fd, _ in self._parts.values():
            os.close(fd)
        self._parts.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._mounts is not None:
            self._mounts.close()
            self._mounts = None
        self._self = None

    def part(self, name: str) -> bytes:
        """Path of a part."""
        return self.path + b"/" + name.encode()

    def make(self) -> None:
        """Make the folder, which must not exist, and its parts.

        Raises:
            FileExistsError: take another name.
            OSError: what the file system says.
        """
        os.mkdir(self.path, _MODE)
        os.chmod(self.path, self._mode)  # whatever the umask
        self._fd = os.open(self.path, _OPEN)
        self._mounts = MountWatch(self.path)
        self._complete()
        self._self = Seen(self._fd, len(PARTS))

    def untouched(self) -> bool:
        """Whether all is as made: same directories, nothing changed, mounted or put in them."""
        if self._self is None or self._mounts is None or len(self._parts) != len(PARTS):
            return False
        try:
            if self._mounts.is_mounted():
                return False
            if not self._is_same(self._self, os.lstat(self.path), self._fd):
                return False
            for name, (fd, seen) in self._parts.items():
                info = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                if not self._is_same(seen, info, fd):
                    return False
        except OSError:
            return False
        fd, seen = self._parts[_OWN_PART]
        if self._tells is None and seen.settled is not None:
            self._tells = tells_of_changes(fd)
        return True

    def _is_same(self, seen: Seen, info: os.stat_result, fd: int) -> bool:
        return bool(self._tells and look(info) == seen.settled) or seen.is_same(info, fd)

    def wipe(self, most: int | None = None) -> None:
        """Empty the folder and make its missing parts anew.

        Args:
            most: files and folders that may be removed.

        Raises:
            OSError: it cannot be made as new: take another folder and leave this one.
            Unfinished: there is more to remove.
        """
        top = self._self
        if top is None or not top.is_it(os.lstat(self.path)):
            raise OSError(errno.ESTALE, "the folder was moved or never made")
        if mounted_below(self.path):
            raise OSError(errno.EBUSY, "a file system is mounted in the folder")
        removal = Removal(self._fd, most)
        _make_usable(self._fd)
        intact = self._intact()
        removal.empty(name for name, clean in intact.items() if not clean)
        whole = len(intact) == len(PARTS)
        if whole and self._is_same(top, os.lstat(self.path), self._fd):
            return
        if not top.has_its_manner(os.fstat(self._fd), self._fd):
            raise OSError(errno.EPERM, "owner, flags or attributes of the folder were changed")
        removal.empty_all_but(intact)
        self._complete()
        if stat.S_IMODE(os.fstat(self._fd).st_mode) != self._mode:
            os.fchmod(self._fd, self._mode)
        self._self = Seen(self._fd, len(PARTS))

    def _intact(self) -> dict[str, bool]:
        """Parts that are still the directories that were made, and whether they are clean.

        Their modes are put right. One that a program gave other attributes is none of them.
        """
        intact = {}
        for name, (fd, seen) in list(self._parts.items()):
            try:
                info = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                info = None
            if info is not None and seen.is_it(info):
                if not seen.has_its_rights(info):
                    os.fchmod(fd, _MODE)
                clean = self._is_same(seen, info, fd)
                if clean or seen.has_its_manner(info, fd):
                    intact[name] = clean
                    continue
            os.close(fd)
            del self._parts[name]
        return intact

    def _complete(self) -> None:
        for name in PARTS:
            if name not in self._parts:
                os.mkdir(name, _MODE, dir_fd=self._fd)
                fd = os.open(name, _OPEN, dir_fd=self._fd)
                if self._owner is not None and name != _OWN_PART:
                    os.fchown(fd, *self._owner)
                self._parts[name] = (fd, Seen(fd, 0))


class Unfinished(Exception):
    """There is more to remove than was allowed."""


class Removal:
    """Emptying of one directory: no link followed, few descriptors open at any depth.

    Args:
        top_fd: the directory.
        most: files and folders that may be removed, and not for longer than `AT_ONCE_SECONDS`; None
            for all.
    """

    def __init__(self, top_fd: int, most: int | None = None) -> None:
        self._top = top_fd
        self._left = most
        self._until = time.monotonic() + AT_ONCE_SECONDS

    def empty(self, parts: Iterable[str]) -> None:
        """Empty directories in the top; what lies too deep in them comes to the top.

        Raises:
            OSError: something cannot be removed.
            Unfinished: there is more than may be removed.
        """
        for name in parts:
            fd = _open_directory(self._top, name)
            try:
                self._empty(fd, 1)
            finally:
                os.close(fd)

    def empty_all_but(self, parts: Collection[str]) -> None:
        """Empty the top, leaving the directories `parts` in it as they are.

        Raises:
            OSError, Unfinished: As by `empty`.
        """
        while True:
            with os.scandir(self._top) as entries:
                rest = [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in itertools.islice(entries, _BATCH + len(parts))
                    if entry.name not in parts
                ]
            if not rest:
                return
            for name, is_directory in rest:
                self._remove(self._top, name, is_directory, 0)

    def _empty(self, fd: int, depth: int) -> None:
        _make_usable(fd)
        while True:
            with os.scandir(fd) as entries:
                batch = [
                    (entry.name, entry.is_dir(follow_symlinks=False))
                    for entry in itertools.islice(entries, _BATCH)
                ]
            for name, is_directory in batch:
                self._remove(fd, name, is_directory, depth)
            if len(batch) < _BATCH:
                return

    def _remove(self, parent: int, name: str, is_directory: bool, depth: int) -> None:
        if self._left is not None:
            late = self._left % _LOOK_EVERY == 0 and time.monotonic() > self._until
            if late or self._left <= 0:
                raise Unfinished
            self._left -= 1
        if not is_directory:
            os.unlink(name, dir_fd=parent)
            return
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as problem:
            if problem.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            return
        fd = _open_directory(parent, name)
        try:
            if depth >= _MAX_DEPTH:
                # Deeper would need ever more descriptors: lift the rest to the top instead.
                _make_usable(fd)
                os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=parent, dst_dir_fd=self._top)
                return
            self._empty(fd, depth + 1)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)


def remove_folder(path: bytes, most: int | None = None) -> None:
    """Remove a directory with all that is in it, never below a mount point.

    Args:
        path: the directory.
        most: files and folders that may be removed from it; None for all.

    Raises:
        OSError: something cannot be removed; EBUSY if a file system is mounted in it.
        Unfinished: there is more to remove.
    """
    if mounted_below(path):
        raise OSError(errno.EBUSY, "a file system is mounted in the folder")
    fd = os.open(path, _OPEN)
    try:
        os.fchmod(fd, _MODE)
        Removal(fd, most).empty_all_but(())
    finally:
        os.close(fd)
    os.rmdir(path)


def next_folder(
    root: bytes, slot: int, first: int, owner: tuple[int, int] | None = None
) -> tuple[SlotFolder, int]:
    """A new folder `slot-SLOT-NUMBER` with the first free number from `first` on, and the number.

    When the file system refuses, the folder is only named, and the start of the next task says so.
    """
    for number in range(first, _MAX_NUMBER):
        folder = SlotFolder(b"%b/slot-%d-%d" % (root, slot, number), owner)
        try:
            folder.make()
        except FileExistsError:
            continue
        except OSError:
            folder.close()
        return folder, number
    raise OSError(errno.EEXIST, f"no free folder number for slot {slot}")


def remains(root: bytes, slot: int, slots: int) -> list[bytes]:
    """Folders of earlier workers in `root` which this slot has to remove."""
    found = []
    for name in os.listdir(root):
        pieces = name.split(b"-")
        ours = len(pieces) == 3 and pieces[0] == b"slot" and pieces[1].isdigit()
        if ours and int(pieces[1]) % slots == slot:
            found.append(root + b"/" + name)
    return found


def _open_directory(parent: int, name: str) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=parent)
    except PermissionError:
        # A descriptor that only names the directory can be had without rights on it.
        held = os.open(name, _OPEN | os.O_PATH, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{held}", _MODE)
        finally:
            os.close(held)
        return os.open(name, _OPEN, dir_fd=parent)


def _make_usable(fd: int) -> None:
    mode = os.fstat(fd).st_mode
    if stat.S_IMODE(mode) & _MODE != _MODE:
        os.fchmod(fd, _MODE)
