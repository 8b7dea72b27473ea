"""The form in which what is stored is shown: today's names and fields, without what is secret."""

import msgspec

from mitosis.contract.queries.events import CommitView, StoredEvent
from mitosis.contract.subjects import place_of, tail_of
from mitosis.domain.event import Event
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit


def outward(subject: str, payload: bytes, position: int, source: str = "") -> CommitView:
    """Return a stored or live commit as it may be shown to those who may see its thing.

    Args:
        subject: As stored, or as heard live.
        payload: The stored bytes.
        position: In the stream.
        source: Address of the session that asked, if it is known.

    Raises:
        CorruptData: It cannot be what was written.
    """
    commit = decode_commit(subject, payload, position)
    kind, group, name = place_of(tail_of(subject))
    return CommitView(
        position, commit.time, commit.actor, source, commit.session, commit.command, kind, group,
        name, [shown(decode_event(topic, body)) for topic, body in commit.events],
    )  # fmt: skip


def shown(event: Event) -> StoredEvent:
    """Return an event without the fields that its class withholds."""
    data = msgspec.json.decode(msgspec.json.encode(event))
    withheld = tuple(field for field in event.WITHHELD if data.pop(field, None) is not None)
    return StoredEvent(event.TOPIC, data, withheld)
