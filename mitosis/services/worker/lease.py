"""The right to run: renewed by asking, measured from the sending of what was answered."""

import asyncio
import logging
from collections.abc import Callable

from mitosis.contract.work import Held, Renew, Renewed
from mitosis.errors import MitosisError
from mitosis.services.worker.link import Link, check_registered, longer

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews every so often, and at once when asked to.

    Args:
        link: To the coordinator.
        every_seconds: Between two renewals.
        held: What the worker holds just now.
        prolong: Told the length of the lease and the instant from which it counts.
        on_foreign: Told what the coordinator does not know as this worker's.
        now: The machine's clock, suspension included.
        on_slots: Told how many tasks may run at once.
        leaving: Why nothing new is taken; empty: it is.

    Attributes:
        on_first: Called once, when a renewal was answered.
    """

    def __init__(
        self,
        link: Link,
        every_seconds: float,
        held: Callable[[], list[Held]],
        prolong: Callable[[float, float], None],
        on_foreign: Callable[[list[Held]], None],
        now: Callable[[], float],
        on_slots: Callable[[int], None] = lambda _: None,
        leaving: Callable[[], str] = lambda: "",
    ) -> None:
        self._link = link
        self._every = every_seconds
        self._held = held
        self._prolong = prolong
        self._on_foreign = on_foreign
        self._now = now
        self._on_slots = on_slots
        self._leaving = leaving
        self.on_first: Callable[[], None] | None = None
        self._asked = asyncio.Event()

    def ask_now(self) -> None:
        """Renew at once: something may have been missed."""
        self._asked.set()

    async def run(self) -> None:
        """Renew until cancelled.

        Raises:
            Unregistered: The coordinator does not know this worker.
        """
        pause = 0.0
        while True:
            self._asked.clear()
            try:
                await self.renew()
            except MitosisError as error:
                check_registered(error)
                if not pause:
                    log.warning("the lease is not renewed: %s", error)
                pause = longer(pause)
            else:
                pause = 0.0
                self._tell_first()
            await self._wait(pause or self._every)

    async def renew(self) -> None:
        """Renew once.

        Raises:
            MitosisError: It was not answered, or refused.
        """
        sent = self._now()
        timeout = max(0.2, min(10.0, self._every))
        request = Renew(self._held(), self._leaving())
        renewed = await self._link.ask("renew", request, Renewed, timeout_seconds=timeout)
        if renewed.foreign:  # first: what waits for the lease begins as soon as it is prolonged
            self._on_foreign(renewed.foreign)
        self._prolong(renewed.lease_seconds, sent)
        if renewed.slots:
            self._on_slots(renewed.slots)

    def _tell_first(self) -> None:
        tell, self.on_first = self.on_first, None
        if tell is not None:
            tell()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return
