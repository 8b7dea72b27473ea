"""What a worker left that was killed together with all its helpers, when nothing else can end it.

A namespace ends it at once and control groups when the next worker starts. Where there is neither,
that worker looks for processes whose environment names a folder of a slot below its own root. A
program that cleared its environment is not found: so this is the last and weakest means.
"""

import os
import signal
import time
from pathlib import Path

from mitosis.processes.guard import linux

_SECONDS = 5.0
_PAUSE_SECONDS = 0.01
#: A shell of somebody who looks at the folder has it in these.
_OF_A_VISITOR = (b"PWD", b"OLDPWD")


def running_below(root: Path) -> list[int]:
    """Return the processes that run for a slot below a root folder.

    It blocks: one look at all processes takes about 1 ms for each hundred.
    """
    wanted = _slots_of(root)
    return [pid for pid in _processes() if _belongs(pid, wanted)]


def end_strays(root: Path) -> list[int]:
    """Kill processes that run for a slot below a root folder; those that are alive after 5 s.

    Only for a root of which no engine is alive. It blocks.
    """
    limit = time.monotonic() + _SECONDS
    while found := running_below(root):
        for pid in found:
            _kill(pid, _slots_of(root))
        if time.monotonic() > limit:
            return found
        time.sleep(_PAUSE_SECONDS)
    return []


def _slots_of(root: Path) -> bytes:
    return os.fsencode(root) + b"/slot-"


def _processes() -> list[int]:
    names = (entry.name for entry in Path("/proc").iterdir())
    return [int(name) for name in names if name.isdecimal() and int(name) != os.getpid()]


def _belongs(pid: int, wanted: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    if wanted not in environment:
        return False
    variables = (entry.partition(b"=") for entry in environment.split(b"\0"))
    mine = any(v.startswith(wanted) and name not in _OF_A_VISITOR for name, _, v in variables)
    return mine and linux.is_alive(pid)


def _kill(pid: int, wanted: bytes) -> None:
    """Kill the process that was seen, and no stranger that got its number since."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return  # gone; or no pidfd on this kernel, and then a number alone is not enough
    try:
        if _belongs(pid, wanted):
            signal.pidfd_send_signal(held, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone, or of another user: then it is told as alive
    finally:
        os.close(held)
