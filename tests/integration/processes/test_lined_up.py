"""Programs that are given to a runner while it runs another one."""

import asyncio
import itertools
import os
import random
import select
import signal
from bisect import insort
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.guard.linux import machine_clock
from mitosis.processes.run import Run
from mitosis.processes.runs import (
    Exited,
    Lost,
    NotBegun,
    Outcome,
    RunResult,
    RunSpec,
    Signaled,
    SpawnFailed,
)

from .conftest import PATH, Bench, marked, until, wait_until

NOT_BEGUN = NotBegun()


class Line:
    """Runs of an engine with one slot, and a file to which each program writes its number."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.engine = bench.engine
        self.ledger = bench.root / "ledger"
        self.ledger.touch()
        self.results: dict[int, RunResult] = {}
        self.order: list[int] = []
        self.count = 0

    def spec(self, script: str = "", **more: object) -> RunSpec:
        self.count += 1
        argv = ["sh", "-c", f"echo {self.count} >> {self.ledger}; {script}"]
        env = {"PATH": PATH, "MARK": self.bench.mark}
        return RunSpec(argv=argv, env=env, **more)  # type: ignore[arg-type]

    def _take_end(self, number: int) -> "EndedCallback":
        return EndedCallback(self, number)

    def start(self, script: str = "", **more: object) -> Run:
        spec = self.spec(script, **more)
        return self.engine.start_task(spec, on_ended=self._take_end(self.count))

    def line_up(self, script: str = "", *, most: int = 4, **more: object) -> Run:
        run = self.try_to_line_up(script, most=most, **more)
        assert run is not None
        return run

    def try_to_line_up(
        self, script: str = "", *, most: int = 4, patience_seconds: float = 60.0, **more: object
    ) -> Run | None:
        spec = self.spec(script, **more)
        run = self.engine.line_up(
            lambda: spec,
            most=most,
            patience_seconds=patience_seconds,
            on_ended=self._take_end(self.count),
        )
        self.count -= run is None
        return run

    async def all_ended(self) -> list[Outcome]:
        await until(lambda: len(self.results) == self.count)
        return [self.results[number].outcome for number in sorted(self.results)]

    def begun(self) -> list[int]:
        """Numbers of the programs that ran, in their order."""
        return [int(line) for line in self.ledger.read_text().split()]


class EndedCallback:
    """Releases a run at its end, as the worker does, and keeps how it ended."""

    def __init__(self, line: Line, number: int) -> None:
        self.line, self.number = line, number

    def __call__(self, run: Run, result: RunResult) -> None:
        assert self.number not in self.line.results, "a run ends once"
        self.line.results[self.number] = result
        self.line.order.append(self.number)
        run.release()


@pytest.fixture
async def line(bench: Bench) -> Line:
    return Line(bench)


async def test_what_is_lined_up_begins_when_the_one_before_has_ended(line: Line) -> None:
    line.start("sleep 0.05")
    for _ in range(3):
        line.line_up("exit 4")
    assert await line.all_ended() == [Exited(0), Exited(4), Exited(4), Exited(4)]
    assert line.begun() == line.order == [1, 2, 3, 4]
    ends = [line.results[number] for number in line.order]
    assert all(a.ended_at <= b.started_at for a, b in itertools.pairwise(ends))
    assert line.engine.free_slots == 1


async def test_the_next_one_begins_while_the_worker_is_busy_with_something_else(line: Line) -> None:
    first = line.start("sleep 0.05")
    line.line_up()
    await first.started()
    limit = machine_clock() + 10
    while len(line.begun()) < 2:  # and the loop of this process does not turn
        assert machine_clock() < limit
    assert line.results == {}
    await line.all_ended()


async def test_each_of_a_thousand_runs_once_and_in_its_order(line: Line) -> None:
    line.start()
    while line.count < 1000:
        if not (line.start() if line.engine.free_slots else line.try_to_line_up(most=4)):
            await asyncio.sleep(0)
    assert set(await line.all_ended()) == {Exited(0)}
    assert line.begun() == line.order == list(range(1, 1001))


async def test_no_more_are_lined_up_than_was_said(line: Line) -> None:
    line.start("sleep 0.2")
    assert line.try_to_line_up(most=1)
    assert not line.try_to_line_up(most=1)
    await line.all_ended()


async def test_nothing_is_lined_up_behind_a_program_that_runs_for_long(line: Line) -> None:
    run = line.start("sleep 20")
    await run.started()
    assert not line.try_to_line_up(patience_seconds=0.0)
    run.stop("cancel", 0.0)
    await line.all_ended()


async def test_nothing_is_lined_up_in_a_free_slot_or_behind_kept_output(line: Line) -> None:
    assert not line.try_to_line_up()
    line.start("sleep 0.1", output="file")
    assert not line.try_to_line_up()
    await line.all_ended()


async def test_what_is_lined_up_comes_back_when_the_one_before_leaves_something(line: Line) -> None:
    line.start("sleep 0.05; touch left")
    line.line_up()
    line.line_up()
    assert await line.all_ended() == [Exited(0), NOT_BEGUN, NOT_BEGUN]
    assert line.begun() == [1]
    await until(lambda: line.engine.free_slots)
    line.start()
    assert (await line.all_ended())[-1] == Exited(0)


async def test_what_was_recalled_is_not_begun_and_nothing_behind_it_overtakes_it(
    line: Line,
) -> None:
    line.start("sleep 0.1")
    line.line_up()
    recalled = line.line_up()
    line.line_up()
    recalled.recall()
    assert await line.all_ended() == [Exited(0), Exited(0), NOT_BEGUN, NOT_BEGUN]
    assert line.begun() == [1, 2]


async def test_nothing_is_lined_up_until_what_was_recalled_is_back(line: Line) -> None:
    """It would begin first: the runner gives back what it has before it hears of more."""
    line.start("sleep 0.1")
    line.line_up()
    line.line_up().recall()
    assert not line.try_to_line_up()
    await until(lambda: 3 in line.results)
    line.line_up()
    assert await line.all_ended() == [Exited(0), Exited(0), NOT_BEGUN, Exited(0)]
    assert line.begun() == [1, 2, 4]


async def test_nothing_is_lined_up_until_all_behind_what_was_recalled_is_back(line: Line) -> None:
    """Who came back first could bring somebody new along, in front of the others."""
    tried: list[Run | None] = []
    line.start("sleep 0.1")
    spec = line.spec()

    def came_back(run: Run, result: RunResult) -> None:
        line._take_end(2)(run, result)
        tried.append(line.try_to_line_up())

    first = line.engine.line_up(lambda: spec, most=4, patience_seconds=60.0, on_ended=came_back)
    assert first is not None
    line.line_up()
    first.recall()
    assert await line.all_ended() == [Exited(0), NOT_BEGUN, NOT_BEGUN]
    assert tried == [None]


@pytest.mark.parametrize("seed", range(4))
async def test_what_comes_back_to_its_old_place_is_run_in_its_order(
    bench: Bench, seed: int
) -> None:
    """So that tasks of one priority run as they were submitted, however often they are recalled."""
    engine, ledger, chance = bench.engine, bench.root / "ledger", random.Random(seed)  # noqa: S311
    waiting, given, came_back = list(range(300)), dict[int, Run](), 0

    def spec(number: int) -> RunSpec:
        slow = chance.random() < 0.05
        script = f"echo {number} >> {ledger}; {'sleep 0.02' if slow else ''}"
        return RunSpec(argv=["sh", "-c", script], env={"PATH": PATH})

    def fill() -> None:
        while waiting:
            order, ended = spec(waiting[0]), partial(on_ended, waiting[0])
            if engine.free_slots:
                run: Run | None = engine.start_task(order, on_ended=ended)
            else:
                run = engine.line_up(lambda o=order: o, most=8, patience_seconds=60, on_ended=ended)
            if run is None:
                return
            given[waiting.pop(0)] = run

    def on_ended(number: int, run: Run, result: RunResult) -> None:
        nonlocal came_back
        del given[number]
        run.release()
        if isinstance(result.outcome, NotBegun):
            came_back += 1
            insort(waiting, number)
        fill()

    fill()
    while given or waiting:
        for run in chance.sample(
            list(given.values()), min(len(given), chance.choice((0, 0, 1, 3)))
        ):
            run.recall()
        await asyncio.sleep(chance.choice((0, 0.001, 0.005)))
        fill()
    assert [int(line) for line in ledger.read_text().split()] == list(range(300))
    assert came_back > 20


async def test_a_recall_that_came_too_late_keeps_nobody_back(line: Line) -> None:
    line.start("sleep 0.05")
    begun = line.line_up("sleep 0.2")
    await until(lambda: 2 in line.begun())
    begun.recall()
    await begun.started()
    line.line_up()
    assert await line.all_ended() == [Exited(0)] * 3


async def test_a_recall_of_what_has_begun_changes_nothing(line: Line) -> None:
    run = line.start("sleep 0.1; exit 5")
    await run.started()
    run.recall()
    assert await line.all_ended() == [Exited(5)]


async def test_a_stop_of_what_is_lined_up_gives_it_back_and_of_what_has_begun_ends_it(
    line: Line,
) -> None:
    line.start("sleep 0.1")
    line.line_up().stop("cancel", 0.0)
    begun = line.line_up("sleep 20")
    await begun.started()
    begun.stop("cancel", 0.0)
    assert await line.all_ended() == [Exited(0), NOT_BEGUN, Signaled(signal.SIGKILL)]


async def test_a_program_that_cannot_be_started_keeps_nobody_back(line: Line) -> None:
    line.start("sleep 0.05")
    env = {"PATH": PATH}
    missing = line.engine.line_up(
        lambda: RunSpec(argv=["/nothing/here"], env=env), most=4, patience_seconds=9
    )
    assert missing is not None
    line.line_up()
    assert await line.all_ended() == [Exited(0), Exited(0)]
    assert isinstance((await missing.result()).outcome, SpawnFailed)


async def test_a_program_with_more_arguments_than_can_be_sent_ends_alone(line: Line) -> None:
    line.start("sleep 0.1")
    with pytest.raises(ValueError, match="bytes"):
        line.engine.line_up(
            lambda: RunSpec(argv=["true", "x" * (17 << 20)], env={}), most=4, patience_seconds=9
        )
    line.line_up()
    assert await line.all_ended() == [Exited(0), Exited(0)]


async def test_what_is_lined_up_comes_back_when_the_runner_dies(line: Line) -> None:
    first = line.start("sleep 20")
    await first.started()
    line.line_up()
    line.line_up()
    (runner,) = _children(line.engine.guardian_pid)
    os.kill(runner, signal.SIGKILL)
    lost, *others = await line.all_ended()
    assert isinstance(lost, Lost)
    assert others == [NOT_BEGUN, NOT_BEGUN]
    assert marked(line.bench.mark) == []
    await until(lambda: line.engine.free_slots)
    line.start()
    assert (await line.all_ended())[-1] == Exited(0)
    assert line.begun() == [1, 4]


async def test_what_is_lined_up_comes_back_at_once_when_nobody_tells_of_the_runner_s_death(
    line: Line,
) -> None:
    first = line.start("sleep 20")
    await first.started()
    line.line_up()
    guardian = line.engine.guardian_pid
    (runner,) = _children(guardian)
    os.kill(guardian, signal.SIGSTOP)
    try:
        os.kill(runner, signal.SIGKILL)
        await until(lambda: 2 in line.results, limit_seconds=5)
    finally:
        os.kill(guardian, signal.SIGCONT)
    lost, second = await line.all_ended()
    assert isinstance(lost, Lost)
    assert second == NOT_BEGUN


async def test_who_kills_the_runner_is_blamed_and_not_who_ran_before_it(line: Line) -> None:
    line.start("sleep 0.05")
    line.line_up()
    line.line_up("kill -9 $PPID; sleep 20")
    line.line_up()
    first, second, killer, last = await line.all_ended()
    assert (first, second, last) == (Exited(0), Exited(0), NOT_BEGUN)
    assert isinstance(killer, Lost)
    assert killer.by_task


async def test_what_is_behind_more_output_than_the_channel_takes_begins_in_its_turn(
    line: Line,
) -> None:
    line.start("head -c 1000000 /dev/zero; sleep 0.05", tail_bytes=1 << 20)
    line.line_up("head -c 1000000 /dev/zero", tail_bytes=1 << 20)
    line.line_up()
    assert await line.all_ended() == [Exited(0)] * 3
    assert line.begun() == line.order == [1, 2, 3]
    assert line.engine.free_slots == 1


@pytest.mark.parametrize("recalled", ["recall", "stop"])
async def test_what_was_to_begin_when_the_end_is_told_can_be_had_back(
    line: Line, recalled: str
) -> None:
    """The worker knows that it is next, but the channel was full, and so it had not begun."""
    first = await _start_talker(line)
    second = line.line_up()
    third = line.line_up() if recalled == "stop" else None
    first.recall()  # changes nothing, and has sent what is lined up
    _let_end(line)  # the loop does not turn: nobody reads what the runner says
    second.recall() if recalled == "recall" else second.stop("cancel", 0.0)
    outcomes = await line.all_ended()
    assert outcomes[:2] == [Exited(0), NOT_BEGUN]
    assert line.begun() == ([1] if third is None else [1, 3])
    await until(lambda: line.engine.free_slots)
    line.start()
    assert (await line.all_ended())[-1] == Exited(0)


@pytest.mark.parametrize("lined_up", ["before the end", "after the end"])
async def test_nothing_begins_before_the_end_of_the_one_before_it_is_told(
    line: Line, lined_up: str
) -> None:
    """Else it would be given back as not begun when the runner dies, and run twice."""
    first = await _start_talker(line)
    (runner,) = _children(line.engine.guardian_pid)
    if lined_up == "before the end":
        line.line_up("sleep 20")
        first.recall()
    _let_end(line)
    if lined_up == "after the end":
        line.line_up("sleep 20")
        first.recall()
    limit = machine_clock() + 0.3
    while machine_clock() < limit and line.begun() == [1]:
        pass
    os.kill(runner, signal.SIGKILL)
    lost, second = await line.all_ended()
    assert isinstance(lost, Lost), "its end could not be told"
    assert second == NOT_BEGUN
    assert line.begun() == [1]
    await until(lambda: line.engine.free_slots)


async def test_nothing_is_lined_up_behind_what_the_runner_was_not_told_of(line: Line) -> None:
    line.start(f": {'x' * (17 << 20)}")
    assert not line.try_to_line_up()
    assert isinstance((await line.all_ended())[0], SpawnFailed)
    await until(lambda: line.engine.free_slots)
    reserved = line.engine.reserve()
    (runner,) = _children(line.engine.guardian_pid)
    os.kill(runner, signal.SIGKILL)
    await until(lambda: _children(line.engine.guardian_pid) not in ([], [runner]))
    lost = reserved.start(line.spec(), on_ended=EndedCallback(line, line.count))
    assert not line.try_to_line_up()
    assert isinstance((await lost.result()).outcome, Lost)
    await until(lambda: line.engine.free_slots)


async def test_a_close_begins_nothing_by_ending_what_was_before_it(tmp_path: Path) -> None:
    for number in range(10):
        engine = Engine(1, tmp_path / f"root{number}")
        await engine.start()
        line = Line(Bench(engine, tmp_path))
        line.ledger.write_text("")
        await line.start("sleep 20").started()
        for _ in range(4):
            line.line_up("sleep 20")
        await engine.close(0.0)
        assert [result.outcome for result in line.results.values()].count(NOT_BEGUN) == 4
        assert line.begun() == [1]


async def test_what_is_lined_up_comes_back_when_the_guardian_dies(line: Line) -> None:
    first = line.start("until [ -e ../../go ]; do sleep 0.02; done")
    await first.started()
    line.line_up()
    os.kill(line.engine.guardian_pid, signal.SIGKILL)
    await until(lambda: 2 in line.results)
    assert line.results[2].outcome == NOT_BEGUN
    (line.bench.root / "root" / "go").touch()
    assert (await line.all_ended())[0] == Exited(0)
    (line.bench.root / "root" / "go").unlink()
    await until(lambda: line.engine.free_slots)


async def test_nothing_that_is_lined_up_begins_after_the_lease(line: Line) -> None:
    line.engine.renew(0.15)
    line.start("sleep 20")
    line.line_up()
    outcomes = await line.all_ended()
    assert outcomes[0] == Signaled(signal.SIGKILL)
    refused = outcomes[1]
    assert refused == NOT_BEGUN or (isinstance(refused, SpawnFailed) and refused.stage == "lease")
    assert line.begun() == [1]


async def test_a_close_ends_what_runs_and_what_is_lined_up(line: Line) -> None:
    first = line.start("sleep 20")
    line.line_up()
    await first.started()
    await line.engine.close(0.0)
    assert line.results[1].outcome == Signaled(signal.SIGKILL)
    assert line.results[2].outcome == NOT_BEGUN


async def test_a_follower_sees_the_output_of_what_was_lined_up(line: Line) -> None:
    line.start("sleep 0.05")
    second = line.line_up("echo hello; sleep 0.3")
    await second.started()
    seen = bytearray()

    async def sink(chunk: object) -> None:
        seen.extend(getattr(chunk, "data", b""))

    follow = second.start_follow(sink)
    await line.all_ended()
    await follow.wait()
    assert bytes(seen) == b"hello\n"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Bench]:
    engine = Engine(2, tmp_path / "root")
    await engine.start()
    yield Bench(engine, tmp_path)
    await engine.close(0.0)


# Each ends by itself: a stray process must not outlive a failed test.
SCRIPTS = (
    "",
    "",
    "",
    "touch left",
    "exit 3",
    "sleep 0.01",
    "sleep 0.05",
    "kill -9 $$",
    "sleep 9 &",
)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_each_run_ends_once_and_no_program_runs_twice(
    two: Bench, seed: int
) -> None:
    chance, line = random.Random(seed), Line(two)  # noqa: S311 - reproducible
    runs: dict[int, Run] = {}
    for _ in range(250):
        what = chance.random()
        if what < 0.7:
            script = chance.choice(SCRIPTS)
            start = line.start if line.engine.free_slots else line.try_to_line_up
            run = start(script)
            if run is not None:
                runs[line.count] = run
        elif what < 0.8 and runs:
            runs[chance.choice(list(runs)[-6:])].recall()
        elif what < 0.9 and runs:
            runs[chance.choice(list(runs)[-6:])].stop("cancel", 0.0)
        elif what < 0.91:
            runners = _children(line.engine.guardian_pid)
            os.kill(chance.choice(runners), signal.SIGKILL)
            await until(lambda before=runners: _children(line.engine.guardian_pid) != before)
        await asyncio.sleep(chance.choice((0, 0, 0.001, 0.01)))
    await line.all_ended()
    begun = line.begun()
    assert len(begun) == len(set(begun)), "a program ran twice"
    for number, result in line.results.items():
        if isinstance(result.outcome, NotBegun | SpawnFailed):
            assert number not in begun
        elif isinstance(result.outcome, Exited):
            assert number in begun
    assert any(isinstance(result.outcome, NotBegun) for result in line.results.values())
    assert marked(two.mark) == []


async def _start_talker(line: Line) -> Run:
    """A program with more output than the channel takes, which ends by `_let_end`."""
    script = f"head -c 1000000 /dev/zero; until [ -e {line.bench.root}/go ]; do sleep 0.01; done"
    run = line.start(script, tail_bytes=1 << 20)
    await run.started()
    return run


def _let_end(line: Line) -> None:
    """Until the runner has told what the channel takes of the end, without a turn of the loop.

    Then it waits until there is room.
    """
    (slot,) = line.engine._slots
    assert slot._channel is not None
    (line.bench.root / "go").touch()
    assert select.select([slot._channel], [], [], 20)[0]
    wait_until(lambda: _state_of(slot.runner_pid) == "S")


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
