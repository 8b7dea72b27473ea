"""`just soak`: many mixed tasks on one worker, which must be as fit afterwards as before.

Prints descriptors, threads, memory and folders of the worker and its helpers as the tasks go by,
and compares what the tasks wrote into a ledger, each its number, with what the platform reports.
Ends with status 1 when anything grew or differs.
"""

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench.platform import connected, platform
from bench.soak_tasks import LEFT_BEHIND, kind_of, ledger_complaints
from mitosis import ClientConfig, MitoClient
from mitosis.testing.waiting import eventually, processes_with

SLOTS = 4
AT_ONCE = 500
#: Of the tasks; what the worker has then is what it may have at the end.
WARM_UP = 0.2
MORE_DESCRIPTORS = MORE_THREADS = 5
MORE_BYTES = 24 << 20


class Fitness(msgspec.Struct):
    """What a worker and its helpers hold while nothing runs."""

    processes: int
    descriptors: int
    threads: int
    memory_bytes: int
    entries: int

    def __str__(self) -> str:
        return (
            f"{self.processes} processes, {self.descriptors} descriptors, {self.threads} threads, "
            f"{self.memory_bytes / 1e6:.1f} MB, {self.entries} files and folders"
        )

    def complaints(self, before: "Fitness") -> list[str]:
        """Where it has grown since an earlier look."""
        bounds = {
            "processes": 0, "descriptors": MORE_DESCRIPTORS, "threads": MORE_THREADS,
            "memory_bytes": MORE_BYTES, "entries": 0,
        }  # fmt: skip
        return [
            f"{what}: {getattr(self, what)}, and {getattr(before, what)} after the warm-up"
            for what, more in bounds.items()
            if getattr(self, what) > getattr(before, what) + more
        ]


def fitness(worker: int, folder: Path) -> Fitness:
    """Look at a worker that has nothing to do."""
    pids = [worker, *_descendants(worker)]
    return Fitness(
        processes=len(pids),
        descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        threads=sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
        memory_bytes=sum(_memory_bytes(pid) for pid in pids),
        entries=sum(len(folders) + len(files) for _, folders, files in os.walk(folder)),
    )


def _descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _descendants(int(child))


def _memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def soak(
    client: MitoClient, group: str, worker: int, folder: Path, ledger: Path, count: int
) -> list[str]:
    """Run the tasks on the one worker of a group.

    Args:
        client: Of somebody who may submit to the group.
        group: Served by this worker alone.
        worker: Its process.
        folder: Its work folder.
        ledger: A file that is not there yet.
        count: How many tasks.

    Returns:
        What was wrong.
    """
    found: list[str] = []
    warm: Fitness | None = None
    begun, done = time.monotonic(), 0
    at_once = max(1, min(AT_ONCE, int(WARM_UP * count)))
    while done < count:
        numbers = range(done, min(count, done + at_once))
        found += await _run(client, group, ledger, numbers)
        done = numbers.stop
        now = await _settled(worker, folder)
        print(f"{done:6} tasks, {done / (time.monotonic() - begun):4.0f}/s: {now}", flush=True)
        if warm is None and done >= WARM_UP * count:
            warm = now
        if warm is not None and done == count:
            found += now.complaints(warm)
    found += ledger_complaints(count, ledger)
    left = processes_with(LEFT_BEHIND)
    return found + ([f"{len(left)} processes of tasks are alive: {left}"] if left else [])


async def _run(client: MitoClient, group: str, ledger: Path, numbers: range) -> list[str]:
    tasks = [kind_of(number).task(number, group, ledger) for number in numbers]
    submitted = await client.submit_many(tasks)
    views = {view.uuid: view for view in await client.wait_for_tasks(submitted)}
    return [
        complaint
        for number, one in zip(numbers, submitted, strict=True)
        for complaint in kind_of(number).complaints(views[one.task])
    ]


async def _settled(worker: int, folder: Path) -> Fitness:
    """Look when all slots are cleaned: when two looks are the same."""
    last = fitness(worker, folder)

    def same() -> Fitness | None:
        nonlocal last
        before, last = last, fitness(worker, folder)
        now = (last.processes, last.descriptors, last.entries)
        return last if now == (before.processes, before.descriptors, before.entries) else None

    found = await eventually(same, seconds=30)
    if found is None:
        raise AssertionError("`eventually` returns what is true")
    return found


@contextmanager
def _worker(config: ClientConfig, group: str, folder: Path) -> Iterator[int]:
    command = [
        sys.executable, "-m", "mitosis", "worker", "-c", str(config.coordinator_addr),
        "-u", str(config.user), "--groups", group, "--slots", str(SLOTS), "--work-dir", str(folder),
        "--credential-path", str(folder.with_name("soak-credentials")), "--log-level", "warning",
    ]  # fmt: skip
    environment = {**os.environ, "MITO_PASSWORD": str(config.password)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


async def measure(data: Path, config: ClientConfig, count: int) -> list[str]:
    """Run the soak test on a platform of its own; what was wrong."""
    group = f"soak-{secrets.token_hex(3)}"
    folder = data.with_name("soak-work")
    async with connected(config) as client:
        await client.create_group(group)
        with _worker(config, group, folder) as worker:
            return await soak(client, group, worker, folder, data.with_name("ledger"), count)


def main() -> None:
    """Parse the command line, run, say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    count = parser.parse_args().tasks
    with platform(workers=1, slots=1) as up:
        found = asyncio.run(measure(up.data, up.config, count))
    for complaint in found[:50]:
        print(f"WRONG: {complaint}")
    if found:
        raise SystemExit(f"{len(found)} things were wrong")
    print(f"{count} tasks: the ledger is exact, and nothing grew")


if __name__ == "__main__":
    main()
