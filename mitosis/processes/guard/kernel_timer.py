"""A timer of the kernel that kills its own process: SIGKILL reaches one that is stopped, too.

Who is frozen cannot end what it runs. The process outside of a PID namespace holds such a timer,
which the first process of the namespace has moved while it lives; where it is not moved any more,
the kernel kills the one outside, and with it the namespace.
"""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import time

from . import linux

_SIGEV_SIGNAL = 0
_TIMER_ABSTIME = 1
_NUMBER = struct.Struct("=d")
_PROBE_SECONDS = 0.01
_PROBE_LIMIT_SECONDS = 2.0
_LOOK_SECONDS = 0.002


class _Event(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_byte * 48),
    )


class _Span(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Span), ("value", _Span))


class KernelTimer:
    """Kills this process with SIGKILL at an instant of the machine clock. Not kept by a fork."""

    def __init__(self) -> None:
        """Make it, not running.

        Raises:
            OSError: the kernel or the C library has no such timers.
        """
        event = _Event(None, int(signal.SIGKILL), _SIGEV_SIGNAL)
        self._timer = ctypes.c_void_p()
        self._call("timer_create", time.CLOCK_BOOTTIME, ctypes.byref(event),
                   ctypes.byref(self._timer))  # fmt: skip

    def move(self, at: float | None) -> None:
        """Let it end at this instant; None: not at all.

        Raises:
            OSError: the kernel refuses.
        """
        # A value of zero would stop it.
        seconds = 0.0 if at is None else max(at, 1e-3)
        span = _Span(int(seconds), int(seconds % 1 * 1e9))
        setting = _Setting(_Span(0, 0), span)
        self._call("timer_settime", self._timer, _TIMER_ABSTIME, ctypes.byref(setting), None)

    @staticmethod
    def _call(name: str, *arguments: object) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            function = getattr(libc, name)
        except AttributeError:  # of a C library older than glibc 2.34
            raise OSError(errno.ENOSYS, f"{name}: not in the C library") from None
        if function(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")


def probe() -> bool:
    """Stop a process, and see whether such a timer kills it."""
    pid = os.fork()
    if pid == 0:
        try:
            KernelTimer().move(linux.machine_clock() + _PROBE_SECONDS)
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(0)
    limit = time.monotonic() + _PROBE_LIMIT_SECONDS
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.WIFSIGNALED(status)
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(_LOOK_SECONDS)


class DeadMansSwitch:
    """Both ends of a pipe by which one process moves the timer of another one."""

    def __init__(self) -> None:
        self._heard, self._telling = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def keep(self, at: float | None) -> None:
        """Have the timer moved; None: stopped."""
        number = _NUMBER.pack(-1.0 if at is None else at)
        # A full pipe: nobody moves the timer, and so it ends. No reader: it has ended.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._telling, number)

    def take_telling_end(self) -> None:
        """This process is the one that calls `keep`."""
        os.close(self._heard)

    def close(self) -> None:
        """Give the telling end back, in a forked child that has no part in it."""
        os.close(self._telling)

    def obey(self, timer: KernelTimer) -> None:
        """Move the timer as told, until the other process has ended."""
        os.close(self._telling)
        os.set_blocking(self._heard, True)
        told = b""
        while piece := os.read(self._heard, 4096):
            told += piece
            count = len(told) // _NUMBER.size
            if count:
                (at,) = _NUMBER.unpack_from(told, (count - 1) * _NUMBER.size)
                timer.move(None if at < 0 else at)
                told = told[count * _NUMBER.size :]
        timer.move(None)
