"""Processes of a task that the worker's user may not kill, as those of sudo (R-05)."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .test_worker_death import Worker

NOBODY = 65534


@pytest.fixture
def helper(ground: Path) -> Path:
    """A copy of perl that becomes root, and runs its arguments for a while."""
    perl = shutil.which("perl")
    if perl is None or os.geteuid() != 0:
        pytest.skip("making a helper like sudo takes root, and perl")
    path = ground / "becomes-root"
    shutil.copy(perl, path)
    path.chmod(0o4755)
    said = subprocess.run(
        [path, "-e", "$< = $>; print $<"], check=True, capture_output=True, user=NOBODY
    )
    if said.stdout != b"0":
        pytest.skip("programs do not become root on this file system")
    return path


@pytest.fixture
def start(ground: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(**wanted: object) -> Worker:
        workers.append(Worker(ground, user=NOBODY, **wanted))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


@pytest.mark.parity("R-05")
def test_a_child_that_may_not_be_killed_is_named_and_keeps_its_slot_until_it_ends(
    helper: Path, start: Callable[..., Worker], ground: Path
) -> None:
    """A timeout that left something running is never reported as clean.

    Here and not on a platform, where no worker of a normal user has a program that becomes root:
    these sentences are the task's warnings as they are (tests/unit/worker/test_run.py), and a slot
    that is not free is not given a task.
    """
    script = '$< = $>; $| = 1; $SIG{TERM} = "IGNORE"; print "ready\\n"; sleep 1 until -e $ARGV[0]'
    worker = start(
        slots=1, argv=[str(helper), "-e", script, str(ground / "end")], timeout=0.5, report=True
    )
    begin = time.monotonic()
    assert worker.read() == ["timeout"]
    assert time.monotonic() - begin < 15, "what is refused for seconds is not tried for a minute"
    [[clean, survivor]] = worker.read()
    assert not clean
    assert re.fullmatch(
        r"process \d+ \(becomes-root\) belongs to root and could not be stopped", survivor
    )
    assert worker.read() == ["ready\n"]
    assert worker.read() == 0, "the slot is not used while the tree lives"
    before = _cpu_seconds(worker.runners[0])
    time.sleep(1.0)
    assert _cpu_seconds(worker.runners[0]) - before < 0.2, "no busy loop"
    (ground / "end").touch()
    assert worker.read() is True, "a folder that something may still write to is not used again"
    assert worker.process.wait(20) == 0


@pytest.mark.parity("R-05")
def test_in_a_namespace_no_child_becomes_somebody_else(
    helper: Path, start: Callable[..., Worker]
) -> None:
    script = '$< = $>; $| = 1; print "ready $<\\n"; sleep 20'
    worker = start(
        slots=1, argv=[str(helper), "-e", script], timeout=0.5, isolate=True, report=True
    )
    assert worker.read() == ["timeout"]
    assert worker.read() == [[True]]


def _cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
