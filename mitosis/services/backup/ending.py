"""The commits that end what was written to a stream while no coordinator was at work."""

from datetime import datetime

from mitosis.contract import subjects
from mitosis.domain.event import Event
from mitosis.events.catalogue import encode_event
from mitosis.events.envelope import Commit
from mitosis.events.takeover import WINDOW, takeover_payloads
from mitosis.events.verify import Link
from mitosis.runtime import Ids

PLATFORM = subjects.events(subjects.PLATFORM_TAIL)


def ending(link: Link, event: Event, actor: str, time: datetime, ids: Ids) -> list[bytes]:
    """Return the commit that tells of it, with the fence that shuts out a writer of before.

    Args:
        link: The end of the chain of the platform.
        event: What is told.
        actor: Who has done it, such as `system:restore`.
        time: Of the commit.
        ids: Makes its id, and those of the fence.
    """
    commit = Commit(
        commit=ids.commit_id(), command="", actor=actor, time=time, version=link.version + 1,
        previous=link.digest, events=[encode_event(event)],
    )  # fmt: skip
    return takeover_payloads(PLATFORM, commit, [ids.commit_id() for _ in range(WINDOW)])
