"""Changed rights on live connections: who is to be let in anew, until it has been done.

A connection keeps the rights with which it was let in. After a change is stored, the connections
of those whom it concerns are closed; their clients come back with what is true by then, or are
refused. What cannot be done at once, because a NATS server does not answer, is tried until it is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from mitosis.errors import Unavailable

RETRY_SECONDS = 0.2

log = logging.getLogger(__name__)

Kick = Callable[[frozenset[str] | None], Awaitable[int]]
"""Closes all connections of these users; None: of every user."""


class RightsChanges:
    """One loop that closes connections. What waits is bounded by the number of users."""

    def __init__(self, kick: Kick) -> None:
        self._kick = kick
        self._names: set[str] = set()
        self._everybody = False
        self._news = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.create_task(self._run(), name="rights")

    async def stop(self) -> None:
        """Stop; who is not let in anew by then is by the next coordinator in office."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    def changed(self, names: Iterable[str]) -> None:
        """The rights of these users have changed, and the change is stored."""
        self._names.update(names)
        self._news.set()

    def unknown(self) -> None:
        """Let everybody in anew: the former coordinator may have died before it was done."""
        self._everybody = True
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            names, everybody = frozenset(self._names), self._everybody
            self._names.clear()
            self._everybody = False
            try:
                await self._kick(None if everybody else names)
            except Unavailable as error:
                log.warning("connections with old rights are still open: %s", error)
                self._names |= names
                self._everybody |= everybody
                self._news.set()
                await asyncio.sleep(RETRY_SECONDS)
