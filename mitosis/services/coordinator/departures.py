"""A worker is gone: its attempts are over, its tasks go back to their places."""

from mitosis.contract import subjects
from mitosis.domain import task, worker
from mitosis.domain.event import Command
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.task import TaskState
from mitosis.services.coordinator.core import Core
from mitosis.services.coordinator.journal import Unit


def requeue(
    core: Core, unit: Unit, name: str, reason: str, *, counted: bool, worker_gone: bool = False
) -> None:
    """Put a running task back to its old place, or end it when it was lost too often."""
    state = core.world.tasks[name]
    tail = subjects.task_tail(state.group, name)
    steps = (Step(ExecutionState.WORKER_EXITED, core.clock.now()),) if worker_gone else ()
    unit.run(tail, task.RequeueTask(state.attempt, reason, counted, steps))
    if core.world.tasks[name].state is TaskState.READY:
        core.dispatcher.task_ready(unit, name)


def lose_worker(core: Core, unit: Unit, name: str, proof: str) -> None:
    """A worker is dead for certain (`proof` says why): losses count."""
    _depart(core, unit, name, worker.LoseWorker(proof), f"worker lost: {proof}", counted=True)


def worker_left(core: Core, unit: Unit, name: str, reason: str) -> None:
    """A worker has said goodbye: planned, so that nothing is counted."""
    why = f"the worker left: {reason}" if reason else "the worker left"
    _depart(core, unit, name, worker.LeaveWorker(reason), why, counted=False)


def _depart(
    core: Core, unit: Unit, name: str, command: Command, reason: str, *, counted: bool
) -> None:
    held = _most_likely_running_first(core, name)
    slots = core.world.workers[name].slots
    unit.run(subjects.worker_tail(name), command)
    core.leases.forget(name)
    core.dispatcher.forget(name)
    for place, held_task in enumerate(held):
        # What was sent ahead did not run: it has no part in the death of the worker.
        lost = counted and place < slots
        requeue(core, unit, held_task, reason, counted=lost, worker_gone=True)


def _most_likely_running_first(core: Core, name: str) -> list[str]:
    tasks, orders = core.world.tasks, core.world.orders
    held = core.world.attempts.get(name, ())
    return sorted(held, key=lambda one: (not tasks[one].started, orders[one]))
