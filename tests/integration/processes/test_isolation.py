"""Tasks in a PID namespace: the same engine, but the kernel ends all at once."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mitosis.domain.resources import Limits
from mitosis.processes.engine import Engine
from mitosis.processes.guard.linux import is_alive, machine_clock
from mitosis.processes.runs import Exited, Lost, Signaled

from .conftest import Bench, marked, names, until


@pytest.fixture
async def isolated(tmp_path: Path) -> AsyncIterator[Bench]:
    engine = Engine(1, tmp_path / "root", isolate=True)
    await engine.start()
    found = Bench(engine, tmp_path)
    yield found
    await engine.close(0.0)
    assert marked(found.mark) == []
    assert names(tmp_path / "root") == []


async def test_a_task_sees_itself_and_its_helpers_only(isolated: Bench) -> None:
    result = await isolated.finish(isolated.shell("ls -d /proc/[0-9]*; cat /proc/1/comm"))
    lines = result.stdout.tail.decode().split()
    assert lines[0] == "/proc/1"
    assert len(lines) < 8
    assert isolated.engine.abilities.isolated
    assert "at once, by the kernel" in " ".join(isolated.engine.abilities.guarantees())


async def test_tasks_run_end_stop_and_leave_nothing_as_elsewhere(isolated: Bench) -> None:
    result = await isolated.finish(isolated.shell("setsid sleep 20 & echo out; exit 7"))
    assert (result.outcome, result.stdout.tail) == (Exited(7), b"out\n")
    run = isolated.shell("trap '' TERM; echo ready; sleep 20", grace_seconds=0.2)
    while await run.tail("stdout", 10) != b"ready\n":
        pass
    run.stop("cancel")
    stopped = await isolated.finish(run)
    assert (stopped.cause, stopped.outcome) == ("cancel", Signaled(signal.SIGKILL))
    hungry = isolated.python("bytearray(200 << 20)", limits=Limits(memory_bytes=50 << 20))
    assert (await isolated.finish(hungry)).outcome != Exited(0)
    lost = await isolated.finish(isolated.shell("kill -9 $PPID; sleep 20"))
    assert isinstance(lost.outcome, Lost)
    assert (await isolated.finish(isolated.start("true"))).outcome == Exited(0)


async def test_a_task_cannot_end_the_namespace(isolated: Bench) -> None:
    result = await isolated.finish(isolated.shell("kill -9 1; kill -STOP 1; kill -9 -1; echo no"))
    assert isinstance(result.outcome, Lost | Signaled)
    assert is_alive(isolated.engine.abilities.first_pid)
    assert (await isolated.finish(isolated.start("true"))).outcome == Exited(0)


async def test_a_mount_of_a_task_is_not_seen_outside(isolated: Bench) -> None:
    script = "mkdir m; mount -t tmpfs none m || exit 77; touch m/seen; ls m; sleep 20"
    run = isolated.shell(script)
    async with asyncio.timeout(20):
        while await run.tail("stdout", 100) != b"seen\n":
            if run.outcome is not None:
                assert run.outcome.outcome == Exited(77)
                await isolated.finish(run)
                pytest.skip("a normal user may not mount in its namespace")
    assert names(run.folder / "work" / "m") == []
    run.stop("cancel", 0.0)
    await isolated.finish(run)


async def test_a_guardian_that_dies_takes_its_tasks_with_it_and_is_replaced(
    isolated: Bench,
) -> None:
    run = isolated.shell("trap '' TERM; setsid sleep 20 & sleep 20")
    await run.started()
    old = isolated.engine.guardian_pid
    os.kill(old, signal.SIGKILL)
    result = await isolated.finish(run)
    assert isinstance(result.outcome, Lost)
    assert result.tree_clean
    assert "namespace" in result.outcome.text
    await until(lambda: isolated.engine.guardian_pid not in {0, old})
    assert (await isolated.finish(isolated.start("true"))).outcome == Exited(0)


async def test_a_guardian_that_lives_outlasts_the_lease_with_its_namespace(
    isolated: Bench,
) -> None:
    """The kernel ends what is frozen, not a worker that was cut off for a while."""
    engine = isolated.engine
    assert engine.abilities.kernel_timer
    told = " ".join(engine.abilities.guarantees())
    assert "frozen in one moment: what they run is killed at the end of the lease" in told
    guardian, end = engine.guardian_pid, machine_clock() + 0.3
    engine.renew(0.3)
    run = isolated.shell("sleep 20")
    assert (await isolated.finish(run)).cause == "lease"
    await until(lambda: machine_clock() > end + 4.0)
    assert engine.guardian_pid == guardian
    engine.renew(60.0)
    assert (await isolated.finish(isolated.start("true"))).outcome == Exited(0)
    assert engine.guardian_pid == guardian


def test_where_no_namespace_can_be_made_the_start_says_why(tmp_path: Path) -> None:
    """A namespace of users has an own bound of namespaces, so this touches nothing else."""
    program = (
        "import asyncio, sys, pathlib\n"
        "from mitosis.processes.engine import Engine\n"
        "asyncio.run(Engine(1, pathlib.Path(sys.argv[1]), isolate=True).start())\n"
    )
    forbid = 'echo 0 > /proc/sys/user/max_pid_namespaces && exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", forbid, "sh"]
    done = subprocess.run(
        [*argv, sys.executable, "-c", program, str(tmp_path / "root")],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    if "unshare" in done.stderr and "WorkerFault" not in done.stderr:
        pytest.skip("no namespace of users here to forbid it in")
    assert "no PID namespace can be made here ([Errno 28] unshare: No space left" in done.stderr
