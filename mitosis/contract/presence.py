"""Between services: `mito.svc.worker.presence`, who of the workers is there just now.

Renewals of leases are no events: only the coordinator in office knows of them
(docs/decisions/0012). The projector asks it when somebody wants to see workers.
"""

from datetime import datetime

import msgspec


class PresenceWanted(msgspec.Struct, forbid_unknown_fields=True):
    """Of which workers; at most as many as a page has."""

    workers: tuple[str, ...]


class Presence(msgspec.Struct, array_like=True, frozen=True):
    """One worker.

    Attributes:
        reachable: It is connected and has renewed its lease since.
        heard_at: When it was last heard, by the coordinator's clock; None: not in this term.
    """

    reachable: bool
    heard_at: datetime | None = None


class Presences(msgspec.Struct):
    """In the order of the question; None: no such worker is registered."""

    found: list[Presence | None]
