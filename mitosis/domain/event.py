"""The form that all events and commands share."""

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact that was decided. Stored for ever: add fields with defaults only.

    `TOPIC` is the stored name, `<aggregate>.<what>@<version>`; it never depends on where the
    class lives. Any other change of the form needs a new version and an upcaster. `WITHHELD` names
    the fields that leave the store in no outward form.
    """

    TOPIC: ClassVar[str] = ""
    WITHHELD: ClassVar[tuple[str, ...]] = ()


class Command(msgspec.Struct, frozen=True):
    """A wish, with everything that `decide` needs: actor, new ids and limits are passed in."""
