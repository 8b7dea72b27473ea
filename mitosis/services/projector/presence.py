"""Who of the workers is there just now: asked of the coordinator, for the ones that are shown."""

import logging
from collections.abc import Sequence

from mitosis.contract import subjects
from mitosis.contract.presence import Presences, PresenceWanted
from mitosis.contract.queries import WorkerView
from mitosis.domain.worker import WorkerPhase
from mitosis.errors import MitosisError
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.5
UNREACHABLE = "unreachable"


class PresenceOfWorkers:
    """Completes views of workers with what is no event."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def complete(self, views: Sequence[WorkerView]) -> None:
        """Say which are unreachable, and when each was heard.

        When no coordinator answers in time, the views stay as they are: as they were stored.
        """
        living = [view for view in views if view.state != WorkerPhase.GONE]
        if not living:
            return
        try:
            reply = await call(
                self._connection,
                subjects.service("worker", "presence"),
                PresenceWanted(tuple(view.uuid for view in living)),
                Presences,
                timeout_seconds=ANSWER_SECONDS,
            )
        except MitosisError as error:
            log.info("nobody says which workers are there: %s", error)
            return
        found = reply.result.found if reply.result else []
        for view, presence in zip(living, found, strict=False):
            if presence is not None:
                view.last_heartbeat_at = presence.heard_at
                if not presence.reachable:
                    view.state = UNREACHABLE
