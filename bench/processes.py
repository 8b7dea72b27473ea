"""CPU time and memory of the processes of a platform, by what they are."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MARKS = {
    "bench.simulated": "simulated workers", "run_projector_child": "projector",
    " projector ": "projector",
    "/processes/guard": "runners", "postgres": "postgres", "nats-server": "nats", "weed": "s3",
    " coordinator ": "coordinator", " worker ": "worker",
}  # fmt: skip


BUSY = 0.1  # of a core, all processes together: an idle platform looks at its clocks


class Process(NamedTuple):
    """One process of a platform: what it is, its CPU time, and that of children that ended."""

    pid: int
    name: str
    cpu_seconds: float
    children_seconds: float


def processes(data: Path) -> Iterator[Process]:
    """Yield the processes of the platform with this data folder.

    A process belongs to it whose command line names the folder, and so does all below it.
    """
    lines: dict[int, str] = {}
    stats: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            stats[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        lines[int(entry.name)] = line

    def belongs(pid: int) -> bool:
        return pid in stats and (str(data) in lines[pid] or belongs(int(stats[pid][1])))

    ticks = os.sysconf("SC_CLK_TCK")
    for pid, fields in stats.items():
        name = next((name for mark, name in MARKS.items() if mark in lines[pid]), "")
        if name and belongs(pid):
            own, children = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
            yield Process(pid, name, own / ticks, children / ticks)


def cpu_seconds(data: Path) -> dict[str, float]:
    """Return CPU seconds so far of each kind of process; `programs` is what the runners ran."""
    found = dict[str, float]()
    for process in processes(data):
        found[process.name] = found.get(process.name, 0.0) + process.cpu_seconds
        if process.name == "runners":
            found["programs"] = found.get("programs", 0.0) + process.children_seconds
    return found


def cpu_ms_per_task(
    before: dict[str, float], after: dict[str, float], tasks: int
) -> dict[str, float]:
    """Return what each kind of process used for a task."""
    return {
        name: round((after[name] - before.get(name, 0.0)) * 1000 / tasks, 3)
        for name in sorted(after)
    }


async def at_rest(data: Path, seconds: float) -> float:
    """Wait until the processes of a platform do next to nothing for so long; 0: do not wait.

    What a server puts in order after much work would count as the cost of what comes next.

    Returns:
        How long it took, in seconds.

    Raises:
        SystemExit: They never rest.
    """
    if not seconds:
        return 0.0
    used = 0.0
    for tries in range(1, 6):
        before = sum(cpu_seconds(data).values())
        await asyncio.sleep(seconds)
        used = sum(cpu_seconds(data).values()) - before
        if used <= BUSY * seconds:
            return tries * seconds
    raise SystemExit(f"the services do not come to rest: {used:.1f} s of CPU in {seconds:g} s")


def memory_mb(data: Path, name: str) -> tuple[float, float]:
    """Return the resident memory of a kind of process: now, and at most so far."""
    now = peak = 0.0
    for process in processes(data):
        if process.name == name:
            now += memory_of(process.pid, "VmRSS")
            peak += memory_of(process.pid, "VmHWM")
    return now, peak


def memory_of(pid: int, field: str) -> float:
    """Return a field of /proc/PID/status in MB."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def cpu_of(pid: int) -> float:
    """Return CPU seconds of one process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
