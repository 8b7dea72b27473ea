"""A stored form is a promise: bodies that some version has stored are read for ever.

Each file of tests/golden/events is a list of bodies of one stored name. Bodies are added when a
field is added; none is ever changed or removed.
"""

from pathlib import Path

import msgspec
import pytest

from mitosis.events import catalogue

GOLDEN = Path(__file__).parents[1] / "golden" / "events"


def test_every_stored_name_has_golden_bodies() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {
        *catalogue.EVENTS,
        *catalogue.UPCASTERS,
    }


@pytest.mark.parametrize("topic", catalogue.EVENTS)
def test_a_stored_body_is_read_and_would_be_stored_alike_today(topic: str) -> None:
    for body in msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes()):
        event = catalogue.decode_event(topic, msgspec.json.encode(body))
        stored_as, stored = catalogue.encode_event(event)
        assert stored_as == topic
        assert msgspec.json.decode(stored) == body


@pytest.mark.parametrize("topic", catalogue.EVENTS)
def test_golden_bodies_use_every_field(topic: str) -> None:
    bodies = msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes())
    used = {name for body in bodies for name in body}
    assert used == {field.name for field in msgspec.structs.fields(catalogue.EVENTS[topic])}


@pytest.mark.parametrize("topic", catalogue.UPCASTERS)
def test_a_body_of_an_older_version_is_upcast(topic: str) -> None:
    for body in msgspec.json.decode((GOLDEN / f"{topic}.json").read_bytes()):
        assert catalogue.decode_event(topic, msgspec.json.encode(body)).TOPIC in catalogue.EVENTS
