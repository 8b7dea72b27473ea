"""Control groups: which of them this machine lets us use, found out by doing it.

Version 2 gives the kill of a whole group (no fork and no other user escapes it) and, where the
service manager hands the controllers on, limits. On a machine in hybrid mode the controllers of
memory and processes are in version 1, which takes the same limits under other names.

    OWN/mito-TOKEN/helpers         guardian
    OWN/mito-TOKEN/slot-N/run      runner and its tasks
    OWN/mito-TOKEN/slot-N/limited  a task with limits of its own (version 2)
    V1/OWN/mito-TOKEN-slot-N       the same in version 1, while that task runs
"""

import errno
import os
import select
import signal
import time

from .slot_groups import Controller, SlotGroups, read, write

_KILL_SECONDS = 5.0
_PROBE_SECONDS = 2.0
#: An empty group of another engine is a dead one's only when it is older than any start.
_STALE_SECONDS = 60.0
_PREFIX = b"mito-"
_LIMITING = ("memory", "pids")


class Groups:
    """What one engine has; all fields are None where nothing can be had."""

    def __init__(self) -> None:
        #: Folder of the engine in version 2; there the whole can be killed.
        self.base: bytes | None = None
        self.controllers: dict[str, Controller] = {}
        self._own: bytes | None = None

    def of_slot(self, number: int) -> SlotGroups | None:
        """Groups of a slot, made; None where there are none."""
        if self.base is None and not self.controllers:
            return None
        return SlotGroups(self.base, number, self.controllers)

    def abilities(self) -> dict[str, object]:
        """What is told of it to the worker."""
        return {
            "cgroup_kill": self.base is not None,
            "memory_group": "memory" in self.controllers,
            "processes_group": "pids" in self.controllers,
        }

    def remove(self) -> None:
        """Remove the groups, as far as nothing is in them any more."""
        for controller in self.controllers.values():
            if controller.version == 1:
                _remove_named(controller.base)
        # A home with controllers takes no processes back: then the service manager clears it away.
        if self.base is not None and self._own is not None:
            write(self._own + b"/cgroup.procs", b"0")
            _remove_tree(self.base)


def find(token: str, worker_pid: int, *, first: bool) -> Groups:
    """Take what can be had, and kill what an engine with the same token left.

    Args:
        token: name of the engine's root folder; no other live engine has it. Empty: take nothing.
        worker_pid: moved aside when it is in the way of the controllers.
        first: False when runners of a dead guardian may be alive.
    """
    groups = Groups()
    if not token:
        return groups
    own, found_mounts = own_groups(), mounts()
    name = _PREFIX + token.encode()
    home = place(found_mounts.get(""), own.get(""))
    if home is not None:
        base = home + b"/" + name
        if (not first or _clear(base, worker_pid)) and _make(base) and _enter_helpers(base):
            groups._own = home
            if first:
                _sweep_stale(home, name)
            if _kill_works(base):
                groups.base = base
                for found in _limits_in_v2(home, base, worker_pid):
                    groups.controllers[found] = Controller(base, 2)
    for controller in _LIMITING:
        home = place(found_mounts.get(controller), own.get(controller))
        if home is None or controller in groups.controllers:
            continue
        base = home + b"/" + name
        if first:
            _remove_named(base)
        if _v1_works(base, controller):
            groups.controllers[controller] = Controller(base, 1)
    return groups


def own_groups(text: bytes | None = None) -> dict[str, bytes]:
    """Path of this process in each hierarchy; version 2 under the empty name."""
    found: dict[str, bytes] = {}
    for line in (read(b"/proc/self/cgroup") if text is None else text).splitlines():
        _, names, path = line.split(b":", 2)
        for name in names.split(b","):
            found[name.decode()] = path
    return found


def mounts(text: bytes | None = None) -> dict[str, tuple[bytes, bytes]]:
    """Root and mount point of each hierarchy."""
    found: dict[str, tuple[bytes, bytes]] = {}
    for line in (read(b"/proc/self/mountinfo") if text is None else text).splitlines():
        before, _, after = line.partition(b" - ")
        kind, _, options = after.split(b" ", 2)
        root, point = before.split(b" ")[3:5]
        if kind == b"cgroup2":
            found.setdefault("", (root, point))
        elif kind == b"cgroup":
            for option in options.split(b" ")[-1].split(b","):
                found.setdefault(option.decode(), (root, point))
    return found


def place(mount: tuple[bytes, bytes] | None, own: bytes | None) -> bytes | None:
    """Folder of a group of this process, where it can be seen."""
    if mount is None or own is None:
        return None
    root, point = (part.rstrip(b"/") for part in mount)
    if own != root and not own.startswith(root + b"/"):
        return None
    return (point + own[len(root) :]).rstrip(b"/")


def _make(base: bytes) -> bool:
    try:
        os.mkdir(base, 0o755)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def _enter_helpers(base: bytes) -> bool:
    helpers = base + b"/helpers"
    if _make(helpers) and write(helpers + b"/cgroup.procs", b"0"):
        return True
    _remove_tree(base)
    return False


def _clear(base: bytes, worker_pid: int) -> bool:
    """Kill and remove what an engine of the same root left; whether nothing of it is there.

    The worker itself may be in there still: an earlier engine of the same process moved it.
    """
    if not os.path.isdir(base):
        return True
    limit = time.monotonic() + _KILL_SECONDS
    for name in os.listdir(base):
        group = base + b"/" + name
        if not os.path.isdir(group) or b"%d" % worker_pid in read(group + b"/cgroup.procs").split():
            continue
        write(group + b"/cgroup.kill", b"1")
        while b"populated 1" in read(group + b"/cgroup.events"):
            if time.monotonic() > limit:
                return False
            select.select([], [], [], 0.002)
        _remove_tree(group)
    _remove_tree(base)
    return True


def _sweep_stale(home: bytes, mine: bytes) -> None:
    for name in os.listdir(home):
        path = home + b"/" + name
        if name.startswith(_PREFIX) and name != mine and os.path.isdir(path):
            try:
                age = time.time() - os.stat(path).st_mtime  # as the file system's clock
            except OSError:
                continue  # removed by its owner meanwhile
            if age > _STALE_SECONDS and b"populated 0" in read(path + b"/cgroup.events"):
                _remove_tree(path)


def _remove_named(base: bytes) -> None:
    """Remove the groups of version 1 of one engine."""
    home, _, prefix = base.rpartition(b"/")
    for name in os.listdir(home):
        if name.startswith(prefix + b"-"):
            _remove_tree(home + b"/" + name)


def _remove_tree(path: bytes) -> None:
    """Remove groups, innermost first; those with processes stay."""
    try:
        inner = [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for child in inner:
        _remove_tree(child)
    try:
        os.rmdir(path)
    except OSError as problem:
        if problem.errno not in {errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT, errno.EACCES}:
            raise


def _kill_works(base: bytes) -> bool:
    """Kill a process of ours by its group."""
    probe = base + b"/probe"
    if not _make(probe):
        return False
    pid = os.fork()
    if pid == 0:
        _stay_in(probe)
    try:
        limit = time.monotonic() + _PROBE_SECONDS
        while not read(probe + b"/cgroup.procs") and time.monotonic() < limit:
            select.select([], [], [], 0.001)
        killed = write(probe + b"/cgroup.kill", b"1")
        while killed and time.monotonic() < limit:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                pid = 0
                return os.WIFSIGNALED(status)
            select.select([], [], [], 0.001)
        return False
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        _remove_tree(probe)


def _stay_in(group: bytes) -> None:
    """Life of a probe: in the group for a while, unless it is killed."""
    try:
        if write(group + b"/cgroup.procs", b"0"):
            select.select([], [], [], _PROBE_SECONDS)
    finally:
        os._exit(0)


def _v1_works(base: bytes, controller: str) -> bool:
    """Put a limit on a group of version 1 and a process of ours into it."""
    probe = base + b"-probe"
    name, value = (
        (b"memory.limit_in_bytes", b"67108864") if controller == "memory" else (b"pids.max", b"8")
    )
    if not _make(probe):
        return False
    try:
        if not write(probe + b"/" + name, value):
            return False
        pid = os.fork()
        if pid == 0:
            os._exit(0 if write(probe + b"/cgroup.procs", b"0") else 1)
        return os.waitpid(pid, 0)[1] == 0
    finally:
        _remove_tree(probe)


def _limits_in_v2(home: bytes, base: bytes, worker_pid: int) -> list[str]:
    """Hand the controllers on to the engine's folder; those that came through."""
    return [name for name in _LIMITING if hand_on(name, home, base, worker_pid)]


def hand_on(controller: str, home: bytes, base: bytes, worker_pid: int) -> bool:
    """Let the groups inside of `base` use a controller of `home`; whether they can.

    A group other than the root with processes in it hands nothing on. The worker is moved aside
    if it is the only one.
    """
    name = controller.encode()
    if name not in read(home + b"/cgroup.controllers").split():
        return False
    if name not in read(base + b"/cgroup.controllers").split():
        others = set(read(home + b"/cgroup.procs").split())
        if others == {b"%d" % worker_pid}:
            write(base + b"/helpers/cgroup.procs", b"%d" % worker_pid)
        if not write(home + b"/cgroup.subtree_control", b"+" + name):
            return False
    return write(base + b"/cgroup.subtree_control", b"+" + name)
