"""Limits of one task: kept for the whole tree, and named when they are hit."""

import hashlib
import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mitosis.domain.resources import Limits
from mitosis.processes.engine import Engine
from mitosis.processes.runs import Exited, RunResult, Signaled, SpawnFailed

from .conftest import Bench, marked, names

MIB = 1 << 20
#: Takes memory in steps and says how far it came.
EATER = """
import time
held = []
for step in range(40):
    held.append(bytearray(10 << 20))
    print(step, flush=True)
time.sleep(20)
"""
#: Two processes that have less than the limit each, and more together.
TWO_EATERS = """
import os, time
pid = os.fork()
held = bytearray(60 << 20)
os.wait() if pid else time.sleep(20)  # whichever of the two the kernel chooses
"""
BURNER = """
import os
for _ in range(3):
    if os.fork() == 0:
        break
while True:
    pass
"""
FORKER = """
import os, time
made = 0
try:
    while made < 200:
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError as problem:
    print("refused", problem.errno, made, flush=True)
    raise SystemExit(3)
time.sleep(20)
"""


@pytest.fixture(params=["as the machine allows", "without control groups"])
async def both(request: pytest.FixtureRequest, bench: Bench) -> AsyncIterator[Bench]:
    """An engine with what this machine has, and one that has to watch by itself."""
    if request.param == "as the machine allows":
        yield bench
        return
    engine = Engine(1, bench.root / "plain", control_groups=False)
    await engine.start()
    assert not engine.abilities.memory_group
    found = Bench(engine, bench.root)
    yield found
    await engine.close(0.0)
    assert marked(found.mark) == []


async def finish(bench: Bench, script: str, **limits: float) -> RunResult:
    run = bench.python(script, limits=Limits(**limits), grace_seconds=0.5, timeout_seconds=20)  # type: ignore[arg-type]
    return await bench.finish(run)


@pytest.mark.parity("D-053")
async def test_memory_over_the_limit_ends_the_task_and_is_named(both: Bench) -> None:
    result = await finish(both, EATER, memory_bytes=100 * MIB)
    if both.engine.abilities.memory_group:
        assert result.outcome == Signaled(signal.SIGKILL)
        assert result.limits_hit == ("memory",)
    else:
        # Each process is refused more by the kernel, and Python says so by itself.
        assert result.outcome == Exited(1)
        assert b"MemoryError" in result.stderr.tail
    assert 2 <= result.stdout.tail.count(b"\n") <= 10


async def test_a_child_that_was_killed_for_memory_is_named_though_the_task_went_on(
    both: Bench,
) -> None:
    script = 'python3 -S -E -c "$EATER" > /dev/null; echo went on; exit 4'
    limits = Limits(memory_bytes=100 * MIB)
    run = both.shell(script, env={"EATER": EATER}, limits=limits, timeout_seconds=20)
    result = await both.finish(run)
    if both.engine.abilities.memory_group:
        assert result.limits_hit == ("memory",)
    assert result.outcome in {Exited(4), Signaled(signal.SIGKILL)}


async def test_the_memory_of_a_tree_counts_together(both: Bench) -> None:
    result = await finish(both, TWO_EATERS, memory_bytes=100 * MIB)
    assert result.limits_hit == ("memory",)
    assert result.cause == "own"
    assert result.wall_seconds < 15


async def test_the_memory_of_a_process_counts_whose_first_thread_has_ended(both: Bench) -> None:
    """For the kernel such a process is a zombie, with memory and threads."""
    script = """
import ctypes, os, platform, threading, time
def hold():
    while open("/proc/self/stat").read().rsplit(") ", 1)[1][0] != "Z":
        time.sleep(0.01)
    held = bytearray(60 << 20)
    time.sleep(20)
for _ in range(2):
    if os.fork() == 0:
        threading.Thread(target=hold).start()
        ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)
time.sleep(20)
"""
    result = await finish(both, script, memory_bytes=100 * MIB)
    assert result.limits_hit == ("memory",)
    assert result.wall_seconds < 15


async def test_a_task_of_which_a_part_was_killed_for_memory_does_not_go_on(bench: Bench) -> None:
    """A kernel that kills one process only is no reason to let the rest make half a result."""
    script = (
        "import os, signal\nif os.fork() == 0:\n    held = bytearray(150 << 20)\nsignal.pause()"
    )
    if not bench.engine.abilities.memory_group:
        pytest.skip("here the child is refused the memory, and says so")
    result = await finish(bench, script, memory_bytes=100 * MIB)
    assert (result.outcome, result.limits_hit) == (Signaled(signal.SIGKILL), ("memory",))
    assert result.wall_seconds < 15


async def test_a_task_below_its_limits_notices_nothing(both: Bench) -> None:
    result = await finish(
        both,
        "import os\nx = bytearray(40 << 20)\nos.wait() if os.fork() else os._exit(0)\nprint('ok')",
        memory_bytes=100 * MIB,
        cpu_seconds=10.0,
        processes=5,
        open_files=50,
        file_size_bytes=MIB,
    )
    assert (result.outcome, result.limits_hit) == (Exited(0), ())
    assert result.stdout.tail == b"ok\n"


async def test_the_cpu_time_of_a_tree_counts_together(both: Bench) -> None:
    """One second for four processes: a limit of each process would let them use four."""
    result = await finish(both, BURNER, cpu_seconds=1.0)
    assert result.outcome == Signaled(signal.SIGXCPU)
    assert result.limits_hit == ("cpu",)
    assert 0.9 <= result.user_cpu_seconds + result.system_cpu_seconds < 2.5


async def test_the_cpu_time_of_children_that_nobody_waits_for_counts(bench: Bench) -> None:
    # Ended and kept as zombies: in nobody's sum before their parent ends.
    script = """
import os, signal, time
for _ in range(8):
    if (child := os.fork()) == 0:
        while time.process_time() < 0.25:
            pass
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    print("another", flush=True)
"""
    result = await bench.finish(bench.python(script, limits=Limits(cpu_seconds=1.0)))
    assert result.limits_hit == ("cpu",), result


async def test_a_task_that_ignores_the_signal_of_its_cpu_limit_is_killed(bench: Bench) -> None:
    ignore = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    result = await finish(bench, ignore, cpu_seconds=0.5)
    assert result.outcome == Signaled(signal.SIGKILL)
    assert result.limits_hit == ("cpu",)


async def test_too_many_processes_are_refused_or_end_the_task(both: Bench) -> None:
    result = await finish(both, FORKER, processes=20)
    assert result.limits_hit == ("processes",)
    if both.engine.abilities.processes_group:
        assert result.outcome == Exited(3)
        assert result.stdout.tail == b"refused 11 19\n"
    else:
        assert result.outcome == Signaled(signal.SIGKILL)


async def test_open_files_are_limited_for_each_process(bench: Bench) -> None:
    script = (
        "import os\ntry:\n  while True: last = os.dup(0)\nexcept OSError as p: print(p.errno, last)"
    )
    result = await finish(bench, script, open_files=40)
    assert result.stdout.tail == b"24 39\n"


async def test_a_file_cannot_grow_above_its_limit_and_the_log_can(bench: Bench) -> None:
    script = "import sys\nsys.stdout.write('x' * 300000)\nsys.stdout.flush()\n"
    script += "import signal\nsignal.signal(25, signal.SIG_DFL)\n"
    script += "open('f', 'wb').write(bytes(200000))"
    limits = Limits(file_size_bytes=100_000)
    run = bench.python(script, limits=limits, output="file")
    result = await run.result()
    assert (result.folder / "work" / "f").stat().st_size == 100_000
    assert result.stdout.kept_bytes == 300_000
    assert (result.outcome, result.limits_hit) == (Signaled(signal.SIGXFSZ), ("file_size",))
    await bench.finish(run)
    result = await bench.finish(bench.shell("head -c 200000 /dev/zero > x; exit $?", limits=limits))
    assert result.outcome == Exited(128 + signal.SIGXFSZ)
    assert result.limits_hit == ("file_size",), "as a shell tells it"


async def test_a_limit_above_what_the_machine_gives_is_the_one_of_the_machine(
    bench: Bench,
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    run = bench.shell("ulimit -n", limits=Limits(open_files=most * 2))
    assert (await bench.finish(run)).stdout.tail == f"{most}\n".encode()


async def test_a_task_with_limits_starts_as_clean_as_one_without(bench: Bench) -> None:
    """It goes through a fork of the runner, which has signals, descriptors and a session."""
    script = (
        "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; pwd;"
        "cut -d' ' -f6 /proc/$$/stat;"
        "grep -E 'Sig(Blk|Ign)' /proc/self/status; env | sort"
    )
    plain = await bench.finish(bench.shell(script))
    limited = await bench.finish(bench.shell(script, limits=Limits(cpu_seconds=100.0)))
    session = [line for line in limited.stdout.tail.splitlines() if line.isdigit()]
    assert len(session) == 1

    def comparable(result: RunResult) -> list[bytes]:
        # glibc's spawn leaves its two internal signals, 32 and 33, ignored.
        lines = result.stdout.tail.replace(b"0000000180000000", b"0" * 16).splitlines()
        return [line for line in lines if not line.isdigit()]

    assert comparable(limited) == comparable(plain)
    assert limited.max_rss_bytes < 20 * MIB


async def test_the_kernel_takes_tasks_before_their_helpers_when_memory_ends(bench: Bench) -> None:
    guardian = bench.engine.guardian_pid
    [runner] = map(int, Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split())
    own = Path("/proc/self/oom_score_adj").read_text()
    for limits in (None, Limits(cpu_seconds=100.0)):
        result = await bench.finish(bench.start("cat", "/proc/self/oom_score_adj", limits=limits))
        assert int(result.stdout.tail) == max(500, int(own))
        await bench.finish(bench.start("no-such", limits=limits))
        for helper in (guardian, runner):
            assert Path(f"/proc/{helper}/oom_score_adj").read_text() == own


async def test_what_cannot_start_says_the_same_with_limits(bench: Bench) -> None:
    limits = Limits(cpu_seconds=10.0)
    for argv in (["/no/such"], ["/tmp"], ["echo", "a\0b"], ["true", "x" * 200_000], ["cd"]):
        plain = (await bench.finish(bench.start(*argv))).outcome
        assert isinstance(plain, SpawnFailed)
        limited = (await bench.finish(bench.start(*argv, limits=limits))).outcome
        assert isinstance(limited, SpawnFailed)
        assert (limited.stage, limited.errno) == (plain.stage, plain.errno)
        if plain.stage != "arguments":
            assert limited.text == plain.text


async def test_limits_leave_no_group_and_no_descriptor_behind(bench: Bench) -> None:
    guardian = bench.engine.guardian_pid
    [runner] = map(int, Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split())
    limits = Limits(memory_bytes=100 * MIB, processes=50, cpu_seconds=5.0)
    run = bench.shell("sleep 1", limits=limits)
    await run.started()
    assert bool(_groups(bench)) is bench.engine.abilities.memory_group
    await bench.finish(run)
    before = (names(f"/proc/{runner}/fd"), Path(f"/proc/{runner}/cgroup").read_text())
    # The last one, as a runner that had to kill by the group goes back into it at the next start.
    for argv in (["no-such"], ["/tmp"], ["sh", "-c", "sleep 9 & kill -9 $$"], ["true"]):
        await bench.finish(bench.start(*argv, limits=limits))
    after = (names(f"/proc/{runner}/fd"), Path(f"/proc/{runner}/cgroup").read_text())
    assert after == before
    assert _groups(bench) == set()


def _groups(bench: Bench) -> set[str]:
    """Of tasks of this engine: they bear a name made from its root."""
    token = hashlib.sha256(os.fsencode((bench.root / "root").resolve())).hexdigest()[:16]
    root = Path("/sys/fs/cgroup")
    found = (*root.glob(f"**/mito-{token}/slot-*/limited"), *root.glob(f"**/mito-{token}-*"))
    return {str(path) for path in found}


@pytest.mark.parametrize(
    "limits",
    [
        Limits(memory_bytes=1000),
        Limits(cpu_seconds=0.0),
        Limits(cpu_seconds=float("nan")),
        Limits(processes=0),
        Limits(open_files=3),
        Limits(file_size_bytes=-1),
        Limits(memory_bytes=1 << 70),
    ],
)
async def test_a_limit_that_no_machine_can_keep_is_refused(bench: Bench, limits: Limits) -> None:
    with pytest.raises(ValueError, match=r" is .*: it must be from "):
        bench.start("true", limits=limits)
    assert bench.engine.free_slots == 1


async def test_a_kill_by_the_kernel_for_want_of_memory_is_told_without_any_limit(
    bench: Bench, small_memory: Path
) -> None:
    """A whole machine cannot be filled in a test: a small group around the task stands for it."""
    run = bench.shell("sleep 0.5; exec python3 -S -c 'bytearray(200 << 20)'")
    (small_memory / "cgroup.procs").write_text(str(await run.started()))
    result = await bench.finish(run)
    assert result.outcome == Signaled(signal.SIGKILL)
    assert result.limits_hit == ("machine_memory",)


async def test_another_kill_is_not_blamed_on_memory(bench: Bench) -> None:
    killed = await bench.finish(bench.shell("kill -9 $$"))
    assert (killed.outcome, killed.limits_hit) == (Signaled(signal.SIGKILL), ())


@pytest.fixture
def small_memory() -> Iterator[Path]:
    own = [line.split(":") for line in Path("/proc/self/cgroup").read_text().splitlines()]
    homes = [Path(f"/sys/fs/cgroup/memory{path}") for _, name, path in own if name == "memory"]
    if not homes or not os.access(homes[0], os.W_OK):
        pytest.skip("no control group of memory in version 1 here")
    group = homes[0] / f"test-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(60 * MIB))
    yield group
    group.rmdir()


IGNORES_ITS_CHILDREN = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.monotonic() + 20
while time.monotonic() < end:
    if os.fork() == 0:
        while time.process_time() < 0.05:
            pass
        os._exit(0)
    try:
        os.wait()
    except ChildProcessError:
        pass
"""


async def test_the_cpu_time_of_children_that_are_never_waited_for_is_counted_by_a_group(
    bench: Bench,
) -> None:
    """Their parent ignores SIGCHLD, so the kernel drops the time of each one that ends."""
    if not bench.engine.abilities.cgroup_kill:
        pytest.skip("no control group of version 2 here that can be used")
    run = bench.python(IGNORES_ITS_CHILDREN, limits=Limits(cpu_seconds=1.0))
    result = await bench.finish(run)
    assert result.limits_hit == ("cpu",)
    assert result.user_cpu_seconds + result.system_cpu_seconds > 0.9
    after = await bench.finish(bench.start("true", limits=Limits(cpu_seconds=1.0)))
    assert after.outcome == Exited(0)
    assert after.limits_hit == ()
    assert after.user_cpu_seconds + after.system_cpu_seconds < 0.5, "of this task alone"
