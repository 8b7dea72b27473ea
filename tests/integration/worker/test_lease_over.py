"""A worker whose lease was over hears of a task before its next renewal is answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.artifacts.transfer import SYSTEM_TRUST
from mitosis.contract.commands import Registered
from mitosis.contract.work import Assignment, Held, Renewed
from mitosis.domain.task import TaskSpec
from mitosis.processes.guard.linux import machine_clock
from mitosis.services.worker.attempt import Phase
from mitosis.services.worker.effects import Parts
from mitosis.services.worker.identity import WorkFolder
from mitosis.services.worker.run import TaskTerms
from mitosis.services.worker.slots import SlotEngine
from mitosis.testing.waiting import eventually


class Silent:
    """Nobody is asked for anything but the lease: the reporter does not run."""

    def __init__(self) -> None:
        self.renewed: Renewed | None = None

    async def ask(self, *_: Any, **__: Any) -> Any:
        assert self.renewed is not None, "nothing is to be told"
        return self.renewed


@pytest.fixture
def link() -> Silent:
    return Silent()


@pytest.fixture
async def parts(tmp_path: Path, link: Silent) -> AsyncIterator[Parts]:
    folder = WorkFolder.open(tmp_path / "work")
    engine = SlotEngine(1, folder.slots, lock_fds=[folder.lock_fd])
    await engine.start()
    made = Parts(
        link, engine, Registered("w", "token", 600.0, 100.0, {}), folder,
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
    [draft] = parts.reporter._plain._waiting
    assert draft.exit is not None
    assert not draft.fault


async def test_what_the_renewal_names_as_foreign_is_not_begun_by_it(
    parts: Parts, link: Silent
) -> None:
    """It waited for the lease, and somebody else has it by now: it began, and was killed then."""
    parts._prolong(0.0, machine_clock())
    parts.core.assign(Assignment("t", "lab", 1, 600.0, TaskSpec(("true",))))
    link.renewed = Renewed(60.0, [Held("t", "lab", 1)])
    await parts.lease.renew()
    assert parts.core.empty
    assert not parts._engine.runs
