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
