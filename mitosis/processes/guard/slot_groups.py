"""The control groups of one slot: where its runner lives, and where a task with limits goes."""

import errno
import os
import resource


class Controller:
    """Where a limit is kept: the engine's folder (in version 1: the start of its name)."""

    def __init__(self, base: bytes, version: int) -> None:
        self.base = base
        self.version = version


class SlotGroups:
    """Groups of one slot.

    The runner lives in the same group as its tasks, which so costs them nothing. To kill the group
    it steps out first.
    """

    def __init__(self, base: bytes | None, number: int, controllers: dict[str, Controller]) -> None:
        self._base = base
        self._folder = None if base is None else b"%b/slot-%d" % (base, number)
        self._number = number
        self._controllers = controllers
        self._inside = False
        self._limited: dict[str, bytes] = {}

    def has(self, controller: str) -> bool:
        """Whether a limit of `memory` or `pids` is kept by a group."""
        return controller in self._controllers

    def enter(self) -> None:
        """Go where the tasks are; nothing when this process is there already."""
        if self._folder is None or self._inside:
            return
        _make(self._folder)
        _make(self._folder + b"/run")
        for name, controller in self._controllers.items():
            if controller.version == 2:
                write(self._folder + b"/cgroup.subtree_control", b"+" + name.encode())
        self._inside = write(self._folder + b"/run/cgroup.procs", b"0")

    def kill(self) -> bool:
        """Kill everything in the groups but this process; whether the kernel did."""
        if self._folder is None or self._base is None:
            return False
        if self._inside:
            if not write(self._base + b"/helpers/cgroup.procs", b"0"):
                return False
            self._inside = False
        return write(self._folder + b"/cgroup.kill", b"1")

    def limit(self, memory: int | None, processes: int | None) -> list[bytes]:
        """Make the groups of a task with limits; the files to write its pid to.

        Raises:
            OSError: a group refuses.
        """
        wanted = {"memory": memory, "pids": processes}
        for name, value in wanted.items():
            controller = self._controllers.get(name)
            if value is None or controller is None:
                continue
            group = self._group(controller)
            if group not in self._limited.values():
                _remove(group)
                os.mkdir(group, 0o755)
            self._limited[name] = group
            for file, text in _settings(name, controller.version, value):
                _write(group + b"/" + file, text)
        return [group + b"/cgroup.procs" for group in dict.fromkeys(self._limited.values())]

    def kills_one_for_memory(self) -> bool:
        """Whether the kernel kills one process, not the whole group, at the limit of memory."""
        return "memory" in self._limited and self._controllers["memory"].version == 1

    def hits(self) -> list[str]:
        """Limits that were hit: `memory` if the kernel killed, `processes` if it refused a fork."""
        found = []
        memory, pids = self._limited.get("memory"), self._limited.get("pids")
        if memory is not None:
            version = self._controllers["memory"].version
            name = b"/memory.oom_control" if version == 1 else b"/memory.events"
            if count(read(memory + name), b"oom_kill"):
                found.append("memory")
        if pids is not None and count(read(pids + b"/pids.events"), b"max"):
            found.append("processes")
        return found

    def cpu_seconds(self) -> tuple[float, float]:
        """User and system time of all that has ever been in here, but this process; 0: unknown.

        It counts, too, whose parents ignore SIGCHLD, which is in nobody's sum.
        """
        table = b"" if self._folder is None else read(self._folder + b"/cpu.stat")
        if not table:
            return 0.0, 0.0
        own = resource.getrusage(resource.RUSAGE_SELF)
        return (
            count(table, b"user_usec") / 1e6 - own.ru_utime,
            count(table, b"system_usec") / 1e6 - own.ru_stime,
        )

    def forget_limits(self) -> None:
        """Remove the groups of a task that is dead."""
        for group in set(self._limited.values()):
            _remove(group)
        self._limited.clear()

    def _group(self, controller: Controller) -> bytes:
        if controller.version == 1 or self._folder is None:
            return b"%b-slot-%d" % (controller.base, self._number)
        return self._folder + b"/limited"


def _settings(name: str, version: int, value: int) -> list[tuple[bytes, bytes]]:
    text = b"%d" % value
    if name == "pids":
        return [(b"pids.max", text)]
    if version == 1:
        return [(b"memory.limit_in_bytes", text), (b"?memory.memsw.limit_in_bytes", text)]
    return [(b"memory.max", text), (b"?memory.swap.max", b"0"), (b"?memory.oom.group", b"1")]


def count(table: bytes, name: bytes) -> int:
    """A counter of a file with lines of name and number; 0 if it is not there."""
    for line in table.splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return int(value)
    return 0


def read(path: bytes) -> bytes:
    """A file of the kernel; empty when it is not there or may not be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def write(path: bytes, text: bytes) -> bool:
    """Write to a file of the kernel; whether it took it."""
    try:
        _write(path, text)
    except OSError:
        return False
    return True


def _write(path: bytes, text: bytes) -> None:
    # A question mark before the name: a file that not every kernel has.
    folder, _, name = path.rpartition(b"/")
    optional = name.startswith(b"?")
    try:
        fd = os.open(folder + b"/" + name.lstrip(b"?"), os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if optional:
            return
        raise
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def _make(path: bytes) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return


def _remove(path: bytes) -> None:
    try:
        os.rmdir(path)
    except OSError as problem:
        if problem.errno not in {errno.ENOENT, errno.EBUSY}:
            raise
