"""Faults of a worker's machine: its tasks run elsewhere, and it says what is wrong with it."""

import contextlib
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.domain.task import Outcome, TaskState
from mitosis.testing.disks import can_mount, scratch_disk

from ..conftest import Platform, in_shell
from .machines import Machine, Owner, machine, soon

TASKS = 100


class Pair(NamedTuple):
    """Two workers of one user: the disk of one can be spoiled."""

    owner: Owner
    good: Machine
    bad: Machine
    slots_of_bad: Path

    def start(self, box: Machine, platform: Platform) -> None:
        box.run_worker(
            "-c", platform.notice["http"], "--credential-path", self.owner.credentials,
            "--work-dir", box.root / "work",
        )  # fmt: skip
        box.registered()


@pytest.fixture
def pair(platform: Platform, admin: SyncMitoClient, scratch: Path) -> Iterator[Pair]:
    folder = scratch / f"pair-{secrets.token_hex(3)}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        owner = Owner(platform, admin, folder)
        stack.callback(owner.client.close)
        good, bad = (stack.enter_context(machine(folder / name)) for name in ("good", "bad"))
        made = Pair(owner, good, bad, bad.root / "work" / "slots")
        yield made


@pytest.mark.parity("F-62")
def test_a_worker_with_a_read_only_folder_swallows_nothing_and_is_paused_with_the_reason(
    platform: Platform, pair: Pair, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        disk = None
        if can_mount(tmp_path):
            disk = stack.enter_context(scratch_disk(pair.slots_of_bad))
        pair.start(pair.bad, platform)
        if disk is not None:
            disk.make_read_only()
        else:  # without the right to mount: the folder vanishes, which is told in the same way
            pair.slots_of_bad.rename(pair.slots_of_bad.with_name("moved"))
        client = pair.owner.client
        task = in_shell("echo 1 > $MITO_RESULT_DIR/x")
        # The first ones can only go to the bad worker.
        tasks = [client.submit_task(task) for _ in range(3)]
        soon(lambda: client.get_worker(pair.bad.uuid).state == "paused", 60)
        tasks += [client.submit_task(task) for _ in range(TASKS - 3)]
        shown = pair.owner.mito("get", "worker", pair.bad.uuid)
        # One slot gets the same task again, at its old place, unless another worker takes it.
        pattern = (
            r"State: paused \((3 tasks|10 set-ups) in a row: the worker could not set the task"
        )
        assert re.search(pattern, shown.text)
        assert ("read-only" in shown.text) == (disk is not None)

        pair.start(pair.good, platform)
        ends = list(client.wait_for_tasks(tasks))
        assert {view.outcome for view in ends} == {Outcome.SUCCEEDED}
        assert {view.worker for view in ends} == {pair.good.uuid}
        assert all(len(view.artifacts) == 1 for view in ends)
        (first,) = [view for view in ends if view.uuid == tasks[0].task]
        assert first.attempt > 1
        assert first.losses == 0, "a fault of the worker is not counted against the task"

        if disk is not None:
            disk.heal()
        else:
            pair.slots_of_bad.with_name("moved").rename(pair.slots_of_bad)
        pair.good.process.stop()
        assert pair.owner.mito("manage", "worker", pair.bad.uuid, "resume").status == 0
        (last,) = client.wait_for_tasks([client.submit_task(task)])
        assert (last.outcome, last.worker) == (Outcome.SUCCEEDED, pair.bad.uuid)


def test_a_worker_is_paused_when_nothing_can_be_set_up_and_its_tasks_wait_without_a_loss(
    platform: Platform, pair: Pair
) -> None:
    pair.start(pair.bad, platform)
    shutil.rmtree(pair.slots_of_bad.parent)
    client = pair.owner.client
    task = client.submit_task(SubmitTaskArgs(command=("true",)))
    soon(lambda: client.get_worker(pair.bad.uuid).state == "paused", 60)
    assert "No such file or directory" in client.get_worker(pair.bad.uuid).reason
    waiting = client.get_task(task.task)
    assert waiting.state is TaskState.READY
    assert waiting.losses == 0
    assert waiting.reason.startswith("worker fault: the worker could not set the task up")
    client.resume_worker(pair.bad.uuid)
    (view,) = client.wait_for_tasks([task])
    assert view.outcome is Outcome.SUCCEEDED, "its folder was made anew"
