"""Workers with ceilings: who asks for more is not given to them."""

from typing import Any

import pytest

from mitosis.contract import commands
from mitosis.domain.resources import Limits
from mitosis.domain.task import TaskState

GIB = 1 << 30


async def test_a_task_over_the_ceilings_of_a_worker_goes_to_another_one(coordinator: Any) -> None:
    small = await coordinator.register(ceilings=Limits(memory_bytes=GIB), slots=4)
    asks = Limits(memory_bytes=2 * GIB)
    large = await coordinator.submit(limits=asks)
    modest = await coordinator.submit(limits=Limits(memory_bytes=GIB, processes=10**6))
    silent = await coordinator.submit()
    assert coordinator.world.tasks[large].state is TaskState.READY
    assert coordinator.world.tasks[modest].worker == small
    assert coordinator.world.tasks[silent].worker == small
    other = await coordinator.register(ceilings=Limits(memory_bytes=4 * GIB))
    assert coordinator.world.tasks[large].worker == other
    (pushed,) = [one for one in coordinator.pushed() if one.task == large]
    assert pushed.spec.limits == asks, "the worker is told"
    assert coordinator.replayed().workers[small].ceilings == Limits(memory_bytes=GIB)


async def test_a_submit_says_when_no_worker_may_have_it_and_a_change_helps(
    coordinator: Any,
) -> None:
    worker = await coordinator.register(ceilings=Limits(open_files=64))
    body = commands.SubmitTask(("true",), "k", limits=Limits(open_files=65, processes=3))
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    coordinator.store.let_through()
    submitted = coordinator.answer(reply, commands.Submitted).result
    assert not submitted.runnable
    change = commands.ChangeTask(
        submitted.task, limits=commands.ChangedLimits(open_files=None), stop_signal="sigint"
    )
    reply = await coordinator.ask("alice", coordinator.tasks.change, change)
    coordinator.store.let_through()
    assert coordinator.answer(reply, commands.Changed).result.runnable
    state = coordinator.world.tasks[submitted.task]
    assert state.worker == worker
    assert (state.spec.limits, state.spec.stop_signal) == (Limits(processes=3), "INT")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"limits": Limits(memory_bytes=5)}, "memory in bytes is 5"),
        ({"stop_signal": "STOP"}, "'STOP' is no signal to stop a task by"),
        ({"grace_seconds": 1e9}, "grace in seconds is 1000000000.0"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_without_a_trace(
    coordinator: Any, wrong: dict[str, Any], text: str
) -> None:
    before = len(coordinator.store.stored)
    body = commands.SubmitTask(("true",), "k", **wrong)
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert text in coordinator.answer(reply, commands.Submitted).error.message
    worker = commands.RegisterWorker(guarantees=("x",) * 33)
    reply = await coordinator.ask("alice", coordinator.workers.register, worker)
    assert "33 guarantees" in coordinator.answer(reply, commands.Registered).error.message
    coordinator.store.let_through()
    assert len(coordinator.store.stored) == before
