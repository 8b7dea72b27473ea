"""How far an upload, a download or a wait is: a line on standard error, if that is a terminal."""

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mitosis.cli.output.screen import printable
from mitosis.domain.durations import format_duration
from mitosis.signals import signals_blocked

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from mitosis.client.waiting import WaitProgress

QUIET_SECONDS = 0.3  # what takes less needs no line
# A thread that says something through rich, while another one takes the bar away, waits for ever.
MIXED = False


@contextlib.contextmanager
def moving(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show bytes, rate and time left of what is moved while inside; the line goes with the end.

    Yields:
        To be told bytes so far and bytes of all, from any thread; None: nobody would see it.
    """
    if not _can_move():
        yield None
        return
    line = _Line(printable(what))
    try:
        yield line.move
    finally:
        line.close()


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[["WaitProgress"], None]]:
    """Show how many tasks have ended, failed, run and wait, the rate, and the time left.

    Yields:
        To be told how far it is, from any thread.
    """
    if not _can_move():
        yield lambda _: None
        return
    bar = _Bar(what)
    try:
        yield bar.move
    finally:
        bar.close()


class _Bar:
    """How far tasks are; moved by the thread of the client, closed by that of the command."""

    def __init__(self, what: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[counts]}", markup=False),
            console=_console(),
            transient=True,
            refresh_per_second=5,
            redirect_stdout=MIXED,
            redirect_stderr=MIXED,
        )
        self._row = self._shown.add_task(what, total=None, counts="")
        self._begun, self._ended_at_first = time.monotonic(), 0
        self._lock = threading.Lock()
        self._closed = False

    def move(self, progress: "WaitProgress") -> None:
        looking = progress.ended + progress.running + progress.queued < progress.total
        if looking:
            self._ended_at_first = progress.ended  # these had ended before anybody waited
        ended = progress.ended - self._ended_at_first
        counts = counts_text(progress, ended, time.monotonic() - self._begun)
        with self._lock:
            if self._closed:
                return
            self._shown.update(
                self._row, completed=progress.ended, total=progress.total,
                counts="" if looking else counts,
            )  # fmt: skip
            if not looking and progress.ended < progress.total:
                with signals_blocked():  # it starts a thread
                    self._shown.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._shown.stop()


def counts_text(progress: "WaitProgress", ended: int, seconds: float) -> str:
    """Return what stands behind the bar.

    Args:
        progress: How far it is.
        ended: How many have ended since the wait began.
        seconds: Since then.
    """
    rate = ended / max(seconds, 0.001)
    left = progress.total - progress.ended
    counts = (
        (progress.failed, "failed"), (progress.running, "running"), (progress.queued, "queued"),
    )  # fmt: skip
    parts = [f"{count} {name}" for count, name in counts if count]
    if ended and left:
        parts += [f"{rate:.3g}/s", f"{format_duration(float(math.ceil(left / rate)))} left"]
    return ", ".join(parts)


def _can_move() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _console() -> "Console":
    from rich.console import Console

    return Console(file=sys.stderr)


class CommitCounter:
    """Shows how many of how many commits are read."""

    def __init__(self) -> None:
        self._shown = False

    def __enter__(self) -> "CommitCounter":
        return self

    def __call__(self, reached: int, wanted: int) -> None:
        """Be told (position reached, position wanted)."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{reached} of {wanted} commits")
            sys.stderr.flush()
            self._shown = True

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


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
                with signals_blocked():  # it starts a thread
                    self._shown.start()
                self._shown.add_task(self._what, total=total)
            self._shown.update(self._shown.task_ids[0], completed=done, total=total)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._shown is not None:
                self._shown.stop()


def _progress() -> "Progress":
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
        console=_console(),
        transient=True,
        refresh_per_second=5,
        redirect_stdout=MIXED,
        redirect_stderr=MIXED,
    )
