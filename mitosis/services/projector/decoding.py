"""From stored bytes to what the projections read."""

from mitosis.contract.subjects import tail_of
from mitosis.errors import CorruptData
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit, digest
from mitosis.projections.commit import Commit


def decode(position: int, subject: str, payload: bytes) -> Commit:
    """Return a stored commit with its events.

    Raises:
        CorruptData: It cannot be what was written; names position and subject.
    """
    stored = decode_commit(subject, payload, position)
    try:
        events = [decode_event(topic, body) for topic, body in stored.events]
        tail = tail_of(subject)
    except CorruptData as error:
        error.details.update(position=position, subject=subject)
        raise CorruptData(f"position {position}: {error.message}", **error.details) from error
    return Commit(
        position, subject, payload, digest(subject, payload), tail, stored.time, events,
        stored.actor, stored.session, stored.command,
    )  # fmt: skip
