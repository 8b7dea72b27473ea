"""Gives ready tasks to free workers: asks the rules, stores the assignment, then pushes it."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator

from mitosis.contract import subjects, wire, work
from mitosis.domain import task
from mitosis.domain.dispatch import Capacity, Lane, ReadyQueue, ahead, choose_worker, may_run
from mitosis.domain.task import TaskState
from mitosis.errors import MitosisError
from mitosis.services.coordinator.faults import Faults
from mitosis.services.coordinator.journal import Unit
from mitosis.services.coordinator.paces import Paces
from mitosis.services.coordinator.world import World

log = logging.getLogger(__name__)

Push = Callable[[str, bytes], None]

MOST_LANES = 10_000  # that are remembered


class Dispatcher:
    """The queue of ready tasks, and which workers can be reached."""

    def __init__(self, world: World, push: Push) -> None:
        self._world = world
        self._push = push
        self._queue = ReadyQueue()
        self._runnable: dict[Lane, bool] = {}  # by any of the workers that there are
        self._crew = 0
        self.unreachable: set[str] = set()
        self.paces = Paces()
        self.faults = Faults()

    def __len__(self) -> int:
        return len(self._queue)

    def waiting_by_group(self) -> Counter[str]:
        """Return how many tasks wait in each group."""
        return self._queue.by_group()

    def restore(self) -> None:
        """Fill the queue from a world that was read from the store."""
        for name, state in self._world.tasks.items():
            if state.state is TaskState.READY:
                self._queue.push(self._world.waiting(name))

    def task_ready(self, unit: Unit, name: str) -> bool:
        """Place a task that has just become ready.

        Returns:
            Whether any registered worker could run it, free or not.
        """
        waiting = self._world.waiting(name)
        self._queue.push(waiting)
        while name in self._queue:
            chosen = choose_worker(waiting, self._capacities())
            if chosen is None:
                return self._can_run(waiting.lane)
            self._give_first(unit, chosen)
        return True

    def runnable(self, name: str) -> bool:
        """Whether any registered worker could run a task, free or not."""
        return self._can_run(self._world.waiting(name).lane)

    def _can_run(self, lane: Lane) -> bool:
        """Whether any worker may run such tasks; found out once for each crew."""
        world, known = self._world, self._runnable
        if self._crew != world.openings.crew or len(known) >= MOST_LANES:
            self._crew = world.openings.crew
            known.clear()
        if lane not in known:
            known[lane] = any(may_run(worker, lane) for worker in world.workers.values())
        return known[lane]

    def task_gone(self, name: str) -> None:
        """Forget a task that was cancelled, or begins to wait for another one."""
        self._queue.remove(name)

    def worker_ready(self, unit: Unit, name: str) -> None:
        """Give a worker what it may run, until it has enough to do or nothing fits."""
        while self._takes_more(name) and self._give_first(unit, name):
            pass

    def forget(self, name: str) -> None:
        """A worker is gone."""
        self.unreachable.discard(name)
        self.paces.forget(name)
        self.faults.forget(name)

    def _takes_more(self, name: str) -> bool:
        return name in self._world.workers and self._capacity(name).takes_ahead

    def _capacity(self, name: str) -> Capacity:
        worker = self._world.workers[name]
        return Capacity(
            worker,
            self._world.free_slots(name),
            name not in self.unreachable,
            ahead(worker.slots, self.paces.mean(name)),
        )

    def _capacities(self) -> Iterator[Capacity]:
        return map(self._capacity, self._world.openings)

    def _give_first(self, unit: Unit, name: str) -> bool:
        """Assign to a worker the first task that it may run; return whether there was one."""
        chosen = self._queue.take_for(self._world.workers[name])
        if chosen is not None:
            self._assign(unit, chosen, name)
        return chosen is not None

    def _assign(self, unit: Unit, name: str, worker: str) -> None:
        state = self._world.tasks[name]
        lease_seconds = self._world.workers[worker].lease_seconds
        tail = subjects.task_tail(state.group, name)
        unit.run(tail, task.AssignTask(worker, lease_seconds))
        attempt = state.attempt + 1
        unit.then(lambda _: self.push_assignment(name, worker, attempt))

    def push_assignment(self, name: str, worker: str, attempt: int) -> None:
        """Push an assignment that is stored; the worker knows those that it has already."""
        state = self._world.tasks.get(name)
        if state is None or (state.worker, state.attempt) != (worker, attempt):
            return  # decided otherwise between the assignment and its arrival on disk
        holder = self._world.workers.get(worker)
        if holder is None:
            return
        assignment = work.Assignment(
            name, state.group, attempt, holder.lease_seconds, state.spec, self._world.platform.term
        )
        try:
            data = wire.encode(assignment)
        except MitosisError as error:  # of a task that was accepted by an older version
            log.error("task %s cannot be sent to worker %s: %s", name, worker, error)
            return
        self._push(subjects.work(state.group, worker), data)
