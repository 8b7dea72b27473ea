"""How a program starts and ends: codes, signals, and what could not be started."""

import asyncio
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.errors import WorkerFault
from mitosis.processes.engine import Engine
from mitosis.processes.run import Run
from mitosis.processes.runs import Exited, RunResult, RunSpec, Signaled, SpawnFailed

from .conftest import PATH, Bench, names, tool, until


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
async def test_an_exit_code_is_reported_as_it_is(bench: Bench, code: int) -> None:
    result = await bench.finish(bench.shell(f"exit {code}"))
    assert result.outcome == Exited(code)
    assert result.cause == "own"
    assert result.tree_clean


@pytest.mark.parity("D-038")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
async def test_death_by_a_signal_is_no_exit_code(bench: Bench, number: int) -> None:
    result = await bench.finish(bench.shell(f"ulimit -c 0; kill -{int(number)} $$"))
    assert isinstance(result.outcome, Signaled)
    assert result.outcome.number == number


async def test_a_missing_work_folder_is_a_fault_of_the_folder_and_repaired(bench: Bench) -> None:
    run = bench.shell("exit 0")
    result = await run.result()
    (result.folder / "work").rmdir()
    run.release()
    failed = await bench.finish(bench.start("true"))
    assert isinstance(failed.outcome, SpawnFailed)
    assert (failed.outcome.stage, failed.outcome.errno) == ("folder", errno.ENOENT)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_an_illegal_name_in_the_environment_is_refused(bench: Bench) -> None:
    result = await bench.finish(bench.start("true", env={"A=B": "c"}))
    assert isinstance(result.outcome, SpawnFailed)
    assert result.outcome.stage == "arguments"


async def test_arguments_and_environment_arrive_byte_for_byte(bench: Bench) -> None:
    odd = os.fsdecode(b"\xff\xfe -n\n\t'\"$x")
    result = await bench.finish(bench.start("printf", "%s|", odd, "", "é", env={"ODD": odd}))
    assert result.stdout.tail == os.fsencode(odd) + b"||" + "é|".encode()
    shown = await bench.finish(bench.shell('printf %s "$ODD"', env={"ODD": odd}))
    assert shown.stdout.tail == os.fsencode(odd)


async def test_the_environment_is_what_the_spec_says_and_nothing_else(bench: Bench) -> None:
    run = bench.start("env", directory_env={"result": "RESULT_DIR", "work": "WORK_DIR"})
    result = await bench.finish(run)
    lines = set(result.stdout.tail.decode().splitlines())
    assert lines == {
        f"PATH={PATH}",
        f"MARK={bench.mark}",
        f"RESULT_DIR={result.folder}/result",
        f"WORK_DIR={result.folder}/work",
    }


async def test_a_task_has_three_descriptors_an_own_session_and_clean_signals(bench: Bench) -> None:
    script = (
        "import os\n"
        "print(sorted(os.listdir('/proc/self/fd'))[:-1], os.readlink('/proc/self/fd/0'))\n"
        "print(os.getsid(0) == os.getpid(), os.getcwd())\n"
    )
    run = bench.python(script)
    result = await bench.finish(run)
    assert result.stdout.tail.decode().splitlines() == [
        "['0', '1', '2'] /dev/null",
        f"True {result.folder}/work",
    ]
    status = await bench.finish(bench.start("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"))
    values = [int(line.split()[1], 16) for line in status.stdout.tail.splitlines()]
    # glibc leaves its two internal signals, 32 and 33, ignored.
    assert [value & ~(0b11 << 31) for value in values] == [0, 0]


async def test_a_lock_of_the_worker_does_not_reach_a_task(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        engine = Engine(1, tmp_path / "root", lock_fds=[lock.fileno()])
        await engine.start()
        shown = tool("ls", "-l", f"/proc/{engine.guardian_pid}/fd")
        assert str(tmp_path / "lock") in shown
        run = engine.start_task(RunSpec(argv=["ls", "-l", "/proc/self/fd"], env={"PATH": PATH}))
        assert b"lock" not in (await run.result()).stdout.tail
        await engine.close(0.0)


async def test_figures_cover_the_tree_and_not_the_worker(bench: Bench) -> None:
    ballast = b"x" * (100 << 20)
    small = await bench.finish(bench.start("true"))
    assert small.max_rss_bytes < 20 << 20, "never the worker's own memory"
    big = await bench.finish(bench.python("x = b'x' * (100 << 20)"))
    assert big.max_rss_bytes > 100 << 20
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    script = f"python3 -S -c '{burn}' & wait; exit 3"
    busy = await bench.finish(bench.shell(script))
    assert busy.user_cpu_seconds + busy.system_cpu_seconds >= 0.19
    assert busy.wall_seconds >= 0.19
    assert busy.started_age_seconds() > busy.ended_age_seconds() >= 0
    assert len(ballast) > 0


async def test_helpers_that_do_not_come_up_are_an_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    engine = Engine(2, tmp_path / "root")
    with pytest.raises(WorkerFault, match="guardians die"):
        await engine.start()
    assert engine.free_slots == 0


async def test_a_callback_that_fails_loses_no_message(bench: Bench) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: reported.append(str(context["exception"]))
    )

    def fail(run: Run) -> None:
        raise KeyError("in a callback")

    spec = RunSpec(argv=["sh", "-c", "exit 5"], env={"PATH": PATH})
    run = bench.engine.start_task(spec, on_started=fail)
    assert (await bench.finish(run)).outcome == Exited(5)
    assert reported == ["'in a callback'"]


async def test_callbacks_and_futures_tell_the_same(bench: Bench) -> None:
    told: list[object] = []

    def ended(run: object, result: RunResult) -> None:
        told.append(result.outcome)

    spec = RunSpec(argv=["sh", "-c", "exit 5"], env={"PATH": PATH})
    run = bench.engine.start_task(spec, on_started=lambda r: told.append(r.pid), on_ended=ended)
    with pytest.raises(WorkerFault, match="no slot is free"):
        bench.engine.start_task(spec)
    with pytest.raises(RuntimeError, match="after its end"):
        run.release()
    pid, result = await asyncio.gather(run.started(), run.result())
    assert told == [pid, result.outcome]
    await bench.finish(run)


async def test_a_spec_out_of_bounds_is_refused_and_costs_no_slot(bench: Bench) -> None:
    for fields in (
        {"tail_bytes": -1},
        {"stop_signal": 4000},
        {"timeout_seconds": float("nan")},
        {"cap_bytes": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(fields))):
            bench.start("true", **fields)
    assert bench.engine.free_slots == 1


@pytest.mark.parity("F-11")
@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_mixed_thousand_leaves_descriptors_and_threads_as_they_were(
    bench: Bench, scaled: Callable[[int, int], int]
) -> None:
    kinds = [
        ["true"],
        ["false"],
        ["no-such-program"],
        ["sh", "-c", "echo x; echo y >&2; exit 3"],
        ["sh", "-c", "sleep 9 & exit 0"],
        ["sh", "-c", "echo > file; mkdir d; kill -9 $$"],
    ]

    def state() -> tuple[int, int, int]:
        runner = next(iter(_children(bench.engine.guardian_pid)))
        fds = len(names(f"/proc/{runner}/fd"))
        return len(names("/proc/self/fd")), len(names("/proc/self/task")), fds

    begin = time.monotonic()
    ended: asyncio.Future[RunResult] | None = None
    before: tuple[int, int, int] | None = None
    for number in range(scaled(1_000, 16_000)):
        run = bench.start(*kinds[number % len(kinds)], output="file" if number % 3 else "tail")
        ended = asyncio.ensure_future(run.result())
        await ended
        run.release()
        await until(lambda: bench.engine.free_slots)
        if number == 50:
            before = state()
    assert state() == before, f"after {time.monotonic() - begin:.1f} s"


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
