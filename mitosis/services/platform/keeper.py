"""Keeping one thing running: start it, wait for its end, start it again after a growing pause."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from mitosis.services.platform.process import ChildProcess

_LOG = logging.getLogger(__name__)


class BackOff(msgspec.Struct, frozen=True, kw_only=True):
    """The pauses between starts: doubled up to a cap, forgotten after a long enough run."""

    first_seconds: float = 0.1
    longest_seconds: float = 5.0
    forgotten_after_seconds: float = 30.0

    def pause(self, failures: int) -> float:
        """Returns the pause after that many failures in a row (1 or more)."""
        return float(min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 30)))


class Keeper:
    """Restarts what `start` starts whenever it ends, until it is stopped.

    Args:
        name: For the log.
        start: Starts it and returns it when it runs.
        back_off: The pauses.
        on_done: Called instead of a restart when it ends with status 0; None: it is restarted.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[ChildProcess]],
        back_off: BackOff | None = None,
        on_done: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.failures = 0
        """Ends in a row, each after a run that was too short to be forgotten."""
        self.is_up = False
        """True while what it keeps runs and has finished its start."""
        self._start = start
        self._back_off = back_off or BackOff()
        self._on_done = on_done
        self._task: asyncio.Task[None] | None = None

    def keep(self, process: ChildProcess) -> None:
        """Begins to watch what was started the first time."""
        self.is_up = True
        self._task = asyncio.create_task(self._watch(process), name=f"keep {self.name}")

    async def release(self) -> None:
        """Stops restarting; what runs goes on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _watch(self, process: ChildProcess) -> None:
        while True:
            started_at = time.monotonic()
            status = await process.wait()
            self.is_up = False
            if status == 0 and self._on_done is not None:
                _LOG.info("%s has ended as it was told to", self.name)
                self._on_done()
                return
            ran_seconds = time.monotonic() - started_at
            long_enough = ran_seconds >= self._back_off.forgotten_after_seconds
            self.failures = 1 if long_enough else self.failures + 1
            _LOG.warning(
                "%s ended with status %s: %s", self.name, status, process.log.tail(1) or "no output"
            )
            process = await self._restart()
            self.is_up = True

    async def _restart(self) -> ChildProcess:
        while True:
            await asyncio.sleep(self._back_off.pause(self.failures))
            try:
                return await self._start()
            except Exception:  # noqa: BLE001 - top of a service loop; the next try comes later
                self.failures += 1
                _LOG.exception("%s could not be started again", self.name)
