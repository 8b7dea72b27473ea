"""A disk that was full: nats-server writes nothing any more until it is started again.

Seen by the free space, not by the log, which lies on the same disk.
"""

import logging
import os
from pathlib import Path

_LOG = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
FULL_BYTES = 8 * 1024 * 1024  # the largest message: with less, a write may have failed
ROOM_BYTES = 16 * 1024 * 1024


class FullDisk:
    """Remembers that the disk of a folder was full."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._was_full = False

    def has_healed(self) -> bool:
        """Look; True once, when there is room again: the server is to be started anew."""
        info = os.statvfs(self._folder)
        free = info.f_bavail * info.f_frsize
        if free < FULL_BYTES and not self._was_full:
            self._was_full = True
            _LOG.warning(
                "the disk of %s is full (%d bytes are free): events cannot be stored, commands are "
                "refused; free some space",
                self._folder,
                free,
            )
        elif self._was_full and free >= ROOM_BYTES:
            self._was_full = False
            _LOG.warning("there is space again in %s: NATS is restarted", self._folder)
            return True
        return False
