"""Which worker runs which task: data in, choices out (docs/architecture.md, Scheduling).

A worker may run a task when its role map gives the task's group Write or Admin, its tags are empty
or a subset of the task's tags, and the task asks for no more than its ceilings. Higher priority
goes first, first submitted first inside a priority. The invariant that makes each step cheap: while
a worker has a free slot, nothing that it may run is waiting.
"""

import heapq
from collections import Counter
from collections.abc import Iterable

import msgspec

from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.task.spec import TaskSpec
from mitosis.domain.worker import Worker

Lane = tuple[str, frozenset[str], Limits | None]
Rank = tuple[int, int, str]


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A ready task as far as dispatch is concerned.

    `order` is the position of its submit; `limits` None: it asks for none.
    """

    task: str
    group: str
    tags: frozenset[str]
    priority: int
    order: int
    limits: Limits | None = None

    @classmethod
    def of(cls, task: str, group: str, spec: TaskSpec, order: int) -> "Waiting":
        """Return a task of this specification as dispatch sees it."""
        limits = None if spec.limits == NO_LIMITS else spec.limits
        return cls(task, group, frozenset(spec.tags), spec.priority, order, limits)

    @property
    def rank(self) -> Rank:
        """Its place: what has a smaller one comes first."""
        return -self.priority, self.order, self.task

    @property
    def lane(self) -> Lane:
        """Tasks of one lane can be run by the same workers."""
        return self.group, self.tags, self.limits


def may_run(worker: Worker, lane: Lane) -> bool:
    """Whether group, tags and limits allow it, whatever is free just now."""
    group, tags, limits = lane
    return (
        worker.serves(group)
        and worker.tags <= tags
        and (limits is None or limits.within(worker.ceilings))
    )


class ReadyQueue:
    """All ready tasks that no worker has yet, in their exact order.

    There may be some hundred thousand, so of each only its rank is kept. The rank in `_places` is
    the very one that stands in a lane: an entry of a lane that is another object is out of date.
    """

    def __init__(self) -> None:
        self._lanes: dict[Lane, list[Rank]] = {}
        self._places: dict[str, Rank] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, task: str) -> bool:
        return task in self._places

    def by_group(self) -> Counter[str]:
        """Return the number of tasks of each group."""
        counts = Counter[str]()
        for (group, _, _), heap in self._lanes.items():
            counts[group] += sum(self._places.get(rank[2]) is rank for rank in heap)
        return +counts

    def push(self, waiting: Waiting) -> None:
        """Add a task; a task that is there already is moved to its new place."""
        rank = self._places[waiting.task] = waiting.rank
        heapq.heappush(self._lanes.setdefault(waiting.lane, []), rank)

    def remove(self, task: str) -> None:
        """Forget a task, if it waits. Its entry is dropped when it comes to the top."""
        self._places.pop(task, None)

    def take_for(self, worker: Worker) -> str | None:
        """Remove and return the first task that the worker may run, or None."""
        best: Rank | None = None
        for lane in list(self._lanes):
            if may_run(worker, lane):
                top = self._top(lane)
                if top is not None and (best is None or top < best):
                    best = top
        if best is None:
            return None
        self.remove(best[2])
        return best[2]

    def _top(self, lane: Lane) -> Rank | None:
        heap = self._lanes[lane]
        while heap:
            if self._places.get(heap[0][2]) is heap[0]:
                return heap[0]
            heapq.heappop(heap)
        del self._lanes[lane]
        return None


# A worker whose tasks take a millisecond would stand idle for most of the time if each of them were
# sent only when a slot is free. So it gets ahead what it will do in this time, no more: whatever
# comes later, of a higher priority or for another worker, is not delayed by more than this. It is
# long enough to report, and be given more, for many tasks at once (services/worker/report.py).
AHEAD_SECONDS = 0.08
MOST_AHEAD = 80
LEAST_SECONDS = 0.002  # a start and an end cost that much, however short the program is


def ahead(slots: int, mean_seconds: float | None) -> int:
    """Return how many tasks a worker may be given beyond its slots.

    Args:
        slots: Of the worker.
        mean_seconds: How long its tasks took lately; None: nobody knows.
    """
    if mean_seconds is None:
        return 0
    return min(MOST_AHEAD, int(slots * AHEAD_SECONDS / max(mean_seconds, LEAST_SECONDS)))


class Capacity(msgspec.Struct):
    """What a worker can be given.

    Attributes:
        worker: The worker.
        free: Slots less what it holds; below 0 when it holds tasks ahead.
        reachable: By its connection.
        ahead: How many tasks it may hold beyond its slots.
    """

    worker: Worker
    free: int
    reachable: bool = True
    ahead: int = 0

    @property
    def open(self) -> bool:
        """Whether it can start a task just now."""
        return self.free > 0 and self.reachable and self.worker.takes_work

    @property
    def takes_ahead(self) -> bool:
        """Whether it can be given one of the tasks that wait because nobody is free."""
        return self.free + self.ahead > 0 and self.reachable and self.worker.takes_work


def choose_worker(waiting: Waiting, capacities: Iterable[Capacity]) -> str | None:
    """Return the worker for a task that has just become ready, or None if it must wait.

    The one with the most free slots, so that load is spread; among equals the first.

    Args:
        waiting: The task.
        capacities: Of all workers that may have free slots, those with the most first.
    """
    for capacity in capacities:
        if capacity.open and may_run(capacity.worker, waiting.lane):
            return capacity.worker.worker
    return None
