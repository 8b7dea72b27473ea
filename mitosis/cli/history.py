"""The history of the interactive mode: a file of lines, for its owner's eyes only (parity V-032).

A history that cannot be read or kept is said once and ends nothing.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

HISTORY_LINES = 1_000
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_LINE_CHARACTERS = 8_192


class History:
    """The lines of this and of earlier sessions; several sessions may write at once."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        """`complain` gets one sentence when the file is of no use."""
        self.path = path
        self._complain: Callable[[str], None] | None = complain

    def load(self) -> list[str]:
        """Return the lines, oldest first; none when they cannot be read."""
        try:
            with self.path.open("rb") as stream:
                return _lines(stream.read(MAX_FILE_BYTES))
        except FileNotFoundError:
            return []
        except OSError as error:
            self._degrade("read", error)
            return []

    def add(self, line: str) -> None:
        """Write one more line; the oldest above the limit go."""
        if "\n" in line or len(line) > MAX_LINE_CHARACTERS or not line.isprintable():
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            self._degrade("kept", error)
            return
        with os.fdopen(descriptor, "r+b") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
                os.fchmod(stream.fileno(), 0o600)
                before = _lines(stream.read(MAX_FILE_BYTES))
                if before[-1:] == [line]:
                    return
                kept = [*before, line][-HISTORY_LINES:]
                stream.seek(0)
                stream.write("".join(f"{text}\n" for text in kept).encode())
                stream.truncate()
            except OSError as error:
                self._degrade("kept", error)

    def _degrade(self, verb: str, error: OSError) -> None:
        if self._complain is not None:
            self._complain(f"the history {self.path} cannot be {verb}: {error.strerror or error}")
            self._complain = None


def _lines(content: bytes) -> list[str]:
    return [
        line
        for line in content.decode(errors="replace").splitlines()
        if line.strip() and line.isprintable()
    ][-HISTORY_LINES:]
