"""One task in a runner, asked at instants that a real runner meets by chance."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.processes.guard import frames, linux
from mitosis.processes.guard.folders import SlotFolder
from mitosis.processes.guard.job import LEASE, OWN, TIMEOUT, Job, Place

LONG_AGO = 1e-9


def in_a_process_of_its_own(work: Callable[[], None]) -> None:
    """Do the work in a forked process, as a job waits for every child of its process."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a forked process
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def job_of(folder: Path, *argv: str, timeout_seconds: float | None) -> Job:
    """A job that is not started, with a new folder."""
    slot = SlotFolder(os.fsencode(folder))
    slot.make()
    message = (
        *(frames.RUN, 1, list(argv), {"PATH": "/usr/bin:/bin"}, timeout_seconds, 5.0, 15),
        *(False, 100, None, 0, None),
    )
    return Job(message, slot, Place(None, None))


@pytest.mark.parametrize("what", ["timeout", "lease"])
def test_a_program_that_has_ended_when_its_time_is_over_was_not_stopped(
    tmp_path: Path, what: str
) -> None:
    """The runner may look at the clock before the kernel's word of the end has come to it."""

    def work() -> None:
        timeout = LONG_AGO if what == "timeout" else None
        job = job_of(tmp_path / "slot-0-0", "true", timeout_seconds=timeout)
        job.start(None)
        os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
        lease = linux.machine_clock() if what == "lease" else None
        assert job.advance(lease, ended=False)
        outcome, cause = job.report(untouched=True)[2:4]
        assert (outcome, cause) == (("exited", 0), OWN)

    in_a_process_of_its_own(work)


@pytest.mark.parametrize("what", ["timeout", "lease"])
def test_a_program_that_runs_when_its_time_is_over_is_stopped(tmp_path: Path, what: str) -> None:
    def work() -> None:
        timeout = LONG_AGO if what == "timeout" else None
        job = job_of(tmp_path / "slot-0-0", "sleep", "20", timeout_seconds=timeout)
        job.start(None)
        lease = linux.machine_clock() if what == "lease" else None
        if not job.advance(lease, ended=False):
            os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
            assert job.advance(lease, ended=True)
        outcome, cause = job.report(untouched=True)[2:4]
        number = 9 if what == "lease" else 15
        assert (outcome[:2], cause) == (("signaled", number), LEASE if what == "lease" else TIMEOUT)

    in_a_process_of_its_own(work)
