"""Our domain events as the `eventsourcing` library's domain events, for audit and time travel.

    MAPPER_TOPIC=mitosis.events.mapper:CatalogueMapper

With it `Application[str]().repository.get("task.lab.<uuid>", version=3, projector_func=project)`
gives the state of what the coordinator wrote, as it was then.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent

from mitosis.domain.event import Event
from mitosis.events.catalogue import decode_event, encode_event, evolve


class RecordedEvent(msgspec.Struct, frozen=True):
    """An event of ours at its place in its aggregate.

    Attributes:
        originator_id: Tail of the aggregate.
        originator_version: Version of the aggregate after the event.
        body: The event.
    """

    originator_id: str
    originator_version: int
    body: Event


class CatalogueMapper(Mapper[str]):
    """Stores an event under its name in the catalogue, as plain JSON unless there is a cipher."""

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Return the stored form."""
        if not isinstance(domain_event, RecordedEvent):
            msg = f"expected a RecordedEvent, not {type(domain_event).__name__}"
            raise TypeError(msg)
        topic, body = encode_event(domain_event.body)
        state = bytes(body)
        if self.compressor:
            state = self.compressor.compress(state)
        if self.cipher:
            state = self.cipher.encrypt(state)
        return StoredEvent(
            domain_event.originator_id, domain_event.originator_version, topic, state
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """Return the event in today's form.

        Raises:
            CorruptData: It is unknown or cannot be read.
        """
        state = stored_event.state
        if self.cipher:
            state = self.cipher.decrypt(state)
        if self.compressor:
            state = self.compressor.decompress(state)
        return RecordedEvent(
            str(stored_event.originator_id),
            stored_event.originator_version,
            decode_event(stored_event.topic, state),
        )


def project(state: Any, events: Iterable[RecordedEvent]) -> Any:
    """Fold recorded events into the state of their aggregate (a `projector_func`)."""
    for event in events:
        state = evolve(event.originator_id.partition(".")[0], state, event.body)
    return state
