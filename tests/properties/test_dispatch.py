"""Dispatch agrees with a brute-force reading of its rule, whatever happens in whatever order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mitosis.domain.dispatch import (
    AHEAD_SECONDS,
    MOST_AHEAD,
    Capacity,
    ReadyQueue,
    Waiting,
    ahead,
    choose_worker,
    may_run,
)
from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.roles import Role
from mitosis.domain.worker import Worker

GROUPS = ("g1", "g2")
TAG_SETS = tuple(frozenset(tags) for tags in ((), ("a",), ("b",), ("a", "b")))


LIMITS = (None, Limits(processes=2), Limits(processes=4, memory_bytes=1 << 30))
CEILINGS = (Limits(), Limits(processes=3), Limits(memory_bytes=1 << 29, open_files=50))


def worker(
    name: str, groups: tuple[str, ...], tags: frozenset[str], ceilings: Limits = NO_LIMITS
) -> Worker:
    roles = dict.fromkeys(groups, Role.WRITE)
    return Worker(name, "owner", roles, 2, 600.0, tags, ceilings=ceilings)


def fits(asked: Limits | None, most: Limits) -> bool:
    """The rule as its document has it."""
    return asked is None or not any(
        wanted is not None and ceiling is not None and wanted > ceiling
        for wanted, ceiling in (
            (asked.processes, most.processes),
            (asked.memory_bytes, most.memory_bytes),
        )
    )


class Dispatching(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = ReadyQueue()
        self.model: dict[str, Waiting] = {}
        self.count = 0

    @rule(
        group=st.sampled_from(GROUPS),
        tags=st.sampled_from(TAG_SETS),
        priority=st.integers(-2, 2),
        limits=st.sampled_from(LIMITS),
    )
    def submit(
        self, group: str, tags: frozenset[str], priority: int, limits: Limits | None
    ) -> None:
        self.count += 1
        waiting = Waiting(f"t{self.count}", group, tags, priority, self.count, limits)
        self.queue.push(waiting)
        self.model[waiting.task] = waiting

    @rule(data=st.data())
    def cancel_one(self, data: st.DataObject) -> None:
        if self.model:
            task = data.draw(st.sampled_from(sorted(self.model)))
            del self.model[task]
            self.queue.remove(task)

    @rule(data=st.data(), priority=st.integers(-2, 2))
    def move_one_to_another_priority(self, data: st.DataObject, priority: int) -> None:
        if self.model:
            old = self.model[data.draw(st.sampled_from(sorted(self.model)))]
            new = Waiting(old.task, old.group, old.tags, priority, old.order, old.limits)
            self.model[old.task] = new
            self.queue.push(new)

    @rule(
        groups=st.sampled_from([("g1",), ("g2",), GROUPS, ()]),
        tags=st.sampled_from(TAG_SETS),
        ceilings=st.sampled_from(CEILINGS),
    )
    def take(self, groups: tuple[str, ...], tags: frozenset[str], ceilings: Limits) -> None:
        taker = worker("w", groups, tags, ceilings)
        fitting = [
            w
            for w in self.model.values()
            if w.group in groups and tags <= w.tags and fits(w.limits, ceilings)
        ]
        best = min(fitting, key=lambda w: (-w.priority, w.order), default=None)
        assert self.queue.take_for(taker) == (best.task if best else None)
        if best:
            del self.model[best.task]

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        assert len(self.queue) == len(self.model)


Dispatching.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDispatching = Dispatching.TestCase


def test_a_worker_takes_a_task_only_when_its_tags_are_empty_or_a_subset_of_the_tasks_tags() -> None:
    # The table of the seed (parity S-111).
    rows = [
        ((), (), True),
        ((), ("a",), True),
        (("a",), (), False),
        (("a",), ("a",), True),
        (("a",), ("a", "b"), True),
        (("a", "b"), ("a",), False),
    ]
    for worker_tags, task_tags, runs in rows:
        lane = ("g", frozenset(task_tags), None)
        assert may_run(worker("w", ("g",), frozenset(worker_tags)), lane) is runs


def test_a_group_with_read_on_a_worker_gets_no_task_run_by_it() -> None:
    reader = Worker("w", "owner", {"g": Role.READ}, 1, 600.0)
    assert not may_run(reader, ("g", frozenset(), None))


def test_a_task_goes_to_the_worker_with_the_most_free_slots_that_can_be_reached() -> None:
    waiting = Waiting("t", "g", frozenset(), 0, 1)
    one, two, three = (worker(name, ("g",), frozenset()) for name in ("one", "two", "three"))
    capacities = [Capacity(three, 3, reachable=False), Capacity(two, 2), Capacity(one, 1)]
    assert choose_worker(waiting, capacities) == "two"
    assert choose_worker(waiting, [Capacity(one, 0)]) is None


def test_a_worker_gets_ahead_only_what_it_does_in_a_blink_and_nothing_while_its_pace_is_unknown():
    assert ahead(2, None) == 0
    assert ahead(1, AHEAD_SECONDS) == 1
    assert ahead(1, AHEAD_SECONDS * 1.01) == 0
    assert ahead(2, AHEAD_SECONDS / 4) == 8
    assert ahead(64, 0.0) == MOST_AHEAD


def test_what_is_sent_ahead_never_counts_as_a_free_slot_for_a_new_task() -> None:
    waiting = Waiting("t", "g", frozenset(), 0, 1)
    busy = Capacity(worker("busy", ("g",), frozenset()), 0, ahead=8)
    assert choose_worker(waiting, [busy]) is None
    assert busy.takes_ahead
    assert not Capacity(busy.worker, -8, ahead=8).takes_ahead
