"""Each cause of a wait, told from what happened."""

from datetime import UTC, datetime, timedelta

import pytest

from mitosis.domain.event import Event
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.explanation import Explainer, Fact
from mitosis.domain.resources import Limits
from mitosis.domain.roles import Role
from mitosis.domain.task import (
    Outcome,
    TaskAssigned,
    TaskCommitted,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSpec,
    TaskSubmitted,
)
from mitosis.domain.waits import Cause, Unfit, Wait
from mitosis.domain.watch import Watch
from mitosis.domain.worker import (
    WorkerDrainRequested,
    WorkerLeft,
    WorkerPaused,
    WorkerRegistered,
    WorkerResumed,
    WorkerTagsReplaced,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
WRITE = {"lab": Role.WRITE}


class Story:
    """What happened, second by second."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def at(self, second: float, name: str, *events: Event) -> None:
        kind = "worker" if events[0].TOPIC.startswith("worker") else "task"
        when = START + timedelta(seconds=second)
        self.facts.append(Fact(len(self.facts) + 1, when, kind, name, events))

    def registered(self, second: float, name: str, **fields: object) -> None:
        given = {"roles": WRITE} | fields
        self.at(second, name, WorkerRegistered(name, "alice", **given))

    def submitted(self, second: float, name: str, *more: Event, group: str = "lab", **spec) -> None:
        told = TaskSubmitted(name, group, "alice", 1, TaskSpec(("true",), **spec))
        self.at(second, name, told, *(more or (TaskReady(),)))

    def waits(self, until: float, **options: bool) -> list[Wait]:
        explainer = Explainer("own", **options)
        for fact in self.facts:
            explainer.take(fact)
        return explainer.waits(START + timedelta(seconds=until))

    def told(self, until: float, **options: bool) -> list[tuple[Cause, float]]:
        return [(wait.cause, wait.seconds) for wait in self.waits(until, **options)]


@pytest.fixture
def story() -> Story:
    return Story()


def test_what_is_given_to_a_worker_at_once_has_not_waited(story: Story) -> None:
    story.registered(0, "w")
    story.submitted(1, "own", TaskReady(), TaskAssigned(1, "w", 60.0))
    story.at(9, "own", TaskCommitted(1, Outcome.SUCCEEDED))
    assert story.told(9) == []


def test_no_worker_says_what_would_be_needed(story: Story) -> None:
    story.submitted(0, "own", tags=("gpu",), limits=Limits(memory_bytes=2**30))
    story.registered(10, "other", roles={"lab": Role.READ})
    story.registered(10, "tagged", tags=("arm", "gpu"))
    story.registered(10, "small", ceilings=Limits(memory_bytes=2**20))
    story.at(30, "tagged", WorkerTagsReplaced(("gpu",)))
    story.at(30, "own", TaskAssigned(1, "tagged", 60.0))
    (wait,) = story.waits(99)
    assert (wait.cause, wait.seconds, wait.serving) == (Cause.NO_WORKER, 30.0, 0)
    del story.facts[0]
    story.facts.insert(3, Fact(9, START + timedelta(seconds=20), "task", "own", [
        TaskSubmitted("own", "lab", "alice", 1, TaskSpec(
            ("true",), tags=("gpu",), limits=Limits(memory_bytes=2**30))), TaskReady(),
    ]))  # fmt: skip
    (wait,) = story.waits(99)
    assert (wait.seconds, wait.serving) == (10.0, 2)
    assert wait.unfit == (Unfit("tagged", ("arm",)), Unfit("small", ()))


def test_busy_workers_paused_workers_and_those_that_cannot_be_reached(story: Story) -> None:
    story.registered(0, "w", slots=1, roles={"lab": Role.WRITE, "far": Role.WRITE})
    story.submitted(1, "first", TaskReady(), TaskAssigned(1, "w", 60.0), group="far")
    story.submitted(2, "before")
    story.submitted(2, "later but urgent", priority=5, group="far")
    story.submitted(2, "own")
    story.submitted(3, "after")
    story.at(12, "first", TaskCommitted(1, Outcome.SUCCEEDED))
    story.at(12.02, "later but urgent", TaskAssigned(1, "w", 60.0))
    story.at(14, "w", WorkerPaused())
    story.at(16, "later but urgent", TaskCommitted(1, Outcome.SUCCEEDED))
    story.at(20, "w", WorkerResumed())
    story.at(26, "own", TaskAssigned(1, "w", 60.0))
    waits = story.waits(99)
    assert [(wait.cause, wait.seconds) for wait in waits] == [
        (Cause.BUSY, 12.0), (Cause.PAUSED, 6.0), (Cause.UNREACHABLE, 6.0),
    ]  # fmt: skip
    assert (waits[0].able, waits[0].busy) == (1, {"far": 1})
    assert waits[0].before == {"lab": 1, "far": 1}
    assert story.told(99, others_known=False)[-1] == (Cause.BUSY, 6.0), "as far as the rules tell"


def test_another_task_and_the_time_until_a_retry_are_waited_for(story: Story) -> None:
    watch = Watch("e07a2bf2-166d-40b5-8bb6-a78104c072f9", "lab", ExecutionState.EXEC_SPAWNED)
    begun = Step(ExecutionState.WATCH, START)
    story.registered(0, "w")
    told = TaskSubmitted("own", "lab", "alice", 1, TaskSpec(("x",), watch=watch), steps=(begun,))
    story.at(0, "own", told)
    story.at(5, "own", TaskReady("reached"), TaskAssigned(1, "w", 60.0))
    until = START + timedelta(seconds=30)
    story.at(20, "own", TaskRetryScheduled(1, until, Outcome.FAILED, "exit code 3"))
    story.at(30, "own", TaskReady())
    story.at(30, "own", TaskAssigned(2, "w", 60.0))
    first, second = story.waits(99)
    assert (first.cause, first.seconds, first.watch) == (Cause.WATCH, 5.0, watch)
    assert (second.cause, second.seconds, second.retry_at) == (Cause.RETRY, 10.0, until)
    assert (second.attempt, second.after) == (2, "exit code 3")


def test_a_task_whose_worker_was_lost_waits_again(story: Story) -> None:
    story.registered(0, "w")
    story.submitted(1, "own", TaskReady(), TaskAssigned(1, "w", 60.0))
    story.at(5, "w", WorkerDrainRequested())
    story.at(6, "own", TaskRequeued(1, "worker was lost", counted=True))
    story.at(8, "w", WorkerLeft())
    waits = story.waits(10)
    assert [(w.cause, w.seconds, w.attempt, w.after) for w in waits] == [
        (Cause.PAUSED, 2.0, 2, "worker was lost"), (Cause.NO_WORKER, 2.0, 2, "worker was lost"),
    ]  # fmt: skip
