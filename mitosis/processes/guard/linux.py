"""What the kernel offers and Python does not wrap: subreaper, machine clock, the process tree."""

import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Iterator

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_PTRACE_DETACH = 17
_SIGSET_BYTES = 128
_PARENT_FIELD = 1  # of /proc/PID/stat, counted after the name


def become_subreaper() -> None:
    """Adopt every orphan below this process, also those that left their session.

    The flag is not inherited by fork: each runner sets its own.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, which must have one thread (the signal is the thread's).

    Raises:
        OSError: the kernel refuses, or the parent has ended already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, "the parent has ended")


def go_on_without_parent() -> None:
    """Be continued by the kernel when the parent ends, if somebody has stopped this process.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def signal_descriptor(number: int) -> int:
    """A descriptor that is readable when a signal, which must be blocked, has come (signalfd).

    Raises:
        OSError: there is none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (1 << (number - 1)).to_bytes(_SIGSET_BYTES, sys.byteorder)
    fd = int(libc.signalfd(-1, wanted, os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"signalfd: {os.strerror(code)}")
    return fd


def let_go(pid: int, number: int) -> None:
    """Let a child go on that asked to be traced and stands at a signal, as if nobody traced it.

    Programs ask for it (PTRACE_TRACEME) to keep debuggers off; then their parent is told of each of
    their signals, and has to pass it on. A tracer's SIGTRAP (after an exec) is not passed on.
    """
    libc = ctypes.CDLL(None)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    # It fails only for a child that was killed meanwhile, whose end is heard next.
    libc.ptrace(_PTRACE_DETACH, pid, None, None if number == signal.SIGTRAP else number)


def unmount(point: bytes) -> bool:
    """Take a mount away, also a busy one; whether the kernel did."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.umount2(point, _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0)


def machine_clock() -> float:
    """Seconds since boot, suspension included; one clock for all processes of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def has_children_file() -> bool:
    """Whether the kernel lists the children of a thread (CONFIG_PROC_CHILDREN)."""
    pid = os.getpid()
    return os.path.exists(f"/proc/{pid}/task/{pid}/children")


def has_pidfd() -> bool:
    """Whether a process can be named by a descriptor; found out by doing it."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def parent_of(pid: int) -> int | None:
    """Parent of a process, None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return None
    # The name stands in brackets and may itself hold brackets and blanks.
    return int(text[text.rindex(b")") + 2 :].split(b" ", 2)[_PARENT_FIELD])


def _children_by_scan(pids: set[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            parent = parent_of(int(name))
            if parent is not None and (not pids or parent in pids):
                found.setdefault(parent, []).append(int(name))
    return found


def children_of(pid: int) -> list[int]:
    """Children of a process, zombies included; empty when the process is gone.

    Exact for the calling process if it has one thread: entries leave only when it waits.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                found.extend(map(int, file.read().split()))
        except FileNotFoundError:
            if not has_children_file():
                return _children_by_scan({pid}).get(pid, [])
        except OSError:
            continue  # the thread ended between the two reads
    return found


def descendants(keep: frozenset[int] = frozenset()) -> Iterator[int]:
    """Every process below this one, parents first, leaving out `keep` and what is below it.

    The children of a process are read after it was given out, so a caller can stop it before.
    """
    table = None if has_children_file() else _children_by_scan(set())
    seen = set(keep)
    waiting = [os.getpid()]
    while waiting:
        parent = waiting.pop()
        for pid in children_of(parent) if table is None else table.get(parent, []):
            if pid not in seen:
                seen.add(pid)
                yield pid
                waiting.append(pid)


def signal_descendant(pid: int, number: int, tree: set[int]) -> bool:
    """Signal a process that was seen below this one; whether it was still there.

    A number may have passed to a stranger since it was read. So the process is held by a
    descriptor, and its parent must be in `tree` (which includes the caller).
    """
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError:
        # No pidfd, or no descriptor left: the check of the parent narrows the race, no more.
        return parent_of(pid) in tree and kill_process(pid, number)
    try:
        if parent_of(pid) not in tree:
            return False
        signal.pidfd_send_signal(held, number)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(held)
    return True


def uid_of(pid: int) -> int | None:
    """Effective user of a process, None when it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def is_alive(pid: int) -> bool:
    """Whether a process runs: neither gone nor waiting to be reaped."""
    return _state_of(pid) not in b"ZX"


def is_stopped(pid: int) -> bool:
    """Whether a process stands still, by a signal or for one that traces it."""
    return _state_of(pid) in (b"T", b"t")


def _state_of(pid: int) -> bytes:
    """The letter of `ps`; X for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return b"X"
    at = text.rindex(b")") + 2
    return text[at : at + 1]


def name_of(pid: int) -> str:
    """Short name of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            return file.read().rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        return ""


def kill_process(pid: int, number: int) -> bool:
    """Signal a process by its number; whether it was there and may be signalled."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
