"""One task in a slot, as the worker sees it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mitosis.processes.guard import frames
from mitosis.processes.runs import Cause, RunResult, StreamName

if TYPE_CHECKING:
    from mitosis.processes.slot import Slot


class Run:
    """Handle of one run. Made by `Engine.start_task` and `Reservation.start`.

    Callbacks and futures serve the same events; futures exist only when somebody waits, since a
    worker's hot path can do without.
    """

    __slots__ = ("_ended", "_slot", "_started", "number", "on_ended", "on_started", "outcome",
                 "pid", "released", "started_at")  # fmt: skip

    def __init__(
        self,
        slot: "Slot",
        number: int,
        on_started: "Callable[[Run], None] | None",
        on_ended: "Callable[[Run, RunResult], None] | None",
    ) -> None:
        self._slot = slot
        self.number = number
        self.on_started = on_started
        self.on_ended = on_ended
        self.pid: int | None = None
        #: Instant of the start on the machine clock, once `pid` is known.
        self.started_at: float = 0.0
        #: The result, once the run has ended.
        self.outcome: RunResult | None = None
        self.released = False
        self._started: asyncio.Future[int | None] | None = None
        self._ended: asyncio.Future[RunResult] | None = None

    @property
    def slot(self) -> int:
        """Number of the slot."""
        return self._slot.number

    @property
    def folder(self) -> Path:
        """Folder of the slot: `work`, `result`, `exec`, `resource`, `output`. Until the release."""
        return self._slot.folder if self.outcome is None else self.outcome.folder

    async def started(self) -> int | None:
        """Pid of the main process; None when the run ended without a start."""
        if self.pid is not None or self.outcome is not None:
            return self.pid
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._started)

    async def result(self) -> RunResult:
        """How the run ended; as soon as nothing of its tree is left."""
        if self.outcome is not None:
            return self.outcome
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._ended)

    def stop(self, cause: Cause = "cancel", grace_seconds: float | None = None) -> None:
        """Ask for the polite stop, then the kill after the grace (None: that of the spec).

        A second call can only shorten the grace. With 0 the tree is killed at once. After the end
        it does nothing.
        """
        if self.outcome is None:
            self._slot.send((frames.STOP, self.number, cause, grace_seconds))

    async def tail(self, stream: StreamName, count: int) -> bytes:
        """The last bytes of a stream while it runs, or of the kept tail afterwards."""
        answer = b""
        if self.outcome is None:
            answer = await self._slot.ask_tail(self.number, 0 if stream == "stdout" else 1, count)
        kept = self._kept_tail(stream)
        if kept is None:
            return answer
        return kept[-count:] if count > 0 else b""

    def _kept_tail(self, stream: StreamName) -> bytes | None:
        if self.outcome is None:
            return None
        return (self.outcome.stdout if stream == "stdout" else self.outcome.stderr).tail

    def release(self, *, wipe: bool = False) -> None:
        """Say that the folder is not needed any more; it is emptied and the slot becomes free.

        Args:
            wipe: the caller wrote to the folder after the end. Without this, a folder that was
                untouched at the end is taken as it is.

        Raises:
            RuntimeError: the run has not ended.
        """
        if self.outcome is None:
            raise RuntimeError("a run is released after its end")
        if not self.released:
            self.released = True
            self._slot.release(wipe=wipe)

    def begin(self, pid: int, started_at: float) -> None:
        """The runner says that the program runs (for the slot)."""
        self.pid = pid
        self.started_at = started_at
        if self._started is not None:
            self._started.set_result(pid)
        if self.on_started is not None:
            self.on_started(self)

    def finish(self, result: RunResult) -> None:
        """The run is over (for the slot)."""
        self.outcome = result
        if self._started is not None and not self._started.done():
            self._started.set_result(self.pid)
        if self._ended is not None:
            self._ended.set_result(result)
        if self.on_ended is not None:
            self.on_ended(self, result)
