"""The catalogue: every stored event name, its class and its aggregate.

Code may move freely; names in the store never change. A new version of an event gets a new name
(`task.submitted@2`) and an entry in `UPCASTERS`, which turns the old body into the new one.
"""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import msgspec

from mitosis.domain import attachment, group, platform, secret, task, user, worker
from mitosis.domain.event import Event
from mitosis.domain.nearest import nearest
from mitosis.errors import CorruptData, InvalidInput

AGGREGATES: dict[str, ModuleType] = {
    "user": user,
    "group": group,
    "attachment": attachment,
    "worker": worker,
    "task": task,
    "secret": secret,
    "platform": platform,
}

Upcaster = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]

# Old stored name -> function from the old body to (newer name, newer body).
UPCASTERS: dict[str, Upcaster] = {}


def _events_of(module: ModuleType) -> dict[str, type[Event]]:
    # In the order of their definitions, which is that of a life.
    return {
        cls.TOPIC: cls
        for cls in Event.__subclasses__()
        if vars(module).get(cls.__name__) is cls and cls.TOPIC
    }


EVENTS: dict[str, type[Event]] = {
    topic: cls for module in AGGREGATES.values() for topic, cls in _events_of(module).items()
}

_decoders = {topic: msgspec.json.Decoder(cls) for topic, cls in EVENTS.items()}
_encode = msgspec.json.Encoder().encode


def encode_event(event: Event) -> tuple[str, msgspec.Raw]:
    """Return the stored name and the JSON body of an event."""
    return event.TOPIC, msgspec.Raw(_encode(event))


def decode_event(topic: str, body: bytes | msgspec.Raw) -> Event:
    """Return the event that was stored, upcast to today's form.

    Raises:
        CorruptData: The name is unknown (perhaps from a newer version) or the body is no such
            event.
    """
    decoder = _decoders.get(topic)
    try:
        if decoder is not None:
            return decoder.decode(body)
        if topic in UPCASTERS:
            newer, fields = UPCASTERS[topic](msgspec.json.decode(body))
            return decode_event(newer, msgspec.json.encode(fields))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptData(f"stored event {topic} cannot be read: {error}", topic=topic) from error
    raise CorruptData(
        f"stored event {topic!r} is unknown to this version: use the version that wrote it or a "
        "newer one",
        topic=topic,
    )


def check_names(names: Iterable[str]) -> None:
    """Check that there are events of these names, with their versions or without.

    Raises:
        InvalidInput: There are none; it names the one that may be meant.
    """
    known = {form for topic in (*EVENTS, *UPCASTERS) for form in (topic, topic.partition("@")[0])}
    for name in names:
        if name not in known:
            meant = nearest(name, sorted(known))
            hint = f"did you mean {meant}? All names: " if meant else "all names: "
            raise InvalidInput(f"there is no event {name[:80]!r}: {hint}docs/events.md")


def evolve(aggregate: str, state: Any, event: Event) -> Any:
    """Apply an event to a state of the named kind of aggregate."""
    return AGGREGATES[aggregate].evolve(state, event)
