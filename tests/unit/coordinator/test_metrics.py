"""Counts, lag and questions: what `/metrics` and `/ready` stand on."""

import asyncio
import time
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mitosis.contract import commands
from mitosis.domain.retry import Retry
from mitosis.errors import NotAllowed, ObjectsUnavailable
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator import readiness
from mitosis.services.coordinator.metrics import FAMILIES, MAX_GROUPS, OTHERS, Source, registry
from mitosis.services.coordinator.readiness import Check, Lag, Question, Readiness
from mitosis.services.coordinator.tally import BOUNDS_SECONDS, OK, Tally

ORDER = ("verb", "result", "group", "state", "connection", "version", "le")


def caller(verb: str, seconds_ago: float = 0.0) -> Caller:
    return Caller("alice", verb, "id", "reply", time.monotonic() - seconds_ago)


def page(source: Source) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample of ours by name and label values."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(registry(source)).decode()):
        for sample in family.samples:
            if sample.name.startswith("mitosis_"):
                labels = tuple(sample.labels[name] for name in ORDER if name in sample.labels)
                found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_answers_are_counted_by_verb_and_result_with_their_time() -> None:
    tally = Tally()
    tally.count(caller("task.submit"))
    tally.count(caller("task.submit", seconds_ago=0.3))
    tally.refused(caller("task.submit"), NotAllowed("no"))
    numbers = page(Source(lambda: None, tally, Lag(), lambda: {"store": 2}))
    assert numbers["mitosis_commands_total"] == {
        ("task.submit", OK): 2, ("task.submit", "not_allowed"): 1,
    }  # fmt: skip
    buckets = numbers["mitosis_command_seconds_bucket"]
    assert len(buckets) == len(BOUNDS_SECONDS) + 1
    assert buckets["task.submit", "0.25"] == 2
    assert buckets["task.submit", "0.5"] == buckets["task.submit", "+Inf"] == 3
    assert numbers["mitosis_command_seconds_count"]["task.submit",] == 3
    assert 0.3 <= numbers["mitosis_command_seconds_sum"]["task.submit",] < 0.5
    assert numbers["mitosis_nats_reconnects_total"] == {("store",): 2}
    assert numbers["mitosis_active"] == {(): 0}


def test_every_metric_has_a_family_and_every_family_a_metric(coordinator: Any) -> None:
    coordinator.core.tally.count(caller("task.submit"))
    source = Source(lambda: coordinator.core, coordinator.core.tally, Lag(), lambda: {"store": 0})
    families = list(text_string_to_metric_families(generate_latest(registry(source)).decode()))
    made = {f.name + ("_total" if f.type == "counter" else ""): f for f in families}
    assert {name for name in made if name.startswith("mitosis_")} == set(FAMILIES)
    for name, family in FAMILIES.items():
        assert made[name].type == family.kind
        assert made[name].documentation == family.text
        for sample in made[name].samples:
            assert set(sample.labels) - {"le"} == set(family.labels), name


async def test_failed_tasks_that_wait_for_their_next_attempt_are_counted(coordinator: Any) -> None:
    worker = await coordinator.register(slots=2)
    tasks = [await coordinator.submit(retry=Retry(times=1)) for _ in range(2)]
    source = Source(lambda: coordinator.core, coordinator.core.tally, Lag(), dict)

    def waiting() -> dict[tuple[str, ...], float]:
        return page(source)["mitosis_tasks_waiting_for_retry"]

    assert waiting() == {(): 0}
    await coordinator.report(worker, *(coordinator.ended(task, number=1) for task in tasks))
    assert waiting() == {(): 2}
    await coordinator.ask("alice", coordinator.tasks.cancel, commands.CancelTask(tasks[0]))
    assert waiting() == {(): 1}


def test_groups_beyond_the_bound_are_one(coordinator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    many = Counter({f"group-{n:04}": n for n in range(1, MAX_GROUPS + 4)})
    monkeypatch.setattr(coordinator.core.dispatcher, "waiting_by_group", lambda: many)
    ready = page(Source(lambda: coordinator.core, Tally(), Lag(), dict))["mitosis_tasks_ready"]
    assert len(ready) == MAX_GROUPS + 1
    assert ready[OTHERS,] == 1 + 2 + 3
    assert sum(ready.values()) == many.total()


def test_the_lag_is_the_age_of_what_is_not_applied() -> None:
    lag = Lag()
    assert lag.seconds(100.0) == 0.0
    lag.note(10.0, 5)
    lag.note(11.0, 5)
    lag.note(12.0, 9)
    assert lag.seconds(14.0) == pytest.approx(4.0)
    lag.applied_up_to(5)
    assert lag.seconds(14.0) == pytest.approx(2.0)
    lag.applied_up_to(9)
    assert lag.seconds(20.0) == 0.0
    lag.note(21.0, 9)
    assert lag.seconds(30.0) == 0.0


async def test_a_question_is_asked_once_while_an_answer_is_good() -> None:
    asked = []

    async def ask() -> None:
        asked.append(1)

    question = Question("x", ask, fresh_seconds=60)
    assert await asyncio.gather(*(question.answer() for _ in range(50))) == [Check(ok=True)] * 50
    assert await question.answer() == Check(ok=True)
    assert len(asked) == 1


async def test_a_question_without_answer_is_bounded_and_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "CHECK_SECONDS", 0.02)
    asked, go = [], asyncio.Event()

    async def ask() -> None:
        asked.append(1)
        await go.wait()

    question = Question("x", ask, fresh_seconds=0)
    for _ in range(3):
        assert await question.answer() == Check(ok=False, reason="no_answer")
    assert len(asked) == 1
    go.set()
    assert await question.answer() == Check(ok=True)
    await question.stop()


async def test_what_fails_is_named_by_its_code_alone() -> None:
    async def fine() -> None:
        return None

    async def broken() -> None:
        raise ObjectsUnavailable("the S3 store at http://inner:9000 is away")

    async def applied() -> int:
        return 3

    ends = iter([4, 4])
    ready = Readiness(
        nats=fine, objects=broken, applied=applied, end=lambda: next(ends), max_lag_seconds=5
    )
    ready.lag.note(time.monotonic() - 6, 4)
    found = await ready.checks()
    assert found == {
        "nats": Check(ok=True),
        "postgres": Check(ok=True),
        "s3": Check(ok=False, reason="unavailable.objects"),
        "projection": Check(ok=False, reason="lag"),
    }
    await ready.stop()


async def test_a_command_and_its_repeat_and_a_refusal_are_counted(coordinator: Any) -> None:
    body = commands.CreateGroup("lab")
    for command in ("1", "1", "2"):
        await coordinator.ask("alice", coordinator.groups.create, body, command)
        coordinator.store.let_through()
    results = coordinator.core.tally.results
    assert results == {
        ("", OK): 1,
        ("", "repeated"): 1,
        ("", "conflict.exists"): 1,
    }
