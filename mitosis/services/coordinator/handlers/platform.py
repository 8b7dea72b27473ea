"""Commands about the platform as a whole."""

import logging
from collections.abc import Callable

from mitosis.contract import commands
from mitosis.domain.access import need_admin
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.core import Core, Verbs
from mitosis.services.coordinator.shutdown import ShutdownSecret

log = logging.getLogger(__name__)


class PlatformHandlers:
    """Handlers of `platform.*`."""

    def __init__(self, core: Core, secret: ShutdownSecret, stop: Callable[[], None]) -> None:
        """`stop` lets the process end in order."""
        self._core = core
        self._secret = secret
        self._stop = stop

    def verbs(self) -> Verbs:
        """Return what is answered here."""
        return [("platform.shutdown", commands.Shutdown, self.shutdown)]

    def shutdown(self, caller: Caller, body: commands.Shutdown) -> None:
        """`platform.shutdown`: needs a platform administrator; a secret that is given must fit."""
        core = self._core
        need_admin(core.user(caller.owner), "shutting down")
        if body.secret is not None:
            self._secret.check(body.secret)
        unit = core.begin(f"user:{caller.owner}", caller)
        log.warning("user %r shuts the coordinator down", caller.owner)
        unit.then(
            lambda _: self._stop()
        )  # what is on its way is stored and answered before the end
        core.answer(unit, caller, commands.Done())
