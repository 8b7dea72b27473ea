"""Start of the guardian process, and the worker's own part as its last line of defence."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mitosis.processes.guard import linux
from mitosis.processes.guard.frames import Channel

_ENTRY = Path(__file__).parent / "guard" / "__main__.py"


class Guard:
    """A running guardian: its process and the channel to it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.process = process
        self.channel = channel
        #: First process of the PID namespace, as seen from here; 0 without one.
        self.first_pid = 0
        #: Questions for a sign of life: the last one that was asked, and the last answer.
        self.pinged = self.ponged = 0


def interpreter() -> str:
    """The real interpreter: a version manager's shim in front would cost 70 ms at each start.

    Raises:
        RuntimeError: this program is embedded and does not know its interpreter.
    """
    if not sys.executable:
        raise RuntimeError("sys.executable is empty: no interpreter to start the guardian with")
    return sys.executable


def start_guardian(
    lock_fds: Sequence[int], root: Path, *, first: bool, isolate: bool, control_groups: bool
) -> Guard:
    """Start the guardian in an own session, with an environment that holds no secret.

    Args:
        lock_fds: descriptors that the guardian and its runners keep open, and no task gets.
        root: folder of the engine; what an earlier one with the same root left in control groups
            is killed.
        first: False when runners of an earlier guardian of this engine may be alive.
        isolate: run everything in a PID namespace.
        control_groups: use those that can be had.

    Raises:
        OSError: no process or descriptor can be had.
    """
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            [
                interpreter(),
                *("-I", "-S", "-E", "-X", "utf8"),
                str(_ENTRY),
                str(theirs.fileno()),
                str(os.getpid()),
                hashlib.sha256(os.fsencode(root)).hexdigest()[:16] if control_groups else "",
                *(["first"] if first else []),
                *(["isolate"] if isolate else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            cwd="/",
            pass_fds=(theirs.fileno(), *lock_fds),
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Guard(process, Channel(ours))


def become_subreaper() -> None:
    """Make this process adopt what a dead guardian and a dead runner leave together.

    For the command `mito worker`, which has no other children; a program that embeds the engine
    must not, as it would get children that it does not know.

    Raises:
        OSError: the kernel refuses.
    """
    linux.become_subreaper()


def sweep_adopted(keep: frozenset[int]) -> bool:
    """Kill and reap children that are not in `keep`, one round; whether there were none.

    One that was there may have left its own children to this process since they were listed.
    """
    clean = True
    for pid in linux.children_of(os.getpid()):
        if pid in keep:
            continue
        clean = False
        linux.kill_process(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # a dead guardian is waited for in a thread
            os.waitpid(pid, os.WNOHANG)
    return clean
