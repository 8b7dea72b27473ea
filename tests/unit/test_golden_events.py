"""A stored form is a promise: bodies that some version has stored are read for ever.

Each file of tests/golden/events is a list of bodies of one stored name. Bodies are added when a
field is added; none is ever changed or removed.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mitosis.contract import subjects
from mitosis.domain.event import Event
from mitosis.events import catalogue
from mitosis.testing.history import History
from mitosis.testing.views import expected_rows

GOLDEN = Path(__file__).parents[1] / "golden" / "events"
FIRST = {
    "user": "user.created@1", "group": "group.created@1", "worker": "worker.registered@1",
    "task": "task.submitted@1", "attachment": "attachment.stored@1", "secret": "secret.stored@1",
}  # fmt: skip


def stored(topic: str) -> list[Event]:
    """The bodies that were ever stored under a name, as events of today."""
    bodies = msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes())
    return [catalogue.decode_event(topic, msgspec.json.encode(body)) for body in bodies]


def tail_of(first: Any) -> str:
    """The aggregate that begins with an event."""
    match first.TOPIC.partition(".")[0]:
        case "task":
            return subjects.task_tail(first.group, first.task)
        case "attachment":
            return subjects.attachment_tail(first.group, first.key)
        case "secret":
            return subjects.secret_tail(first.group, first.secret)
        case "worker":
            return subjects.worker_tail(first.worker)
        case "user":
            return subjects.user_tail(first.name)
        case _:
            return subjects.group_tail(first.name)


def test_every_stored_name_has_golden_bodies() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {
        *catalogue.EVENTS,
        *catalogue.UPCASTERS,
    }


@pytest.mark.parity("F-25")
@pytest.mark.parametrize("topic", [*catalogue.EVENTS, *catalogue.UPCASTERS])
def test_a_stored_body_is_read_and_would_be_stored_alike_today(topic: str) -> None:
    for body in msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes()):
        event = catalogue.decode_event(topic, msgspec.json.encode(body))
        stored_as, stored = catalogue.encode_event(event)
        if topic in catalogue.EVENTS:
            assert (stored_as, msgspec.json.decode(stored)) == (topic, body)
        else:
            assert stored_as in catalogue.EVENTS, "an older version becomes one of today"


@pytest.mark.parametrize("topic", catalogue.EVENTS)
def test_golden_bodies_use_every_field(topic: str) -> None:
    bodies = msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes())
    used = {name for body in bodies for name in body}
    assert used == {field.name for field in msgspec.structs.fields(catalogue.EVENTS[topic])}


@pytest.mark.parity("F-25")
@pytest.mark.parametrize("topic", [*catalogue.EVENTS, *catalogue.UPCASTERS])
def test_what_was_ever_stored_is_folded_into_states_and_read_models(topic: str) -> None:
    """Each body alone, behind the first event of its thing."""
    kind = topic.partition(".")[0]
    for event in stored(topic):
        history = History()
        if kind == "platform":
            history.store(subjects.PLATFORM_TAIL, [event])
        elif topic == FIRST[kind]:
            history.store(tail_of(event), [event])
        else:
            first = stored(FIRST[kind])[0]
            history.store(tail_of(first), [first])
            history.store(tail_of(first), [event])
        (state,) = history.states.values()
        assert state is not None
        noted = expected_rows(history)["commits"]
        assert [row["topics"][-1] for row in noted][-1] == event.TOPIC
