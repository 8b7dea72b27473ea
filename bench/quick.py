"""`just bench --quick`: throughput of `true` beside the floor, and the idle round trip.

Every task is really spawned, every event is on disk (fsync) before it is acknowledged, and the
clock stops when the read model shows the last task as ended. Figures are of one run on one
machine; compare only inside one run.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path

import msgspec

from bench.floor import spawn_rate
from bench.platform import connected, platform
from mitosis import MitoClient
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.contract import subjects
from mitosis.domain.task import TaskState
from mitosis.nats.connection import Msg

SLOTS = 2
GAP_SECONDS = 0.05
TRUE = SubmitTaskArgs(command=("/bin/true",))


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
    """Return CPU seconds so far of each process whose command line names the data folder."""
    ticks, found = 100.0, {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        name = _name(words, data)
        if entry.name.isdigit() and name:
            found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / ticks
    return found


def _name(words: list[str], data: Path) -> str:
    line = " ".join(words)
    for mark, name in (
        ("run_projector_child", "projector"), ("guardian", "runners"), ("postgres", "postgres"),
        ("nats-server", "nats"), (" coordinator ", "coordinator"), (" worker ", "worker"),
    ):  # fmt: skip
        if mark in line and (str(data) in line or name in {"projector", "runners", "postgres"}):
            return name
    return ""


async def measure(data: Path, config: object, tasks: int, trips: int, rounds: int) -> Figures:
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
    with platform(workers=1, slots=SLOTS) as (data, config):
        figures = asyncio.run(measure(data, config, options.tasks, options.trips, options.rounds))
    if options.json:
        print(json.dumps(msgspec.to_builtins(figures)))
        return
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


if __name__ == "__main__":
    main()
