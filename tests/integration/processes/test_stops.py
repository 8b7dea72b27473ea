"""Timeout, cancel, lease and the end of a tree, against programs that resist."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.guard.linux import is_alive
from mitosis.processes.runs import Exited, Lost, Signaled, SpawnFailed
from mitosis.testing.descriptors import without_descriptors

from .conftest import Bench, marked, until

# Each script below ends by itself after a while: a stray process must not outlive a failed test.

IGNORES_TERM = "trap '' TERM; echo ready; sleep 20 & sleep 20"
FORKS_AT_TERM = """
import os, signal, time
def at_term(*_):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            limit = time.monotonic() + 20
            while time.monotonic() < limit:
                time.sleep(0.5)
            os._exit(0)
signal.signal(signal.SIGTERM, at_term)
print("ready", flush=True)
limit = time.monotonic() + 20
while time.monotonic() < limit:
    time.sleep(0.5)
"""
HOPPER = """
import os, time
limit = time.monotonic() + 20
if os.fork():
    time.sleep(0.3)
    os._exit(0)
while time.monotonic() < limit:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
BOMB = """
import os, time
limit = time.monotonic() + 6
print("ready", flush=True)
children = 0
while time.monotonic() < limit:
    if children < 5:
        if os.fork() == 0:
            os.setsid()
            children = 0
            while len(os.listdir("/proc")) > MOST and time.monotonic() < limit:
                time.sleep(0.001)
        else:
            children += 1
    else:
        time.sleep(0.01)
"""


async def ready(bench: Bench, run: object) -> None:
    """Until the script says so: then its traps are set."""
    await run.started()  # type: ignore[attr-defined]
    limit = time.monotonic() + 20
    while b"ready" not in await run.tail("stdout", 100):  # type: ignore[attr-defined]
        assert time.monotonic() < limit


async def test_a_timeout_that_is_obeyed_burns_no_grace(bench: Bench) -> None:
    run = bench.shell("trap 'exit 9' TERM; sleep 20 & wait", timeout_seconds=1.0)
    result = await bench.finish(run)
    assert (result.cause, result.outcome) == ("timeout", Exited(9))
    assert 1.0 <= result.wall_seconds < 6
    assert result.leftovers_killed == 0


async def test_a_timeout_that_is_ignored_ends_after_the_grace(bench: Bench) -> None:
    run = bench.shell(IGNORES_TERM, timeout_seconds=1.0, grace_seconds=0.3)
    result = await bench.finish(run)
    assert (result.cause, result.outcome) == ("timeout", Signaled(signal.SIGKILL))
    assert 1.3 <= result.wall_seconds < 10
    assert result.stdout.tail == b"ready\n"


@pytest.mark.parity("F-08", "D-033")
async def test_children_forked_while_dying_are_killed(bench: Bench) -> None:
    run = bench.python(FORKS_AT_TERM, grace_seconds=1.0)
    await ready(bench, run)
    run.stop("cancel")
    result = await bench.finish(run)
    assert (result.cause, result.outcome) == ("cancel", Signaled(signal.SIGKILL))
    assert result.leftovers_killed >= 3


@pytest.mark.parity("R-01")
async def test_the_grace_lasts_until_the_tree_is_empty_not_until_its_main_process_ends(
    bench: Bench,
) -> None:
    # Ready only when the background child is `sleep`: a shell between fork and exec swallows TERM.
    started = "until grep -q sleep /proc/$!/comm; do :; done"
    child = f"trap 'sleep 0.3; echo saved; exit 0' TERM; sleep 20 & {started}; echo ready; wait"
    run = bench.shell('(setsid sh -c "$CHILD") & wait', env={"CHILD": child}, grace_seconds=10)
    await ready(bench, run)
    run.stop("cancel")
    result = await bench.finish(run)
    assert result.outcome == Signaled(signal.SIGTERM)
    assert result.stdout.tail.endswith(b"saved\n")
    assert result.leftovers_killed == 0


async def test_each_process_gets_the_stop_signal_once_and_it_can_be_chosen(bench: Bench) -> None:
    script = "n=0; trap 'n=$((n+1)); echo got $n' USR1; trap 'exit 3' ALRM; echo ready;"
    script += " while :; do sleep 0.05; done"
    run = bench.shell(script, stop_signal=signal.SIGUSR1, grace_seconds=1.5)
    await ready(bench, run)
    run.stop("cancel")
    result = await bench.finish(run)
    assert result.stdout.tail == b"ready\ngot 1\n"


async def test_a_stopped_tree_wakes_to_end(bench: Bench) -> None:
    run = bench.shell("trap 'exit 4' TERM; kill -STOP $$; sleep 20", grace_seconds=10)
    pid = await run.started()
    await until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text())
    run.stop("cancel")
    result = await bench.finish(run)
    assert result.outcome == Exited(4)


async def test_a_second_stop_can_shorten_the_grace(bench: Bench) -> None:
    run = bench.shell(IGNORES_TERM, grace_seconds=60)
    await ready(bench, run)
    run.stop("cancel")
    run.stop("shutdown", 0.0)
    result = await bench.finish(run)
    assert result.cause == "cancel"
    assert result.wall_seconds < 15


@pytest.mark.parity("F-07", "D-033")
@pytest.mark.parametrize(
    "script",
    [
        "sleep 20 & exit 4",
        "setsid sleep 20 & exit 4",
        "(setsid sh -c 'sleep 20 & sleep 20' &) ; exit 4",
        "(trap '' TERM HUP; setsid sleep 20 >/dev/null 2>&1 </dev/null) & exit 4",
    ],
)
async def test_the_end_of_the_main_process_ends_what_it_left(bench: Bench, script: str) -> None:
    result = await bench.finish(bench.shell(script))
    assert result.outcome == Exited(4)
    assert result.tree_clean
    assert result.wall_seconds < 5


async def test_what_hops_from_process_to_process_is_caught(bench: Bench) -> None:
    result = await bench.finish(bench.python(HOPPER))
    assert result.outcome == Exited(0)
    assert result.tree_clean


async def test_a_fork_bomb_is_frozen_and_killed(bench: Bench) -> None:
    most = len(list(Path("/proc").iterdir())) + 60
    run = bench.python(BOMB.replace("MOST", str(most)))
    await ready(bench, run)
    await until(lambda: len(marked(bench.mark)) > 30)
    run.stop("cancel", 0.0)
    begin = time.monotonic()
    result = await run.result()
    assert time.monotonic() - begin < 5, "a sweep without freezing does not win in 8 s"
    assert result.tree_clean
    assert result.leftovers_killed > 10
    await bench.finish(run)


@pytest.mark.parity("F-07", "D-034")
async def test_a_grandchild_that_holds_stdout_delays_nothing(bench: Bench) -> None:
    run = bench.shell("echo out; sleep 20 & exit 0")
    result = await bench.finish(run)
    assert result.stdout.tail == b"out\n"
    assert result.ended_age_seconds() < 10


async def test_a_task_that_closes_its_output_runs_on(bench: Bench) -> None:
    result = await bench.finish(bench.shell("exec >&- 2>&-; sleep 0.3; exit 7"))
    assert result.outcome == Exited(7)
    assert result.wall_seconds >= 0.3


@pytest.mark.long
async def test_orphans_are_reaped_while_the_task_runs_and_their_time_is_counted(
    bench: Bench, scaled: Callable[[int, int], int]
) -> None:
    count = scaled(300, 3_000)
    script = f"for i in $(seq {count}); do (true &) ; done; echo ready; sleep 20"
    run = bench.shell(script)
    await ready(bench, run)
    pid = await run.started()
    assert pid is not None
    stat = Path(f"/proc/{pid}/stat").read_text()
    runner = int(stat[stat.rindex(")") + 2 :].split()[1])
    await until(lambda: _children(runner) == [pid])
    run.stop("cancel", 0.0)
    result = await bench.finish(run)
    assert result.user_cpu_seconds + result.system_cpu_seconds > 0.05


async def test_a_task_that_kills_its_runner_is_lost_with_its_tree_and_the_slot_lives(
    bench: Bench,
) -> None:
    run = bench.shell("trap '' TERM; sleep 20 & setsid sleep 20 & kill -9 $PPID; sleep 20")
    result = await bench.finish(run)
    assert isinstance(result.outcome, Lost)
    assert result.outcome == Lost("the runner was killed by signal 9", by_task=True)
    assert result.tree_clean
    after = await bench.finish(bench.start("pwd"))
    assert after.outcome == Exited(0)
    assert after.folder != result.folder
    assert not result.folder.exists()


async def test_a_task_that_stops_its_runner_is_found_out(tmp_path: Path) -> None:
    engine = Engine(1, tmp_path / "root", ping_seconds=0.3)
    await engine.start()
    bench = Bench(engine, tmp_path)
    run = bench.shell("kill -STOP $PPID; sleep 20")
    result = await bench.finish(run)
    text = "the runner stood still (a SIGSTOP?) and was killed"
    assert result.outcome == Lost(text, by_task=True)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)
    await engine.close(0.0)


ASK_TO_BE_TRACED = """
import ctypes, os, signal, subprocess, sys
assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0
if sys.argv[1] == "exec":
    os.execv("/bin/sh", ["sh", "-c", "echo heard; exit 7"])
signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
subprocess.run(["true"], check=True)
if sys.argv[1] == "stop":
    os.kill(os.getpid(), signal.SIGSTOP)
if sys.argv[1] == "die":
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
raise SystemExit(7)
"""


@pytest.mark.parametrize(
    ("how", "cause", "outcome"),
    [
        ("exit", "own", Exited(7)),
        ("exec", "own", Exited(7)),
        ("die", "own", Signaled(signal.SIGSEGV)),
        ("stop", "timeout", Signaled(signal.SIGTERM)),
    ],
)
async def test_a_program_that_asks_to_be_traced_runs_as_without_a_tracer(
    bench: Bench, how: str, cause: str, outcome: Exited | Signaled
) -> None:
    # Programs do so against debuggers; their parent then hears of each of their signals.
    timeout = 2.0 if how == "stop" else 20.0
    run = bench.start(sys.executable, "-c", ASK_TO_BE_TRACED, how, timeout_seconds=timeout)
    result = await bench.finish(run)
    assert (result.cause, result.outcome) == (cause, outcome), result
    assert result.stdout.tail == b"heard\n"


TRACE_RUNNER = """
import ctypes, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
seize, attach = 0x4206, 16
runner = os.getppid()
done = ctypes.CDLL(None, use_errno=True).ptrace(
    seize if sys.argv[1] == "kill" else attach, runner, None, None
)
assert done == 0, os.strerror(ctypes.get_errno())
if sys.argv[1] == "kill":
    os.kill(runner, signal.SIGKILL)
time.sleep(40)
"""


@pytest.mark.parity("D-033")
@pytest.mark.parametrize("then", ["stop", "kill"])
async def test_a_task_that_traces_its_runner_is_found_out_and_killed(
    tmp_path: Path, then: str
) -> None:
    # Who traces a process is told of its end first, and its parent not before that.
    engine = Engine(1, tmp_path / "root", ping_seconds=0.3)
    await engine.start()
    bench = Bench(engine, tmp_path)
    run = bench.start(sys.executable, "-c", TRACE_RUNNER, then)
    result = await bench.finish(run)
    assert isinstance(result.outcome, Lost), result
    assert not is_alive(run.pid)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)
    await engine.close(0.0)


async def test_a_reservation_outlives_its_runner_only_to_say_so(bench: Bench) -> None:
    from mitosis.processes.runs import RunSpec

    reserved = bench.engine.reserve()
    (reserved.folder / "resource" / "input").write_text("x")
    [runner] = _children(bench.engine.guardian_pid)
    os.kill(runner, signal.SIGKILL)
    await until(lambda: _children(bench.engine.guardian_pid) not in ([], [runner]))
    run = reserved.start(RunSpec(argv=["true"], env={}))
    result = await bench.finish(run)
    assert isinstance(result.outcome, Lost)
    assert not reserved.folder.exists()
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_inputs_put_into_a_reserved_folder_are_there_and_gone_afterwards(
    bench: Bench,
) -> None:
    from mitosis.processes.runs import RunSpec

    reserved = bench.engine.reserve()
    assert bench.engine.free_slots == 0
    (reserved.folder / "resource" / "input").write_text("given")
    spec = RunSpec(argv=["cat", "../resource/input"], env={"PATH": "/usr/bin:/bin"})
    result = await bench.finish(reserved.start(spec))
    assert result.stdout.tail == b"given"
    bench.engine.reserve().release()
    await until(lambda: bench.engine.free_slots)
    assert list((result.folder / "resource").iterdir()) == []


async def test_a_runner_outlives_its_guardian_and_finishes_its_task(bench: Bench) -> None:
    run = bench.shell("echo ready; sleep 0.5; exit 6")
    await ready(bench, run)
    old = bench.engine.guardian_pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: bench.engine.guardian_pid not in (0, old))
    result = await bench.finish(run)
    assert result.outcome == Exited(6)
    assert (await bench.finish(bench.shell("kill -9 $PPID; sleep 20"))).tree_clean
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


@pytest.mark.parametrize("who", ["runner", "guardian"])
async def test_a_helper_that_dies_while_there_is_no_descriptor_is_replaced_when_there_is_one(
    bench: Bench, caplog: pytest.LogCaptureFixture, who: str
) -> None:
    guardian = bench.engine.guardian_pid
    (runner,) = _children(guardian)
    with without_descriptors():
        os.kill(runner if who == "runner" else guardian, signal.SIGKILL)
        await until(lambda: f"no {who} can be started just now" in caplog.text)
    await until(lambda: bench.engine.guardian_pid and _children(bench.engine.guardian_pid))
    await until(lambda: bench.engine.free_slots == 1)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_the_end_of_the_lease_kills_without_grace(bench: Bench) -> None:
    bench.engine.renew(1.0)
    run = bench.shell(IGNORES_TERM, grace_seconds=60)
    result = await bench.finish(run)
    assert (result.cause, result.outcome) == ("lease", Signaled(signal.SIGKILL))
    assert result.wall_seconds < 5
    refused = await bench.finish(bench.start("true"))
    assert refused.cause == "lease"
    assert isinstance(refused.outcome, SpawnFailed)
    bench.engine.renew(60)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_a_renewed_lease_lets_a_task_go_on(bench: Bench) -> None:
    bench.engine.renew(1.0)
    run = bench.shell("sleep 1.5; exit 2")
    done = asyncio.ensure_future(run.result())
    while not done.done():
        bench.engine.renew(1.0)
        await asyncio.sleep(0.1)
    assert (await bench.finish(run)).outcome == Exited(2)


async def test_close_stops_what_runs_and_delivers_its_result(bench: Bench) -> None:
    run = bench.shell("trap 'exit 8' TERM; sleep 20 & echo ready; wait")
    await ready(bench, run)
    waiting = asyncio.ensure_future(run.result())
    await bench.engine.close(10)
    result = await waiting
    assert (result.cause, result.outcome) == ("shutdown", Exited(8))


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
