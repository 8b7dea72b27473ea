"""A worker whose lease was over hears of a task before its next renewal is answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.transfer import SYSTEM_TRUST
from mitosis.contract.commands import Registered
from mitosis.contract.work import Assignment
from mitosis.domain.task import TaskSpec
from mitosis.processes.guard.linux import machine_clock
from mitosis.services.worker.attempt import Phase
from mitosis.services.worker.effects import Parts
from mitosis.services.worker.identity import WorkFolder
from mitosis.services.worker.run import TaskTerms
from mitosis.services.worker.slots import SlotEngine
from mitosis.testing.waiting import eventually


class NoLink:
    """Nobody is asked: the reporter does not run."""

    async def ask(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is to be told")


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    folder = WorkFolder.open(tmp_path / "work")
    engine = SlotEngine(1, folder.slots, lock_fds=[folder.lock_fd])
    await engine.start()
    made = Parts(
        NoLink(), engine, Registered("w", "token", 600.0, 100.0, {}), folder,
        TaskTerms({"PATH": "/usr/bin:/bin"}), slots=1, renew_seconds=100.0, trust=SYSTEM_TRUST,
        upload_seconds=10.0,
    )  # fmt: skip
    yield made
    await engine.close(0.0)
    folder.close()


async def test_a_task_waits_for_the_renewal_and_is_no_loss_of_its_worker(parts: Parts) -> None:
    """Refused and counted, it was given again at once: ten losses took it 200 milliseconds."""
    parts._prolong(0.0, machine_clock())
    parts.core.assign(Assignment("t", "lab", 1, 600.0, TaskSpec(("true",))))
    attempt = parts.core.attempt(("t", 1))
    assert attempt is not None
    assert attempt.phase is Phase.WAITING
    parts.core.waited(attempt)
    assert attempt.phase is Phase.WAITING
    parts._prolong(60.0, machine_clock())
    await eventually(lambda: attempt.phase is Phase.REPORTED)
    [draft] = parts.reporter._waiting
    assert draft.exit is not None
    assert not draft.fault
