"""The stored forms as JSON Schema: of each event, and of the commit that holds it."""

from typing import Any

import msgspec

from mitosis.domain.nearest import one_of
from mitosis.errors import NotFound
from mitosis.events.catalogue import EVENTS
from mitosis.events.envelope import Wire

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"


def schema_of_event(name: str) -> dict[str, Any]:
    """Return the schema of the body of an event.

    Args:
        name: Stored name such as `task.submitted@1`; without a version the newest.

    Raises:
        NotFound: No such event.
    """
    topic = _topic(name)
    schema = msgspec.json.schema(EVENTS[topic], ref_template=_REF)
    return {"$schema": DIALECT, "title": topic, **schema}


def schema_of_commit() -> dict[str, Any]:
    """Return the schema of a whole message: the commit with any events."""
    (commit, *bodies), definitions = msgspec.json.schema_components(
        [Wire, *EVENTS.values()], ref_template=_REF
    )
    named = definitions.pop(commit["$ref"].rpartition("/")[2])
    named["properties"]["events"]["items"] = {
        "anyOf": [
            {"type": "array", "prefixItems": [{"const": topic}, body], "minItems": 2, "maxItems": 2}
            for topic, body in zip(EVENTS, bodies, strict=True)
        ]
    }
    return {"$schema": DIALECT, **named, "title": "commit", "$defs": definitions}


def _topic(name: str) -> str:
    if name in EVENTS:
        return name
    versions = [topic for topic in EVENTS if topic.partition("@")[0] == name]
    if not versions:
        raise NotFound(f"there is no event {name[:60]!r}: {one_of(name[:60], EVENTS)}", event=name)
    return max(versions, key=lambda topic: int(topic.partition("@")[2]))
