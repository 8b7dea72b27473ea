"""How far an upload or a download is: a line on standard error, only when that is a terminal."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mitosis.cli.output.screen import printable

if TYPE_CHECKING:
    from rich.progress import Progress

QUIET_SECONDS = 0.3  # what takes less needs no line


@contextlib.contextmanager
def moving(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show bytes, rate and time left of what is moved while inside; the line goes with the end.

    Yields:
        To be told bytes so far and bytes of all, from any thread; None: nobody would see it.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    line = _Line(printable(what))
    try:
        yield line.move
    finally:
        line.close()


class _Line:
    def __init__(self, what: str) -> None:
        self._what = what
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._shown: Progress | None = None
        self._closed = False

    def move(self, done: int, total: int) -> None:
        if self._shown is None and time.monotonic() - self._begun < QUIET_SECONDS:
            return
        with self._lock:
            if self._closed:
                return
            if self._shown is None:
                self._shown = _progress()
                self._shown.start()
                self._shown.add_task(self._what, total=total)
            self._shown.update(self._shown.task_ids[0], completed=done, total=total)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._shown is not None:
                self._shown.stop()


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        refresh_per_second=5,
    )
