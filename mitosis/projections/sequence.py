"""The error for a stored sequence of events that no decision can have made."""

from mitosis.domain.event import Event
from mitosis.errors import CorruptData
from mitosis.projections.commit import Commit


def out_of_order(commit: Commit, event: Event) -> CorruptData:
    """Return the error for an event that does not fit to what came before it."""
    return CorruptData(
        f"event {event.TOPIC} at position {commit.position} ({commit.subject}) does not follow "
        "from what is stored before it: check the history with `mito events verify`",
        position=commit.position,
        subject=commit.subject,
    )
