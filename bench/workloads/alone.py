"""The engine alone, one program after the other, beside a loop of posix_spawn and wait."""

import asyncio
import tempfile
from pathlib import Path

from bench import engine
from bench.sizes import Bench

MOST_PYTHON_MS = 0.6


def measure(bench: Bench) -> None:
    """Measure, and end the run when the Python around a task takes more CPU than it may."""
    tasks = bench.sizes.engine
    floor = engine.floor(tasks)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        rate, worker, runner = asyncio.run(engine.measure(1, tasks, root, engine.SPEC))
    add = bench.results.add
    add("engine", f"engine alone, 1 slot, {tasks:,} x true", "tasks/s", rate)
    add("engine/floor", f"engine alone, 1 slot, {tasks:,} x true", "tasks/s", floor,
        who="posix_spawn and wait4")  # fmt: skip
    add("engine/over", "engine alone: more than the bare loop, a task", "ms",
        1000 / rate - 1000 / floor)  # fmt: skip
    python_ms = (worker + runner) / 1000
    add("engine/python", "CPU of the Python of worker and runner, a task", "ms", python_ms,
        note=f"worker {worker / 1000:.3f}, runner {runner / 1000:.3f}; at most {MOST_PYTHON_MS} "
        "on a machine that does nothing else")  # fmt: skip
    if python_ms > MOST_PYTHON_MS:
        raise SystemExit(f"the engine took {python_ms:.2f} ms, {MOST_PYTHON_MS} are allowed")
