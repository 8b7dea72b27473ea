"""Runs in the child before the server: changes identity, ties its life to its parent's, execs.

Executed by path as a program of its own (`python -I -S launcher.py`), never imported: a fresh
process has one thread, which a user namespace needs, and shares no lock with its parent.
Exit status 125: the identity could not be had; 126: the program could not be executed; 124: the
parent was already gone.

    launcher.py PARENT_PID DEATH_SIGNAL GUARD IDENTITY PROGRAM ARGUMENT...

GUARD is who notices the parent's death: `kernel` (Linux) or `watcher`, a process that looks five
times a second.
IDENTITY is `same`, `userns:UID:GID` (become UID in a user namespace, files stay the caller's) or
`setuid:UID:GID`.
"""

import ctypes
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.2


def main(argv: list[str]) -> int:
    """Becomes the program; returns only when that is impossible."""
    parent, death_signal, guard, identity, *command = argv
    try:
        become(identity)
    except OSError as error:
        sys.stderr.write(f"mitosis launcher: {identity}: {error}\n")
        return 125
    # After the change of identity, which would clear it; before the check, so that no gap is left.
    if guard == "kernel":
        libc().prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    elif os.fork() == 0:
        watch(int(parent), int(death_signal))
    if os.getppid() != int(parent):
        return 124
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"mitosis launcher: {command[0]}: {error}\n")
    return 126


def watch(parent: int, death_signal: int) -> NoReturn:
    """Signals the server, whose child this process is, when its parent is gone; ends with it."""
    server = os.getppid()
    os.closerange(0, 65_536)  # the lock of the folder belongs to the server, not to this process
    while os.getppid() == server:
        if not exists(parent):
            os.kill(server, death_signal)
            break
        time.sleep(WATCH_SECONDS)
    os._exit(0)


def exists(process: int) -> bool:
    """Tells whether there is such a process, of whatever user."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def become(identity: str) -> None:
    """Takes on another user, or does nothing for `same`."""
    kind, *numbers = identity.split(":")
    if kind == "same":
        return
    uid, gid = (int(number) for number in numbers)
    if kind == "setuid":
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        return
    own_uid, own_gid = os.getuid(), os.getgid()
    if libc().unshare(CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no user namespace: {os.strerror(number)}")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {own_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {own_gid} 1", encoding="ascii")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
