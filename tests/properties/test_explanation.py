"""The causes of a wait cover all of it, and none overlaps another one."""

from datetime import datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mitosis.contract.subjects import place_of, tail_of
from mitosis.domain.explanation import TASK_EVENTS, Explainer, Fact
from mitosis.domain.task import Task, TaskState, evolve
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit
from mitosis.testing.history import campaign

WAITING = {TaskState.PENDING, TaskState.READY}


def facts_of(seed: int, tasks: int, live: int, paces: list[int]) -> list[Fact]:
    """A campaign in which time goes by unevenly, and now and then backwards."""
    facts = []
    for position, subject, payload in campaign(seed, tasks, live=live).commits:
        commit = decode_commit(subject, payload, position)
        kind, _, name = place_of(tail_of(subject))
        if kind in {"task", "worker"}:
            events = [decode_event(topic, body) for topic, body in commit.events]
            late = timedelta(seconds=paces[position % len(paces)] * position)
            facts.append(Fact(position, commit.time + late, kind, name, events))
    return facts


def waited(facts: list[Fact], task: str, until: datetime) -> tuple[float, datetime]:
    """How long a task was pending or ready, from its own events alone, and when that began."""
    state: Task | None = None
    seconds, now, began = 0.0, facts[0].at, until
    for fact in facts:
        if fact.at > now:
            if state is not None and state.state in WAITING:
                seconds += (fact.at - now).total_seconds()
            now = fact.at
        if fact.name == task:
            began = min(began, now)
            for event in fact.events:
                state = evolve(state, event)
    if state is not None and state.state in WAITING and until > now:
        seconds += (until - now).total_seconds()
    return seconds, began


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    tasks=st.integers(1, 25),
    live=st.integers(1, 12),
    paces=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    cut=st.floats(0.3, 1.0),
    others_known=st.booleans(),
)
def test_the_causes_cover_the_whole_wait_without_overlap(
    seed: int, tasks: int, live: int, paces: list[int], cut: float, others_known: bool
) -> None:
    facts = facts_of(seed, tasks, live, paces)
    facts = facts[: max(1, int(cut * len(facts)))]
    until = max(fact.at for fact in facts) + timedelta(seconds=5)
    for task in {fact.name for fact in facts if fact.kind == "task"}:
        explainer = Explainer(task, others_known=others_known)
        for fact in facts:
            kept = [e for e in fact.events if fact.kind == "worker" or type(e) in TASK_EVENTS]
            explainer.take(Fact(fact.position, fact.at, fact.kind, fact.name, kept))
        waits = explainer.waits(until)
        seconds, began = waited(facts, task, until)
        assert abs(sum(wait.seconds for wait in waits) - seconds) < 1e-3
        for wait in waits:
            assert began <= wait.began < wait.ended <= until
        for one, following in pairwise(waits):
            assert one.ended <= following.began
