"""Workers that cannot set tasks up: the tasks go elsewhere, the worker is paused, nothing loops."""

from typing import Any

import msgspec
import pytest

from mitosis.contract import commands, work
from mitosis.domain.task import Outcome, TaskState
from mitosis.domain.worker import WorkerPhase
from mitosis.services.coordinator.faults import (
    MAX_SETUPS_IN_A_ROW,
    MAX_TASKS_IN_A_ROW,
    MAX_UNCOUNTED_ATTEMPTS,
)

WHY = "no space is left"


def fault(task: str, attempt: int, *, before_start: bool = True) -> work.TaskReport:
    return work.TaskReport(task, "alice", attempt, fault=WHY, before_start=before_start)


async def fail(coordinator: Any, worker: str, times: int, *, first: int = 1) -> str:
    """One task that the worker cannot set up, several times over."""
    task: str = await coordinator.submit()
    for attempt in range(first, first + times):
        assert await coordinator.report(worker, fault(task, attempt)) == [""]
    return task


async def test_a_worker_is_paused_with_the_reason_after_faults_in_a_row_and_counts_no_loss(
    coordinator: Any,
) -> None:
    worker = await coordinator.register()
    task = await fail(coordinator, worker, MAX_SETUPS_IN_A_ROW)
    state = coordinator.world.tasks[task]
    assert (state.state, state.losses) == (TaskState.READY, 0)
    assert coordinator.world.workers[worker].phase is WorkerPhase.PAUSED
    paused = [
        fields
        for _, commit in coordinator.store.commits()
        for topic, fields in commit.events
        if topic == "worker.paused@1"
    ]
    assert [msgspec.json.decode(one) for one in paused] == [
        {"reason": f"{MAX_SETUPS_IN_A_ROW} set-ups in a row: {WHY}"}
    ]
    assert coordinator.replayed().workers == coordinator.world.workers


async def test_three_different_tasks_pause_a_worker_and_one_bad_task_does_not(
    coordinator: Any,
) -> None:
    worker = await coordinator.register(slots=3)
    bad = await fail(coordinator, worker, MAX_TASKS_IN_A_ROW)
    assert coordinator.world.workers[worker].phase is WorkerPhase.NORMAL
    for _ in range(MAX_TASKS_IN_A_ROW - 1):
        assert coordinator.world.workers[worker].phase is WorkerPhase.NORMAL
        await fail(coordinator, worker, 1)
    state = coordinator.world.workers[worker]
    assert state.phase is WorkerPhase.PAUSED
    events = [msgspec.json.decode(fields) for _, commit in coordinator.store.commits()
              for topic, fields in commit.events if topic == "worker.paused@1"]  # fmt: skip
    assert events == [{"reason": f"{MAX_TASKS_IN_A_ROW} tasks in a row: {WHY}"}]
    assert coordinator.world.tasks[bad].losses == 0


async def test_a_fault_by_a_task_is_not_called_one_of_the_worker(coordinator: Any) -> None:
    worker = await coordinator.register()
    task = await coordinator.submit()
    for attempt in (1, 2, 3):
        report = work.TaskReport(
            task, "alice", attempt, started=True, fault="it killed its runner", by_task=True
        )
        await coordinator.report(worker, report)
    reasons = [
        msgspec.json.decode(fields)["reason"]
        for _, commit in coordinator.store.commits()
        for topic, fields in commit.events
        if topic.startswith(("task.requeued", "task.cancelled"))
    ]
    lost = "worker lost 3 times: it killed its runner"
    assert reasons == ["it killed its runner"] * 3 + [lost]
    assert coordinator.world.workers[worker].phase is WorkerPhase.NORMAL


async def test_the_task_of_the_last_fault_goes_to_another_worker_in_the_same_breath(
    coordinator: Any,
) -> None:
    bad = await coordinator.register()
    task = await fail(coordinator, bad, MAX_SETUPS_IN_A_ROW - 1)
    good = await coordinator.register()
    await coordinator.report(bad, fault(task, MAX_SETUPS_IN_A_ROW))
    assert coordinator.world.tasks[task].worker == good


async def test_a_program_that_starts_begins_the_count_anew(coordinator: Any) -> None:
    worker = await coordinator.register()
    for _ in range(3):
        task = await fail(coordinator, worker, MAX_SETUPS_IN_A_ROW - 1)
        await coordinator.report(worker, coordinator.ended(task, MAX_SETUPS_IN_A_ROW))
    assert coordinator.world.workers[worker].phase is WorkerPhase.NORMAL


async def test_a_resumed_worker_is_tried_as_often_as_a_new_one(coordinator: Any) -> None:
    worker = await coordinator.register()
    task = await fail(coordinator, worker, MAX_SETUPS_IN_A_ROW)
    await coordinator.ask("alice", coordinator.workers.resume, commands.ResumeWorker(worker))
    coordinator.store.let_through()
    for attempt in range(MAX_SETUPS_IN_A_ROW + 1, 2 * MAX_SETUPS_IN_A_ROW):
        await coordinator.report(worker, fault(task, attempt))
        assert coordinator.world.workers[worker].phase is WorkerPhase.NORMAL
    await coordinator.report(worker, fault(task, 2 * MAX_SETUPS_IN_A_ROW))
    assert coordinator.world.workers[worker].phase is WorkerPhase.PAUSED


@pytest.mark.parametrize("started", [False, True])
async def test_a_fault_of_a_program_that_ran_is_counted_and_pauses_nobody(
    coordinator: Any, started: bool
) -> None:
    """Whatever the worker calls it: the program may be what brings workers down."""
    worker = await coordinator.register()
    task = await coordinator.submit()
    for attempt in (1, 2, 3):
        reports = [work.TaskReport(task, "alice", attempt, started=True)] if started else []
        await coordinator.report(worker, *reports, fault(task, attempt, before_start=started))
    assert task not in coordinator.world.tasks or (
        coordinator.world.tasks[task].outcome is Outcome.LOST
    )
    assert coordinator.world.workers[worker].phase is WorkerPhase.NORMAL


async def test_nothing_is_set_up_without_end(coordinator: Any) -> None:
    """Another task starts in between each time, so the worker is never paused."""
    worker = await coordinator.register(slots=2)
    other = await coordinator.submit()
    task = await coordinator.submit()
    running = work.TaskReport(other, "alice", 1, started=True)
    for attempt in range(1, MAX_UNCOUNTED_ATTEMPTS + 4):
        assert await coordinator.report(worker, running, fault(task, attempt)) == ["", ""]
    assert await coordinator.report(worker, fault(task, MAX_UNCOUNTED_ATTEMPTS + 4)) == [
        "conflict.stale_attempt"
    ]


async def test_nothing_is_handed_back_without_end(coordinator: Any) -> None:
    worker = await coordinator.register()
    task = await coordinator.submit()

    def back(attempt: int) -> work.TaskReport:
        return work.TaskReport(task, "alice", attempt, handed_back="no slot became free in time")

    for attempt in range(1, MAX_UNCOUNTED_ATTEMPTS + 4):
        assert await coordinator.report(worker, back(attempt)) == [""]
    assert await coordinator.report(worker, back(MAX_UNCOUNTED_ATTEMPTS + 4)) == [
        "conflict.stale_attempt"
    ]
