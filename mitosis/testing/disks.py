"""Small disks of a test's own, to be filled or made read-only. Needs the right to mount."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ScratchDisk:
    """A file system in memory, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filling = path / "filling"

    def fill(self) -> None:
        """Leave no space."""
        with self._filling.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65_536))
            except OSError:  # full, which was wanted
                return

    def make_read_only(self) -> None:
        """Refuse every change."""
        _run("mount", "-o", "remount,ro", str(self.path))

    def take_away(self) -> None:
        """Unmount it, also while it is in use."""
        _run("umount", "--lazy", str(self.path))

    def heal(self) -> None:
        """Be writable and have space again."""
        _run("mount", "-o", "remount,rw", str(self.path))
        self._filling.unlink(missing_ok=True)


@contextmanager
def scratch_disk(
    path: Path, *, size_bytes: int = 64 << 20, files: int = 10_000
) -> Iterator[ScratchDisk]:
    """Mount a small disk.

    Args:
        path: Where; made if needed.
        size_bytes: Its size.
        files: How many files fit.

    Raises:
        PermissionError: This user may not mount.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        options = f"size={size_bytes},nr_inodes={files},mode=700"
        _run("mount", "-t", "tmpfs", "-o", options, "none", str(path))
    except subprocess.CalledProcessError as error:
        raise PermissionError(error.stderr) from error
    try:
        yield ScratchDisk(path)
    finally:
        if path.is_mount():
            _run("umount", "--lazy", str(path))


def can_mount(folder: Path) -> bool:
    """Whether this user may mount."""
    try:
        with scratch_disk(folder / "may-i-mount"):
            return True
    except PermissionError:
        return False


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
