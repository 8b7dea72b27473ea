"""History for people: what each event changed, from what to what, and what led to it. Pure."""

from datetime import datetime
from typing import Any

import msgspec

from mitosis.client.happenings import HAPPENINGS, Fields, Happening, Path
from mitosis.contract.queries import CommitView, StoredEvent
from mitosis.domain.event import Event
from mitosis.errors import CorruptData
from mitosis.events.catalogue import EVENTS, decode_event

CAUSES = ("reason", "proof")  # fields in which an event says why it happened


class AttributeChange(msgspec.Struct, frozen=True):
    """One attribute of a thing, before and after.

    Attributes:
        attribute: Such as `tags`, `spec.priority`, `spec.env.SEED` or `members.alice`.
        old: Before; null: there was none.
        new: After; null: there is none any more.
        hidden: It is shown to nobody, or not to the asker: `old` and `new` are null.
    """

    attribute: str
    old: Any = None
    new: Any = None
    hidden: bool = False


class ToldEvent(msgspec.Struct, frozen=True):
    """One event.

    Attributes:
        event: Stored name with its version.
        told: What happened, in words.
        cause: What led to it, as far as the event knows; or empty.
        changes: What it changed in the thing.
    """

    event: str
    told: str
    cause: str
    changes: tuple[AttributeChange, ...]


class HistoryEntry(msgspec.Struct, frozen=True):
    """What one command, or the platform itself, changed in a thing at once.

    Attributes:
        position, time: Where in the order of everything, and when.
        actor, source, session: Who, from which address, in which session; empty: not known.
        command: The same in all things that one command changed; empty: the platform itself.
        kind, group, name: Of the thing.
        events: In their order.
    """

    position: int
    time: datetime
    actor: str
    source: str
    session: str
    command: str
    kind: str
    group: str
    name: str
    events: tuple[ToldEvent, ...]


class Teller:
    """Tells the history of one thing; must see every commit of it, from the first on."""

    def __init__(self) -> None:
        self._known: dict[Path, Any] = {}

    def tell(self, commit: CommitView) -> HistoryEntry:
        """Return the next commit in words."""
        return HistoryEntry(
            commit.position, commit.time, commit.actor, commit.source, commit.session,
            commit.command, commit.kind, commit.group, commit.name,
            tuple(self._tell(event) for event in commit.events),
        )  # fmt: skip

    def _tell(self, event: StoredEvent) -> ToldEvent:
        hidden = tuple(AttributeChange(field, hidden=True) for field in event.withheld)
        happening, found = HAPPENINGS.get(_name(event)), understood(event)
        if happening is None or found is None:
            changes = tuple(AttributeChange(".".join(p), new=v) for p, v in _leaves((), event.data))
        else:
            changes = self._changes(happening, found)
        return ToldEvent(event.event, told(event), cause_of(event), changes + hidden)

    def _changes(self, happening: Happening, event: Event) -> tuple[AttributeChange, ...]:
        given = {
            key
            for path, value in happening.sets(fields_of(event, defaults=False)).items()
            for key, _ in _leaves(path, value)
        }
        found: list[AttributeChange] = []
        for path, value in happening.sets(fields_of(event)).items():
            new = dict(_leaves(path, value))
            old = {key: known for key, known in self._known.items() if key[: len(path)] == path}
            for key in dict.fromkeys([*old, *new]):
                before, after = old.get(key), new.get(key)
                # What was not there before, and is now as it is by default, says nothing.
                if before != after and (key in old or key in given):
                    found.append(AttributeChange(".".join(key), before, after))
            self._known = {k: v for k, v in self._known.items() if k not in old} | new
        return tuple(found)


def told(event: StoredEvent) -> str:
    """Return what happened in words, without what was before."""
    happening, found = HAPPENINGS.get(_name(event)), understood(event)
    if happening is None or found is None:
        return _name(event).partition(".")[2].replace("_", " ")
    return happening.words(fields_of(found))


def cause_of(event: StoredEvent) -> str:
    """Return what led to an event, as far as it knows; or nothing."""
    return next((str(event.data[field]) for field in CAUSES if event.data.get(field)), "")


def understood(event: StoredEvent) -> Event | None:
    """Return the event itself.

    None: it is from a newer version, or what it says is withheld from the asker.
    """
    if event.event not in EVENTS or (event.withheld and not event.data):
        return None
    data = event.data | dict.fromkeys(event.withheld, "")
    try:
        return decode_event(event.event, msgspec.json.encode(data))
    except CorruptData:
        return None


def fields_of(value: Any, *, defaults: bool = True) -> Any:
    """Return a struct as JSON has it, with all its fields.

    Args:
        value: The struct, or what is in one.
        defaults: Also those values that are as they are by default; else null in their place.
    """
    if not isinstance(value, msgspec.Struct) or value.__struct_config__.array_like:
        return msgspec.json.decode(msgspec.json.encode(value))
    found: Fields = {}
    for field in msgspec.structs.fields(value):
        content = getattr(value, field.name)
        kept = defaults or content != field.default
        found[field.name] = fields_of(content, defaults=defaults) if kept else None
    return found


def _name(event: StoredEvent) -> str:
    return event.event.partition("@")[0]


def _leaves(path: Path, value: Any) -> list[tuple[Path, Any]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves((*path, key), item)]
    return [] if value is None else [(path, value)]
