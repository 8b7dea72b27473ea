"""A folder that is written to by open descriptors: no path is too long, and no link is followed."""

import contextlib
import errno
import os
from pathlib import Path

from mitosis.errors import TooLarge

#: Of what is unpacked. Four times what is packed; one who removes it holds a descriptor a level.
MAX_DEPTH = 400

Parts = tuple[str, ...]

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """What is below a folder, named by parts. Close it when done.

    The kernel takes no path above 4096 bytes, and so each folder is opened in the one before it.
    The last one stays open, since most of what is written has the folder of what was before.
    """

    def __init__(self, path: Path) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._at: Parts = ()
        self._open = os.dup(self._root)

    def close(self) -> None:
        """Close what is open."""
        os.close(self._open)
        os.close(self._root)

    def make_folder(self, parts: Parts) -> int:
        """Make a folder, with those above it, where they are missing; a descriptor to use at once.

        Raises:
            TooLarge: Deeper than `MAX_DEPTH`.
            FileExistsError: Something else is there, a link included.
            OSError: It cannot be made.
        """
        if len(parts) > MAX_DEPTH:
            raise TooLarge(
                f"the archive has more than {MAX_DEPTH} folders in each other", limit=MAX_DEPTH
            )
        if parts[: len(self._at)] != self._at:
            self._go((), os.dup(self._root))
        for name in parts[len(self._at) :]:
            self._go((*self._at, name), self._enter(name))
        return self._open

    def new_file(self, parts: Parts, mode: int) -> int:
        """Make a file; a descriptor for writing, which the caller closes.

        Raises:
            FileExistsError: Something is there.
            TooLarge, OSError: As of `make_folder`.
        """
        return os.open(parts[-1], _NEW_FILE, mode, dir_fd=self.make_folder(parts[:-1]))

    def new_link(self, parts: Parts, link: str) -> None:
        """Make a symbolic link.

        Raises:
            FileExistsError: Something is there.
            TooLarge, OSError: As of `make_folder`.
        """
        os.symlink(link, parts[-1], dir_fd=self.make_folder(parts[:-1]))

    def _enter(self, name: str) -> int:
        # A folder is as good as a new one; what else it is, the open refuses.
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=self._open)
        try:
            return os.open(name, _OPEN_FOLDER, dir_fd=self._open)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from error
            raise

    def _go(self, parts: Parts, fd: int) -> None:
        os.close(self._open)
        self._at, self._open = parts, fd
