"""`mito client` in a pseudo-terminal, as a person has it."""

import os
import re
import sys
import termios
from pathlib import Path
from typing import Self

import pexpect

PROMPT = "[mito::client]> "
READY = "\x1b[?2004h"  # of each prompt, once: pasted text is marked from here on
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """One started `mito client`; `said` is everything that was shown, without escapes."""

    def __init__(
        self, *arguments: str | Path, home: Path, term: str = "xterm", **more: str
    ) -> None:
        kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
        self._shown: list[str] = []
        self.child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            ["-m", "mitosis", "client", *map(str, arguments)],
            env={**kept, "HOME": str(home), "LANG": "C.UTF-8", "TERM": term, **more},
            encoding="utf-8",
            timeout=30,
            cwd=str(home),
            dimensions=(40, 200),
        )
        self.child.delaybeforesend = None
        self.child.logfile_read = self

    def write(self, text: str) -> None:
        """What the child has shown (pexpect writes it here)."""
        self._shown.append(text)

    def flush(self) -> None:
        """Nothing is held back."""

    @property
    def said(self) -> str:
        return _ESCAPES.sub("", "".join(self._shown)).replace("\r", "")

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return echoes(self.child.child_fd)

    def ready(self) -> Self:
        """Wait for a new prompt, at which the next line can be typed."""
        self.child.expect_exact(READY)
        self.child.expect_exact(PROMPT)
        return self

    def run(self, text: str) -> str:
        """Type a line at a prompt, wait for the next one, and return what was shown between."""
        before = len(self.said)
        self.send(f"{text}\r")
        self.ready()
        return self.said[before:]

    def send(self, text: str) -> None:
        """Send keys as they are."""
        self.child.send(text)

    def ends(self) -> int | None:
        """Wait for the end; the exit status, or minus the number of the signal."""
        self.child.expect(pexpect.EOF)
        self.child.wait()
        return (
            self.child.exitstatus if self.child.signalstatus is None else -self.child.signalstatus
        )

    def close(self) -> None:
        """Leave nothing of it."""
        self.child.close(force=True)


def echoes(descriptor: int) -> bool:
    """Whether a terminal shows what is typed."""
    return bool(termios.tcgetattr(descriptor)[3] & termios.ECHO)
