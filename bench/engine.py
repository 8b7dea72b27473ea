"""Rate of `true` through the engine and the CPU that each task costs the worker's loop.

Run: python -m bench.engine [--tasks N]. Figures of one run compare with each other only.
"""

import argparse
import asyncio
import os
import resource
import tempfile
import time
from pathlib import Path

from mitosis.processes.engine import Engine
from mitosis.processes.run import Run
from mitosis.processes.runs import RunResult, RunSpec
from mitosis.services.worker.line import MOST_LINED_UP

SPEC = RunSpec(argv=["/bin/true"], env={"PATH": os.defpath}, timeout_seconds=60)


def floor(tasks: int) -> float:
    """Tasks a second of a loop of posix_spawn and wait, in this process."""
    begin = time.perf_counter()
    for _ in range(tasks):
        os.wait4(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return tasks / (time.perf_counter() - begin)


def cpu_seconds(pid: int) -> float:
    """CPU time of another process."""
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


def children(pid: int) -> list[int]:
    """Children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def measure(slots: int, tasks: int, root: Path, spec: RunSpec) -> tuple[float, float, float]:
    """Tasks a second, CPU us a task of this process, CPU us a task of the runners."""
    engine = Engine(slots, root)
    await engine.start()
    done = asyncio.get_running_loop().create_future()
    left = tasks
    running = 0

    def begin() -> None:
        nonlocal left, running
        while left and engine.free_slots:
            left -= 1
            running += 1
            engine.start_task(spec, on_ended=end)
        while left and engine.line_up(
            lambda: spec, most=MOST_LINED_UP, patience_seconds=1.0, on_ended=end
        ):
            left -= 1
            running += 1

    def end(run: Run, result: RunResult) -> None:
        nonlocal running
        assert result.outcome.code == 0  # type: ignore[union-attr]
        running -= 1
        run.release()
        begin()
        if not left and not running:
            done.set_result(None)

    runners = children(engine.guardian_pid)
    before = sum(map(cpu_seconds, runners))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    begin()
    await done
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    own = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    helpers = sum(map(cpu_seconds, runners)) - before
    await engine.close(1)
    return tasks / wall, own / tasks * 1e6, helpers / tasks * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    tasks = parser.parse_args().tasks
    print(f"floor (posix_spawn + wait here): {floor(tasks):.0f} tasks/s")
    for slots in (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            rate, own, helpers = asyncio.run(measure(slots, tasks, Path(folder) / "root", SPEC))
        print(f"{slots} slots: {rate:.0f} tasks/s, {own:.0f} us worker, {helpers:.0f} us runner")


if __name__ == "__main__":
    main()
