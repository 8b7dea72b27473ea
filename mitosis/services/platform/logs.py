"""Log files of child processes: appended, private and bounded."""

import os
import shutil
from pathlib import Path

DEFAULT_LIMIT_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 4096


class LogFile:
    """The file that a child writes to; at the limit its content moves to `<name>.1`.

    The child appends through its own descriptor, so the file is emptied in place, never renamed.
    Lines written between the copy and the emptying are lost.
    """

    def __init__(self, path: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes

    def open(self) -> int:
        """Returns a descriptor for a child; the caller closes its own copy after the start."""
        self.bound()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def bound(self) -> None:
        """Empties the file when it is over its limit, keeping what it had in `<name>.1`."""
        if self.path.exists() and self.path.stat().st_size > self._limit_bytes:
            kept = self.path.with_name(self.path.name + ".1")
            shutil.copyfile(self.path, kept)
            kept.chmod(0o600)
            os.truncate(self.path, 0)

    def tail(self, lines: int = 3) -> str:
        """Returns the last lines, for an error message."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
        return " | ".join(text.strip().splitlines()[-lines:])
