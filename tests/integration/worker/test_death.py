"""A worker that is killed: nothing of it lives on, and its guardian says so."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.services.worker.identity import WorkFolder
from mitosis.testing.waiting import eventually

# A worker process of its own, registered by the test's coordinator beforehand.
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from mitosis.config.worker import WorkerConfig
from mitosis.contract.commands import Registered
from mitosis.services.worker.service import run_worker

class Access:
    async def command(self, noun, verb, body, result, key=""):
        return Registered(sys.argv[2], "token", 30.0, 10.0, {})
    async def servers(self):
        return [sys.argv[3]]
    async def close(self):
        pass

sys.exit(asyncio.run(run_worker(WorkerConfig(work_dir=Path(sys.argv[1])), Access())))
"""
WORKER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def process(tmp_path: Path, coordinator: Any) -> Iterator["subprocess.Popen[bytes]"]:
    coordinator.workers.append(WORKER)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, tmp_path / "work", WORKER, coordinator.url],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    yield started
    started.kill()
    started.communicate()


async def registered(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert line.decode() == f"{WORKER}\n"


async def test_a_killed_worker_s_guardian_says_that_it_died_and_nothing_is_alive(
    coordinator: Any, process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    await registered(process)
    held = tmp_path / "work" / "epitaph.json"
    assert stat.S_IMODE(held.stat().st_mode) == 0o600
    beat = tmp_path / "beat"
    coordinator.assign("sh", "-c", f"echo $$ > {beat}; sleep 600 & wait")
    pid = int(await eventually(lambda: beat.exists() and beat.read_text()))
    process.kill()
    await eventually(lambda: coordinator.left)
    assert coordinator.left == ["its process died"]
    assert coordinator.died == [True]
    assert not Path(f"/proc/{pid}").exists()
    folder = await asyncio.to_thread(WorkFolder.open, tmp_path / "work")
    folder.close()


async def test_the_first_sigterm_finishes_what_runs_and_leaves(
    coordinator: Any, process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    await registered(process)
    go = tmp_path / "go"
    task = coordinator.assign("sh", "-c", f"while ! test -e {go}; do sleep 0.02; done")
    await coordinator.started(task)
    process.send_signal(signal.SIGTERM)
    late = ""
    while not late:
        late = (await coordinator.over(coordinator.assign("true"))).handed_back
    go.touch()
    assert (await coordinator.over(task)).committed
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert coordinator.left == ["the worker got SIGTERM"]
    assert coordinator.died == [False]
    assert not (tmp_path / "work" / "epitaph.json").exists()


async def test_the_second_sigterm_hands_tasks_back(
    coordinator: Any, process: "subprocess.Popen[bytes]"
) -> None:
    await registered(process)
    task = coordinator.assign("sleep", "600")
    await coordinator.started(task)
    process.send_signal(signal.SIGTERM)
    await eventually(lambda: process.send_signal(signal.SIGTERM) or coordinator.of(task)[1:])
    told = await coordinator.over(task)
    assert told.handed_back == "the worker got SIGTERM"
    assert await asyncio.to_thread(process.wait, 20) == 0
