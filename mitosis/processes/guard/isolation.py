"""A PID namespace for all that a worker runs: when its first process dies, the kernel kills all.

That holds whoever else is killed in the same moment, which nothing outside of the kernel can
promise. Root makes the namespace at once; another user makes a user namespace with it, in which it
stays itself (so a setuid program gains nothing in there).
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_PR_SET_PDEATHSIG = 1


def probe() -> str:
    """Make a namespace and leave it: empty when that works, else what refuses."""
    said, saying = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        text = "the namespace ended early"
        try:
            inner = fork_isolated(mount_proc)
            text = "" if os.waitpid(inner, 0)[1] == 0 else "mount of /proc: refused"
        except OSError as problem:
            text = str(problem)
        finally:
            os.write(saying, text.encode())
            os._exit(0)
    os.close(saying)
    try:
        text = os.read(said, 1000).decode()
    finally:
        os.close(said)
    os.waitpid(pid, 0)
    return text


def fork_isolated(live: Callable[[], None]) -> int:
    """Fork the first process of a new namespace, which dies with this process; its pid.

    This process must have no other children, and can have none outside of the namespace afterwards.

    Raises:
        OSError: the kernel or its settings refuse; the text says at which step.
    """
    flags = _CLONE_NEWPID | _CLONE_NEWNS
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        flags |= _CLONE_NEWUSER
    _call("unshare", flags)
    if uid != 0:
        _map("setgroups", "deny")
        _map("uid_map", f"{uid} {uid} 1")
        _map("gid_map", f"{gid} {gid} 1")
    # What the machine mounts later is seen inside; what is mounted inside stays there.
    _call("mount", b"none", b"/", None, _MS_REC | _MS_SLAVE, None)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _call("prctl", _PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if _parent_is_gone(parent):
            os._exit(code)
        live()
        code = 0
    except OSError as problem:
        print(f"guardian: {problem}", file=sys.stderr)  # noqa: T201 - it has no logger
    except BaseException:  # noqa: BLE001 - the last frame of a forked process
        traceback.print_exc()
    finally:
        os._exit(code)


def outer_pid() -> int:
    """Pid of this process as it is seen outside; before `mount_proc`."""
    return int(os.readlink("/proc/self"))


def mount_proc() -> None:
    """Let /proc show this namespace.

    Raises:
        OSError: refused, as in a container that hides parts of /proc.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _call("mount", b"proc", b"/proc", b"proc", flags, None)


def _parent_is_gone(parent: int) -> bool:
    """Whether the parent died before the kernel was told to kill this process with it."""
    with open("/proc/self/stat", "rb") as file:
        text = file.read()
    return int(text[text.rindex(b")") + 2 :].split(b" ")[1]) != parent


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _map(file: str, text: str) -> None:
    try:
        with open(f"/proc/self/{file}", "w") as out:
            out.write(text)
    except OSError as problem:
        number = problem.errno or 0
        raise OSError(number, f"/proc/self/{file}: {os.strerror(number)}") from problem
