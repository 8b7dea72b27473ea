"""Guardian and runners that somebody stops or holds on to."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.runs import Exited

from .conftest import Bench, until

_PIDFD_GETFD = 438


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def copies_of_sockets(pid: int) -> Iterator[None]:
    """Hold what the sockets of a process are open for, as one of the same user can."""
    process = os.pidfd_open(pid)
    names = [e.name for e in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in str(e.readlink())]
    libc = ctypes.CDLL(None, use_errno=True)
    held = [libc.syscall(_PIDFD_GETFD, process, int(name), 0) for name in names]
    try:
        assert held
        if min(held) < 0:
            pytest.skip("descriptors of others cannot be had here")
        yield
    finally:
        for fd in (process, *held):
            if fd >= 0:
                os.close(fd)


async def test_who_holds_the_channel_of_a_dead_runner_holds_up_nobody(bench: Bench) -> None:
    (runner,) = children(bench.engine.guardian_pid)
    run = bench.shell("sleep 20")
    await run.started()
    with copies_of_sockets(runner):
        os.kill(runner, signal.SIGKILL)
        async with asyncio.timeout(10):
            assert (await bench.finish(run)).tree_clean
        assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_a_guardian_that_stands_still_is_replaced_and_tasks_go_on(tmp_path: Path) -> None:
    engine = Engine(1, tmp_path / "root", ping_seconds=0.3)
    await engine.start()
    bench = Bench(engine, tmp_path)
    run = bench.shell("until [ -e go ]; do sleep 0.05; done; exit 6")
    await run.started()
    old = engine.guardian_pid
    os.kill(old, signal.SIGSTOP)
    await until(lambda: engine.guardian_pid not in (0, old))
    (run.folder / "work" / "go").touch()
    assert (await bench.finish(run)).outcome == Exited(6)
    assert (await bench.finish(bench.shell("kill -9 $PPID; sleep 20"))).tree_clean
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)
    await engine.close(0.0)


async def test_a_runner_that_is_stopped_while_it_cleans_is_replaced(tmp_path: Path) -> None:
    """A task of another slot can do that, and nobody waits for an answer of this one."""
    engine = Engine(1, tmp_path / "root", ping_seconds=0.2)
    await engine.start()
    bench = Bench(engine, tmp_path)
    run = bench.shell("touch x")
    await run.result()
    (runner,) = children(engine.guardian_pid)
    os.kill(runner, signal.SIGSTOP)
    run.release()
    await until(lambda: engine.free_slots)
    assert (
        await bench.finish(bench.shell("ls -A . ../result"))
    ).stdout.tail == b".:\n\n../result:\n"
    await engine.close(0.0)
