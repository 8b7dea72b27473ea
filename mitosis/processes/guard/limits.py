"""Limits of one task: what the kernel keeps, and what the runner has to watch itself.

Memory and processes of a whole tree are kept by control groups where these can be had; elsewhere
the runner counts several times a second. CPU time of a whole tree is counted everywhere, but
seldom: a tree cannot use more than a second on each core in a second, so the next look can wait.
"""

import math
import os
import resource
import time

from . import linux
from .slot_groups import SlotGroups
from .tree import Tree

MEMORY, CPU, PROCESSES, OPEN_FILES, FILE_SIZE = range(5)
NAMES = ("memory", "cpu", "processes", "open_files", "file_size")

_SAMPLE_SECONDS = 0.1
_SHORTEST_CPU_WAIT = 0.02
_CORES = os.cpu_count() or 1
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

#: Memory bytes, CPU seconds, processes, open files, bytes of a file; None for no limit.
Limits = tuple[int | None, float | None, int | None, int | None, int | None]
NONE: Limits = (None, None, None, None, None)


def kernel_limits(limits: Limits, *, group_has_memory: bool) -> list[tuple[int, int, int]]:
    """Limits of each process of the task: resource, soft and hard value.

    A hard limit of this machine that is lower stays. The limit of CPU time of a process is a net
    below the count of the whole tree.
    """
    found: list[tuple[int, int, int]] = []
    memory, cpu, _, open_files, file_size = limits
    if memory is not None and not group_has_memory:
        found.append(_bounded(resource.RLIMIT_DATA, memory, memory))
    if cpu is not None:
        found.append(_bounded(resource.RLIMIT_CPU, math.ceil(cpu), math.ceil(cpu) + 1))
    if open_files is not None:
        found.append(_bounded(resource.RLIMIT_NOFILE, open_files, open_files))
    if file_size is not None:
        found.append(_bounded(resource.RLIMIT_FSIZE, file_size, file_size))
    return found


def _bounded(number: int, soft: int, hard: int) -> tuple[int, int, int]:
    _, most = resource.getrlimit(number)
    if most == resource.RLIM_INFINITY:
        return number, soft, hard
    return number, min(soft, most), min(hard, most)


class Watch:
    """What the runner has to count of one task."""

    def __init__(
        self,
        limits: Limits,
        *,
        memory: bool,
        processes: bool,
        groups: SlotGroups | None,
    ) -> None:
        """Watch the CPU time, and memory and processes where no group keeps them.

        Where the kernel kills only one process for the memory of the tree, that is noticed too:
        the rest must not go on as if nothing had happened.
        """
        self._memory = limits[MEMORY] if memory else None
        self._processes = limits[PROCESSES] if processes else None
        self._cpu = limits[CPU]
        self._cpu_group = groups if self._cpu is not None else None
        self._cpu_before = self._cpu_group.cpu_seconds() if self._cpu_group else (0.0, 0.0)
        self._groups = groups if groups is not None and groups.kills_one_for_memory() else None
        watched = (self._memory, self._processes, self._groups)
        self._sampling = any(one is not None for one in watched)
        self.look_at = time.monotonic() + self._wait(0.0)

    def look(self, tree: Tree) -> int | None:
        """The limit that the tree is over, if any; sets the time of the next look."""
        memory, processes, cpu = 0, 0, tree.user_seconds + tree.system_seconds
        for pid in linux.descendants():
            ticks, threads, pages = _figures(pid)
            cpu += ticks * _TICK_SECONDS
            processes += threads
            memory += pages * _PAGE_BYTES
        cpu = max(cpu, sum(self.group_cpu_seconds()))
        self.look_at = time.monotonic() + self._wait(cpu)
        if self._memory is not None and memory > self._memory:
            return MEMORY
        if self._groups is not None and "memory" in self._groups.hits():
            return MEMORY
        if self._processes is not None and processes > self._processes:
            return PROCESSES
        if self._cpu is not None and cpu >= self._cpu:
            return CPU
        return None

    def group_cpu_seconds(self) -> tuple[float, float]:
        """User and system time by the group, for a task with a limit of it; 0 without a group."""
        if self._cpu_group is None:
            return 0.0, 0.0
        user, system = self._cpu_group.cpu_seconds()
        return user - self._cpu_before[0], system - self._cpu_before[1]

    def _wait(self, cpu: float) -> float:
        wait = _SAMPLE_SECONDS if self._sampling else math.inf
        if self._cpu is not None:
            wait = min(wait, max((self._cpu - cpu) / _CORES, _SHORTEST_CPU_WAIT))
        return wait


def _figures(pid: int) -> tuple[int, int, int]:
    """Ticks of CPU with those of waited children, threads, and pages that are its own."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read()
        fields = text[text.rindex(b")") + 2 :].split(b" ", 18)
        threads = int(fields[17])
        if fields[0] == b"Z":
            # Its time is in nobody's sum before it is waited for; other threads than its first one
            # may live on.
            threads -= 1
            pid = max(map(int, os.listdir(f"/proc/{pid}/task"))) if threads else 0
        pages = _own_pages(pid) if pid else 0
    except OSError:
        return 0, 0, 0  # it was waited for; its time is in the tree's sum or in that of its parent
    return sum(map(int, fields[11:15])), threads, pages


def _own_pages(thread: int) -> int:
    """Memory of the process of a thread."""
    with open(f"/proc/{thread}/statm", "rb", buffering=0) as file:
        resident, shared = map(int, file.read().split(b" ", 3)[1:3])
    return max(0, resident - shared)
