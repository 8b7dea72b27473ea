"""What goes with a deleted account or group: its tasks are cancelled, its workers drained.

The deletion itself is one commit. What follows from it is stored in slices, so that a hundred
thousand tasks neither block the coordinator nor fill its backlog; a term that begins goes on with
what the former one has not finished.
"""

from mitosis.contract import subjects, wire, work
from mitosis.domain import task, worker
from mitosis.domain.group import GroupPhase
from mitosis.domain.task import Task, TaskState
from mitosis.domain.user import UserPhase
from mitosis.domain.worker import WorkerPhase
from mitosis.services.coordinator.core import Core
from mitosis.services.coordinator.journal import Unit
from mitosis.services.coordinator.stopping import order_stop

SLICE = 250
ACTOR = "system:coordinator"


def close_deleted(core: Core) -> None:
    """Begin to end what deleted users and groups have left; returns at once."""
    world = core.world
    users = {n for n, u in world.users.items() if u.phase is UserPhase.DELETED}
    groups = {n for n, g in world.groups.items() if g.phase is GroupPhase.DELETED}
    if not users and not groups:
        return
    workers = [name for name, held in world.workers.items() if held.owner in users]
    tasks = [n for n, t in world.tasks.items() if t.creator in users or t.group in groups]
    if workers or tasks:
        core.in_background(_close(core, workers, tasks))


async def _close(core: Core, workers: list[str], tasks: list[str]) -> None:
    for start in range(0, max(len(workers), len(tasks)), SLICE):
        # Looked at and decided in one go: between two slices the world goes on.
        unit = core.journal.unit(ACTOR)
        for name in workers[start : start + SLICE]:
            held = core.world.workers.get(name)
            if held is not None and _stays(held):
                _drain(core, unit, held)
        for name in tasks[start : start + SLICE]:
            state = core.world.tasks.get(name)
            if state is not None and not (state.state.terminal or state.cancel_requested):
                _cancel(core, unit, state)
        await core.stored(unit)


def _stays(held: worker.Worker) -> bool:
    return held.phase in {WorkerPhase.NORMAL, WorkerPhase.PAUSED}


def _drain(core: Core, unit: Unit, held: worker.Worker) -> None:
    name, reason = held.worker, f"user {held.owner} was deleted"
    unit.run(subjects.worker_tail(name), worker.DrainWorker(reason))
    message = wire.encode(work.Drain(force=False, reason=reason))
    unit.then(lambda _: core.publish(subjects.control(name), message))


def _cancel(core: Core, unit: Unit, state: Task) -> None:
    whose = core.world.users.get(state.creator)
    deleted = whose is not None and whose.phase is UserPhase.DELETED
    what = f"user {state.creator}" if deleted else f"group {state.group}"
    unit.run(subjects.task_tail(state.group, state.task), task.RequestCancel(f"{what} was deleted"))
    core.dispatcher.task_gone(state.task)
    if state.state is TaskState.RUNNING:
        unit.then(lambda _: order_stop(core, state))
