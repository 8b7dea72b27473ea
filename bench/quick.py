"""`just bench --quick`: throughput of `true` beside the floor, the idle round trip, the engine.

Every task is really spawned, every event is on disk (fsync) before it is acknowledged, and the
clock stops when the read model shows the last task as ended. Figures are of one run on one
machine; compare only inside one run. Ends with status 1 when the Python of the engine (the worker's
loop and the runners) takes more CPU a task than it may.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from bench import engine
from bench.floor import spawn_rate
from bench.platform import connected, platform
from mitosis import MitoClient
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.contract import subjects
from mitosis.domain.task import TaskState
from mitosis.nats.connection import Msg

SLOTS = 2
GAP_SECONDS = 0.05
MOST_PYTHON_MS = 0.6
TRUE = SubmitTaskArgs(command=("/bin/true",))


class EngineFigures(msgspec.Struct):
    """The engine alone, one task after the other, against a loop of posix_spawn and wait."""

    tasks_per_second: float
    floor_per_second: float
    worker_ms_per_task: float
    runner_ms_per_task: float

    @property
    def overhead_ms(self) -> float:
        """What a task takes longer than in the bare loop."""
        return 1000 / self.tasks_per_second - 1000 / self.floor_per_second

    @property
    def python_ms(self) -> float:
        """CPU a task of the worker's loop and the runner together."""
        return self.worker_ms_per_task + self.runner_ms_per_task


class Figures(msgspec.Struct):
    """What was measured. Times in milliseconds, rates per second."""

    tasks: int
    rounds: list[float]
    tasks_per_second: float
    floor_per_second: float
    ratio_to_floor: float
    round_trip_p50_ms: float
    round_trip_p99_ms: float
    cpu_ms_per_task: dict[str, float]
    engine: EngineFigures


class Ends:
    """Sees tasks end, live."""

    def __init__(self) -> None:
        self._ended: set[str] = set()
        self._news = asyncio.Event()

    @classmethod
    async def watch(cls, client: MitoClient) -> "Ends":
        """Begin to watch the own group."""
        ends = cls()
        connection = await client.session.open()
        group = (await client.whoami()).username
        await connection.subscribe(subjects.live(subjects.task_tail(group, ">")), ends.take)
        await connection.flush()
        return ends

    def take(self, message: Msg) -> None:
        """Note an end."""
        if b'"task.committed@1"' in message.data:
            self._ended.add(message.subject.rpartition(".")[2])
            self._news.set()

    async def of(self, tasks: list[str]) -> None:
        """Return when all these have ended."""
        while not self._ended.issuperset(tasks):
            self._news.clear()
            await self._news.wait()


async def throughput(client: MitoClient, count: int) -> float:
    """Return tasks per second, from the first submit until the read model shows all ended.

    The read model is asked seldom while much is left, so that asking costs nothing that counts,
    and often at the end.
    """
    shown_before = await finished(client)
    began = time.perf_counter()
    await client.submit_many([TRUE] * count)
    while True:
        done = await finished(client) - shown_before
        seconds = time.perf_counter() - began
        if done >= count:
            return count / seconds
        left_seconds = (count - done) * seconds / max(done, 1)
        await asyncio.sleep(min(0.25, max(0.005, left_seconds / 2)))


async def finished(client: MitoClient) -> int:
    """Return how many tasks of the own group the read model shows as finished."""
    page = await client.get_tasks(GetTasksArgs(limit=1))
    return page.counts.get(TaskState.FINISHED.value, 0)


async def round_trips(client: MitoClient, ends: Ends, count: int) -> list[float]:
    """Return milliseconds from the call of submit until the end is seen live, one at a time."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        submitted = await client.submit_task(TRUE)
        await ends.of([submitted.task])
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(GAP_SECONDS)
    return times


async def check(client: MitoClient, count: int) -> None:
    """Raise unless the read model shows every task as succeeded."""
    page = await client.get_tasks(GetTasksArgs(limit=1))
    if (page.total, page.counts.get("finished")) != (count, count):
        raise SystemExit(f"wrong: {page.total} tasks with states {page.counts}, expected {count}")


def cpu_seconds(data: Path) -> dict[str, float]:
    """Return CPU seconds so far of each kind of process of the platform with this data folder.

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

    ticks, found = os.sysconf("SC_CLK_TCK"), dict[str, float]()
    for pid, fields in stats.items():
        name = _name(lines[pid])
        if name and belongs(pid):
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return found


def _name(line: str) -> str:
    marks = {
        "run_projector_child": "projector", "/processes/guard": "runners", "postgres": "postgres",
        "nats-server": "nats", " coordinator ": "coordinator", " worker ": "worker",
    }  # fmt: skip
    return next((name for mark, name in marks.items() if mark in line), "")


def measure_engine(tasks: int) -> EngineFigures:
    """Run the engine without a platform."""
    floor = engine.floor(tasks)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        rate, worker, runner = asyncio.run(engine.measure(1, tasks, root, engine.SPEC))
    return EngineFigures(
        round(rate, 1), round(floor, 1), round(worker / 1000, 3), round(runner / 1000, 3)
    )


async def measure(
    data: Path, config: object, tasks: int, trips: int, rounds: int, alone: EngineFigures
) -> Figures:
    """Run everything against a platform."""
    async with connected(config) as client:  # type: ignore[arg-type]
        await throughput(client, 50)  # everything is loaded and warm
        before = cpu_seconds(data)
        rates = [await throughput(client, tasks) for _ in range(rounds)]
        after = cpu_seconds(data)
        times = sorted(await round_trips(client, await Ends.watch(client), trips))
        await check(client, 50 + tasks * rounds + trips)
    floor = statistics.median(spawn_rate(1_000, SLOTS) for _ in range(3))
    rate = statistics.median(rates)
    return Figures(
        tasks=tasks,
        rounds=[round(each, 1) for each in rates],
        tasks_per_second=round(rate, 1),
        floor_per_second=round(floor, 1),
        ratio_to_floor=round(rate / floor, 3),
        round_trip_p50_ms=round(times[len(times) // 2], 2),
        round_trip_p99_ms=round(times[min(len(times) - 1, int(len(times) * 0.99))], 2),
        cpu_ms_per_task={
            name: round((after[name] - before.get(name, 0.0)) * 1000 / (tasks * rounds), 3)
            for name in sorted(after)
        },
        engine=alone,
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the only size so far")
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--trips", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    options = parser.parse_args()
    sizes = options.tasks, options.trips, options.rounds
    alone = measure_engine(options.tasks)
    with platform(workers=1, slots=SLOTS) as (data, config):
        figures = asyncio.run(measure(data, config, *sizes, alone))
    if options.json:
        print(json.dumps(msgspec.to_builtins(figures)))
    else:
        show(figures)
    if alone.python_ms > MOST_PYTHON_MS:
        raise SystemExit(f"the engine took {alone.python_ms:.2f} ms, {MOST_PYTHON_MS} are allowed")


def show(figures: Figures) -> None:
    """Print the figures for people."""
    print(f"{figures.tasks} x true on {SLOTS} slots: {figures.tasks_per_second:.0f} tasks/s")
    print(f"  rounds {figures.rounds}")
    print(f"posix_spawn, {SLOTS} in flight:  {figures.floor_per_second:.0f} /s")
    print(f"ratio to the floor:       {figures.ratio_to_floor:.3f}")
    print(
        f"idle round trip:          p50 {figures.round_trip_p50_ms:.2f} ms, "
        f"p99 {figures.round_trip_p99_ms:.2f} ms"
    )
    print(
        "CPU per task, ms:         "
        + ", ".join(f"{name} {value:g}" for name, value in figures.cpu_ms_per_task.items())
    )
    alone = figures.engine
    print(
        f"engine alone, 1 slot:     {alone.tasks_per_second:.0f} tasks/s, bare loop "
        f"{alone.floor_per_second:.0f} /s: {alone.overhead_ms:.2f} ms more a task"
    )
    print(
        f"worker-side Python:       {alone.python_ms:.2f} ms CPU a task: worker "
        f"{alone.worker_ms_per_task:g}, runner {alone.runner_ms_per_task:g} "
        f"(at most {MOST_PYTHON_MS} on a machine that does nothing else)"
    )


if __name__ == "__main__":
    main()
