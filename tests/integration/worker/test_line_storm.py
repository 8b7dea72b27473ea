"""Thousands of programs of all manners through one worker, with cancels, moves and new sizes."""

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.transfer import SYSTEM_TRUST
from mitosis.contract.commands import Registered
from mitosis.contract.work import Assignment, CancelAttempt, Reports, TaskReport, Verdicts
from mitosis.domain.task import TaskSpec
from mitosis.processes.guard.linux import machine_clock
from mitosis.services.worker.core import STALE
from mitosis.services.worker.effects import Parts
from mitosis.services.worker.identity import WorkFolder
from mitosis.services.worker.run import TaskTerms
from mitosis.services.worker.slots import SlotEngine
from mitosis.testing.waiting import eventually

SLOTS = 4
AHEAD = 12
CANCELLED = "cancelled before it started"
KILLER = "kill -9 $PPID; sleep 9"
#: What befalls the engine from outside, and in how many of a hundred strikes.
BLOWS = {"_kill_a_runner": 10, "_kill_the_guardian": 2, "_stop_a_runner": 10, "_end_the_lease": 10,
         "_begin_anew": 1}  # fmt: skip
#: What a program does after it has written its name, and how often. Each ends by itself.
MANNERS = {
    "": 60,
    "exit 3": 10,
    "kill -9 $$": 3,
    "sleep 0.005": 10,
    "sleep 0.1": 2,
    "sleep 0.4": 1,
    "touch left": 4,
    "sleep 9 &": 1,
    "head -c 300000 /dev/zero": 2,
    KILLER: 0.2,
}


class Storm:
    """Gives tasks, and takes reports: the coordinator of one worker, without a network."""

    def __init__(self, ledger: Path, seed: int, count: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - reproducible
        self.ledger, self.left = ledger, count
        self.parts: Any = None
        self.manners: dict[str, str] = {}
        self.at_worker: dict[str, int] = {}
        self.moved: set[tuple[str, int]] = set()
        self.cancelled: set[str] = set()
        self.reports: dict[tuple[str, int], list[TaskReport]] = {}
        self.ends: dict[str, TaskReport] = {}
        self.engine: SlotEngine | None = None  # it is struck too

    async def ask(
        self, verb: str, body: Any, result: Any, *, command_id: str = "", timeout_seconds: float = 1
    ) -> Any:
        assert (verb, result) == ("report", Verdicts)
        assert isinstance(body, Reports)
        await asyncio.sleep(0)
        codes = [self._take(report) for report in body.reports]
        self.give()
        return Verdicts(codes)

    def _take(self, report: TaskReport) -> str:
        key = (report.task, report.attempt)
        if key in self.moved:
            return STALE  # it was on its way
        told = self.reports.setdefault(key, [])
        assert not any(_is_final(one) for one in told), "nothing follows the last report"
        told.append(report)
        if report.exit is not None and report.exit.kind.value != "not_started":
            assert any(one.started for one in told), "an end is told after its start"
        if not _is_final(report):
            return ""
        del self.at_worker[report.task]
        if report.committed or report.handed_back == CANCELLED:
            self.ends[report.task] = report
        elif report.task in self.cancelled:
            self.ends[report.task] = report  # lost, or handed back, when it was to be stopped
        else:
            self._assign(report.task, report.attempt + 1)
        return ""

    def give(self) -> None:
        """Give as much as the worker takes."""
        while self.left and len(self.at_worker) < SLOTS + AHEAD:
            self.left -= 1
            task = f"t{len(self.manners)}"
            names, weights = zip(*MANNERS.items(), strict=True)
            self.manners[task] = self.chance.choices(names, weights)[0]
            self._assign(task, 1)

    def _assign(self, task: str, attempt: int) -> None:
        self.at_worker[task] = attempt
        manner = self.manners[task]
        if manner == KILLER and attempt > 1:
            manner = ""
        line = f"echo {task} {attempt} >> {self.ledger}; {manner}"
        spec = TaskSpec(("sh", "-c", line), grace_seconds=0.05)
        assignment = Assignment(task, "lab", attempt, 600.0, spec)
        asyncio.get_running_loop().call_soon(self._push, assignment)

    def _push(self, assignment: Assignment) -> None:
        if self.at_worker.get(assignment.task) == assignment.attempt:
            self.parts.core.assign(assignment)

    def strike(self) -> None:
        """Do something to one of those that the worker has, or to the worker."""
        if self.engine is not None:
            blow = self.chance.choices([*BLOWS, ""], [*BLOWS.values(), 100 - sum(BLOWS.values())])
            if blow[0]:
                getattr(self, blow[0])(self.engine)
                return
        what = self.chance.random()
        if what < 0.04:
            self.parts.resize(self.chance.randint(1, SLOTS))
            return
        if not self.at_worker:
            return
        task = self.chance.choice(list(self.at_worker))
        attempt = self.at_worker[task]
        if what < 0.15:
            self.moved.add((task, attempt))
            self.parts.core.drop((task, attempt))
            self._assign(task, attempt + 1)
        elif what < 0.6:
            self.cancelled.add(task)
            self.parts.core.cancel(CancelAttempt(task, attempt))

    def _kill_a_runner(self, engine: SlotEngine) -> None:
        _signal(self._runner(engine), signal.SIGKILL)

    def _kill_the_guardian(self, engine: SlotEngine) -> None:
        _signal(engine.guardian_pid, signal.SIGKILL)

    def _stop_a_runner(self, engine: SlotEngine) -> None:
        pid, seconds = self._runner(engine), self.chance.choice((0.01, 0.1, 0.3))
        _signal(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(seconds, _signal, pid, signal.SIGCONT)

    def _end_the_lease(self, _: SlotEngine) -> None:
        self.parts._prolong(self.chance.choice((0.0, 0.005, 0.03)), machine_clock())
        pause = self.chance.choice((0.001, 0.02, 0.1))
        asyncio.get_running_loop().call_later(pause, self.renew)

    def _begin_anew(self, engine: SlotEngine) -> None:
        engine.begin_anew()

    def _runner(self, engine: SlotEngine) -> int:
        return self.chance.choice([s.runner_pid for s in engine._slots if s.connected] or [0])

    def renew(self) -> None:
        """The lease is prolonged."""
        self.parts._prolong(600.0, machine_clock())

    def check(self) -> None:
        """Each task has one end, and each attempt ran once at most."""
        ran = Counter(self.ledger.read_text().splitlines())
        assert max(ran.values()) == 1, ran.most_common(3)
        assert set(self.ends) == set(self.manners)
        for (task, attempt), told in self.reports.items():
            last = told[-1]
            name = f"{task} {attempt}"
            if last.handed_back:
                assert name not in ran, f"handed back ({last.handed_back}), and it ran"
            if last.fault and self.engine is None:
                assert last.by_task, last.fault
                assert self.manners[task] == KILLER, last.fault
        for task, end in self.ends.items():
            if end.exit is not None and task not in self.cancelled:
                code = {"exit 3": 3, "kill -9 $$": 9}.get(self.manners[task], 0)
                assert end.exit.number == code, (self.manners[task], end.exit)
                assert f"{task} {end.attempt}" in ran


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_final(report: TaskReport) -> bool:
    return report.committed or bool(report.handed_back or report.fault)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[tuple[SlotEngine, WorkFolder]]:
    folder = await asyncio.to_thread(WorkFolder.open, tmp_path / "work")
    engine = SlotEngine(SLOTS, folder.slots, lock_fds=[folder.lock_fd])
    await engine.start()
    yield engine, folder
    await engine.close(0.0)
    folder.close()


@pytest.mark.parametrize("seed", range(int(os.environ.get("STORM_SEEDS", "2"))))
async def test_each_of_many_tasks_ends_once_and_right(
    engine: tuple[SlotEngine, WorkFolder], tmp_path: Path, seed: int
) -> None:
    storm = Storm(tmp_path / "ledger", seed, int(os.environ.get("STORM_TASKS", "700")))
    await _rage(storm, *engine)
    storm.check()


@pytest.mark.parametrize("seed", range(int(os.environ.get("STORM_SEEDS", "1"))))
async def test_each_of_many_tasks_ends_once_whatever_befalls_runners_and_guardian(
    engine: tuple[SlotEngine, WorkFolder], tmp_path: Path, seed: int
) -> None:
    storm = Storm(tmp_path / "ledger", seed, int(os.environ.get("STORM_TASKS", "700")))
    storm.engine = engine[0]
    await _rage(storm, *engine)
    storm.check()


async def _rage(storm: Storm, engine: SlotEngine, folder: WorkFolder) -> None:
    """Let it go on until every task has ended and every slot is free again."""
    storm.ledger.touch()
    storm.parts = parts = Parts(
        storm,
        engine,
        Registered("w", "token", 600.0, 100.0, {}),
        folder,
        TaskTerms({"PATH": os.environ["PATH"]}),
        slots=SLOTS,
        renew_seconds=100.0,
        trust=SYSTEM_TRUST,
        upload_seconds=10.0,
    )
    reporting = asyncio.create_task(parts.reporter.run())
    storm.give()
    while storm.left or storm.at_worker:
        assert not reporting.done(), reporting.exception()
        storm.strike()
        await asyncio.sleep(storm.chance.choice((0.0, 0.001, 0.01, 0.03)))
    storm.renew()
    parts.resize(SLOTS)
    await eventually(lambda: parts.core.empty and engine.free_slots == SLOTS)
    reporting.cancel()
    await asyncio.gather(reporting, return_exceptions=True)
    await parts.deliveries.close()
