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

from . import linux

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

_Identity = tuple[int, int, int]


def _identity(info: os.stat_result) -> _Identity:
    return (info.st_dev, info.st_ino, info.st_mode)


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
        self._self: _Identity | None = None
        self._parts: dict[str, tuple[int, _Identity]] = {}

    def close(self) -> None:
        """Close the descriptors."""
        for fd, _ in self._parts.values():
            os.close(fd)
        self._parts.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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
        self._open()
        self._complete()

    def untouched(self) -> bool:
        """Whether all is as made: same directories, same modes, nothing in them."""
        try:
            if _identity(os.lstat(self.path)) != self._self:
                return False
            if len(os.listdir(self._fd)) != len(PARTS):
                return False
            for name, (fd, identity) in self._parts.items():
                info = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                if _identity(info) != identity or os.listdir(fd):
                    return False
        except OSError:
            return False
        return len(self._parts) == len(PARTS)

    def wipe(self, most: int | None = None) -> None:
        """Empty the folder and make its missing parts anew.

        Args:
            most: files and folders that may be removed.

        Raises:
            OSError: it cannot be made as new: take another folder and leave this one.
            Unfinished: there is more to remove.
        """
        if self._fd < 0 or _identity(os.lstat(self.path))[:2] != (self._self or ())[:2]:
            raise OSError(errno.ESTALE, "the folder was moved or never made")
        if mounted_below(self.path):
            raise OSError(errno.EBUSY, "a file system is mounted in the folder")
        removal = Removal(self._fd, most)
        os.fchmod(self._fd, _MODE)
        removal.empty_all_but(set(self._intact()))
        self._complete()
        os.fchmod(self._fd, self._mode)
        self._self = _identity(os.fstat(self._fd))

    def _open(self) -> None:
        self._fd = os.open(self.path, _OPEN)
        self._self = _identity(os.fstat(self._fd))

    def _intact(self) -> list[str]:
        """Parts that are still the directories that were made; their modes are put right."""
        intact = []
        for name, (fd, identity) in list(self._parts.items()):
            try:
                info = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                info = None
            if info is not None and _identity(info)[:2] == identity[:2]:
                if info.st_mode != identity[2]:
                    os.fchmod(fd, _MODE)
                intact.append(name)
            else:
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
                self._parts[name] = (fd, _identity(os.fstat(fd)))


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

    def empty_all_but(self, parts: set[str]) -> None:
        """Empty the top, keeping the named directories in it, emptied too.

        Raises:
            OSError: something cannot be removed.
            Unfinished: there is more than may be removed.
        """
        while True:
            for name in parts:
                fd = _open_directory(self._top, name)
                try:
                    self._empty(fd, 1)
                finally:
                    os.close(fd)
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
            if not batch:
                return
            for name, is_directory in batch:
                self._remove(fd, name, is_directory, depth)

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
        Removal(fd, most).empty_all_but(set())
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


def mounted_below(path: bytes) -> bool:
    """Whether a file system is mounted at or below a path. A bind mount has no other device."""
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
    found = []
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            point = _unescape(line.split(b" ", 5)[4])
            if point == path or point.startswith(path + b"/"):
                found.append(point)
    return found


def _unescape(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    for code in (b"040", b"011", b"012", b"134"):
        field = field.replace(b"\\" + code, bytes([int(code, 8)]))
    return field


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
