"""The ground that tasks stand on: what a worker must not blame its tasks for."""

import errno
import os
from pathlib import Path

# Below this a file system counts as full: not even a log could be kept.
MIN_FREE_BYTES = 1 << 20


def file_system_of(folder: Path) -> int | None:
    """Return what tells the file system of a folder from others; None when it is not there."""
    try:
        return os.statvfs(folder).f_fsid
    except OSError:
        return None


def complaint(folder: Path, file_system: int | None = None) -> str:
    """Return why nothing can be run in a folder just now; empty when there is nothing to say.

    Cheap (two system calls), as it is asked before every task.

    Args:
        folder: Where the folders of tasks are.
        file_system: The one that it was on when the worker began; None when it does not matter.
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return f"the work folder {folder}: {error.strerror}"
    if file_system is not None and found.f_fsid != file_system:
        return f"another file system is at the work folder {folder} than when the worker began"
    if found.f_flag & os.ST_RDONLY:
        return f"the work folder {folder} is on a file system that is mounted read-only"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the work folder {folder}: {os.strerror(errno.EACCES)}"
    # Blocks that are kept for root are of no use to a normal user.
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    if blocks * found.f_frsize < MIN_FREE_BYTES:
        return f"no space is left for the work folder {folder}"
    if found.f_files and not found.f_ffree:
        return f"no more files fit on the file system of the work folder {folder}"
    return ""
