"""Threads that leave signals to the main thread.

A signal for a process goes to any of its threads that does not block it. CPython notes it there and
handles it in the main thread, as soon as that one runs; but nothing wakes it up. While it waits for
a lock, or for its event loop, which it does when another thread does the work, a Ctrl-C that
another thread took is lost: one in fifty of them, when the other thread was just awake.

Programs inherit what the thread that starts them blocks: none may be started from these threads.
"""

import contextlib
import signal
from collections.abc import Iterator


def block_signals() -> None:
    """Let the calling thread, and those that it starts, take no signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let threads that are started inside take no signals; the caller takes its own afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
