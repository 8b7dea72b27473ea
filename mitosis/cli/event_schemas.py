"""`mito events schema`: the stored forms for programs that read them."""

from typing import Any

import msgspec

from mitosis.cli.invocation import current
from mitosis.cli.output.screen import show


class EventSchema(msgspec.Struct, frozen=True):
    """A JSON Schema. `event`: the stored name of the event; empty: it is of the whole commit."""

    event: str
    schema: dict[str, Any]


def schema(name: str = "", /) -> None:
    """Print the form of an event as JSON Schema.

    Args:
        name: The stored name of the event, such as task.submitted or task.submitted@1; without it
            the form of a whole commit, with all events.
    """
    from mitosis.events.forms import schema_of_commit, schema_of_event

    found = schema_of_event(name) if name else schema_of_commit()
    if current.get().json:
        show(EventSchema(found["title"] if name else "", found), list)
        return
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    show(None, text.splitlines)
