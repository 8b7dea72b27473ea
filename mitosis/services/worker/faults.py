"""The ground that tasks stand on: what a worker must not blame its tasks for."""

import os
from pathlib import Path

# Below this a file system counts as full: not even a log could be kept.
MIN_FREE_BYTES = 1 << 20


def complaint(folder: Path) -> str:
    """Return why nothing can be run in a folder just now; empty when there is nothing to say.

    Cheap (one system call), as it is asked before every task.
    """
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return f"the work folder {folder}: {error.strerror}"
    if found.f_flag & os.ST_RDONLY:
        return f"the work folder {folder} is on a file system that is mounted read-only"
    # Blocks that are kept for root are of no use to a normal user.
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    if blocks * found.f_frsize < MIN_FREE_BYTES:
        return f"no space is left for the work folder {folder}"
    if found.f_files and not found.f_ffree:
        return f"no more files fit on the file system of the work folder {folder}"
    return ""
