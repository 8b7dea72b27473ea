"""What the other services ask: `mito.svc.*`."""

from mitosis.contract.presence import Presence, Presences, PresenceWanted
from mitosis.domain.limits import MAX_PAGE
from mitosis.nats.rpc import Caller, Endpoints
from mitosis.services.coordinator.core import Core
from mitosis.services.coordinator.report_checks import check_count


class PresenceHandlers:
    """Handlers of questions that only the coordinator's memory can answer. Nothing is stored."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def register(self, endpoints: Endpoints) -> None:
        """Connect the verbs."""
        endpoints.add("presence", PresenceWanted, self.presence)

    def presence(self, _: Caller, body: PresenceWanted) -> Presences:
        """`mito.svc.worker.presence`.

        Raises:
            Unavailable: Another coordinator may have taken over.
        """
        self._core.standing.check()
        check_count(len(body.workers), "workers", MAX_PAGE)
        return Presences([self._of(name) for name in body.workers])

    def _of(self, name: str) -> Presence | None:
        core = self._core
        if name not in core.world.workers:
            return None
        reachable = name not in core.dispatcher.unreachable
        return Presence(reachable, core.leases.heard_at(name))
