"""What the names of events tell of the state of a task is what the domain makes of these events."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from mitosis.domain.task import Task, TaskChanged, TaskSpec, TaskState, evolve
from mitosis.events import catalogue
from mitosis.projections import sketch

GOLDEN = Path(__file__).parents[2] / "golden" / "events"
TASK = Task("123e4567-e89b-82d3-a456-426614174000", "lab", "alice", 1, TaskSpec(("true",)))
TOPICS = [topic for topic in catalogue.EVENTS if topic.startswith("task.")]


@pytest.mark.parametrize("topic", TOPICS)
def test_an_event_turns_a_task_in_the_past_as_it_does_in_the_domain(topic: str) -> None:
    kind = catalogue.EVENTS[topic]
    for body in msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes()):
        event = catalogue.decode_event(topic, msgspec.json.encode(body))
        for before in (TaskState.PENDING, TaskState.READY, TaskState.RUNNING):
            after = evolve(replace(TASK, state=before), event).state
            if kind in sketch._TURNS:
                assert sketch._TURNS[kind] == ("" if after.terminal else after.value)
            elif kind is not TaskChanged:  # one that was ever changed is folded
                assert after is before
