"""An engine that answers at once: what a task costs when nothing is spawned.

It stands where the engine stands in a worker, so that all else of the worker is real: its
registration, its lease, its core, its reports, its connection.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mitosis.processes.guard.linux import machine_clock
from mitosis.processes.runs import Abilities, Exited, RunResult, RunSpec, StreamResult

ABILITIES = Abilities(subreaper=True, children_file=True, pidfd=True, splice=True)
NO_OUTPUT = StreamResult()


class InstantRun:
    """A run that is over as soon as it has begun."""

    def __init__(self, engine: "InstantEngine") -> None:
        self._engine = engine
        self.started_at = machine_clock()

    def stop(self, *_: Any) -> None:
        """Nothing runs."""

    def recall(self) -> None:
        """Nothing is lined up."""

    def release(self, **_: Any) -> None:
        """Give the slot back."""
        self._engine.give_back(self)


class InstantEngine:
    """Slots in which nothing is run, and each run ends with exit code 0.

    Attributes:
        on_free: Called when a slot can take a program, as by the engine of a worker.
    """

    abilities = ABILITIES
    is_broken = misses_folders = lease_is_over = False
    user = None

    def __init__(self, slots: int, folder: Path) -> None:
        self.slots = slots
        self._folder = folder
        self.runs: list[InstantRun] = []
        self.on_free: Callable[[], None] = lambda: None
        for part in ("result", "exec"):  # where a worker looks for outputs
            (folder / part).mkdir(parents=True, exist_ok=True)

    @property
    def free_slots(self) -> int:
        """How many runs can start now."""
        return self.slots - len(self.runs)

    def start_task(
        self,
        spec: RunSpec,
        *,
        on_started: Callable[[Any], None],
        on_ended: Callable[[Any, RunResult], None],
    ) -> InstantRun:
        """Start, and end in the next turn of the loop."""
        spec.check()
        run = InstantRun(self)
        self.runs.append(run)
        asyncio.get_running_loop().call_soon(self._end, run, on_started, on_ended)
        return run

    def line_up(self, spec: Callable[[], RunSpec], **_: Any) -> None:
        """Nothing can be lined up: each run has ended before the next one comes."""

    def _end(
        self,
        run: InstantRun,
        on_started: Callable[[Any], None],
        on_ended: Callable[[Any, RunResult], None],
    ) -> None:
        on_started(run)
        result = RunResult(
            outcome=Exited(0), cause="own", started_at=run.started_at, ended_at=machine_clock(),
            stdout=NO_OUTPUT, stderr=NO_OUTPUT, folder=self._folder, left_nothing=True,
        )  # fmt: skip
        on_ended(run, result)

    def give_back(self, run: InstantRun) -> None:
        """A run was released: the slot is free in the next turn, as a real one after cleaning."""
        self.runs.remove(run)
        asyncio.get_running_loop().call_soon(self._freed)

    def _freed(self) -> None:
        self.on_free()

    def grow(self, slots: int) -> None:
        """Have at least so many slots."""
        self.slots = max(self.slots, slots)

    def renew(self, lease_seconds: float, *, measured_from: float | None = None) -> None:
        """Nothing runs that a lease could end."""

    async def close(self, grace_seconds: float) -> None:
        """Nothing is left."""
