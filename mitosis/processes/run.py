"""One task in a slot, as the worker sees it."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mitosis.domain.resources import Limits
from mitosis.processes.follow import STREAMS, Follow, Sink
from mitosis.processes.guard import frames
from mitosis.processes.runs import Cause, RunResult, StreamName

if TYPE_CHECKING:
    from mitosis.processes.slot import Slot

MAX_FOLLOWS = 16


class Run:
    """Handle of one run. Made by `Engine.start_task` and `Reservation.start`.

    Callbacks and futures serve the same events; futures exist only when somebody waits, since a
    worker's hot path can do without.
    """

    __slots__ = ("_ended", "_follows", "_slot", "_started", "limits", "number", "on_ended",
                 "on_started", "outcome", "pid", "recalled", "released", "started_at",
                 "to_file")  # fmt: skip

    def __init__(
        self,
        slot: "Slot",
        number: int,
        on_started: "Callable[[Run], None] | None",
        on_ended: "Callable[[Run, RunResult], None] | None",
        limits: Limits | None = None,
        *,
        to_file: bool = False,
    ) -> None:
        self._slot = slot
        self.number = number
        self.limits = limits
        self.to_file = to_file
        self.on_started = on_started
        self.on_ended = on_ended
        self.pid: int | None = None
        #: Instant of the start on the machine clock, once `pid` is known.
        self.started_at: float = 0.0
        #: The result, once the run has ended.
        self.outcome: RunResult | None = None
        #: It, or one before it in its line, was asked for back.
        self.recalled = False
        self.released = False
        self._follows: list[Follow] = []
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

    def stop(
        self,
        cause: Cause = "cancel",
        grace_seconds: float | None = None,
        stop_signal: int | None = None,
    ) -> None:
        """Ask for the polite stop, then the kill after the grace (None: that of the spec).

        One that is lined up ends as `NotBegun`.
        A second call can only shorten the grace, and send another signal if one is given. With a
        grace of 0, or by SIGKILL, the tree is killed at once. After the end it does nothing.
        """
        if self.outcome is None:
            number = None if stop_signal is None else int(stop_signal)
            self._slot.send((frames.STOP, self.number, cause, grace_seconds, number))

    def recall(self) -> None:
        """Ask for it back if it is lined up, and for all behind it: they end as `NotBegun`.

        One that has begun goes on, and so do those behind it.
        """
        if self.outcome is None:
            self._slot.recall(self)

    async def tail(self, stream: StreamName, count: int) -> bytes:
        """The last bytes of a stream while it runs, or of the kept tail afterwards."""
        answer = b""
        if self.outcome is None:
            answer = await self._slot.ask_tail(self.number, 0 if stream == "stdout" else 1, count)
        kept = self._kept_tail(stream)
        if kept is None:
            return answer
        return kept[-count:] if count > 0 else b""

    def start_follow(
        self,
        sink: Sink,
        *,
        tail_bytes: int | None = None,
        begin: Mapping[StreamName, int] | None = None,
    ) -> Follow:
        """Give the output to a sink while it is written, up to the end of the run.

        Args:
            sink: called with one piece of each stream at a time; the next one waits for it.
            tail_bytes: begin so many bytes before the present end; None for all that is kept.
            begin: instead, the offset to begin at for each stream that is wanted; a negative one
                counts from the present end, which is -1.

        Raises:
            RuntimeError: too many follow this run already, or it has ended.
            ValueError: a negative tail.
        """
        if self.outcome is not None:
            raise RuntimeError("the run has ended: its output is in its result and its folder")
        if len(self._follows) >= MAX_FOLLOWS:
            raise RuntimeError(f"{MAX_FOLLOWS} follow this run already")
        if tail_bytes is not None and tail_bytes < 0:
            raise ValueError(f"tail_bytes is {tail_bytes}, must not be negative")
        if begin is None:
            begin = dict.fromkeys(STREAMS, 0 if tail_bytes is None else -(tail_bytes + 1))
        follow = Follow(self, sink, begin)
        self._follows.append(follow)
        return follow

    def forget_follow(self, follow: Follow) -> None:
        """A follower is done (for the follower)."""
        if follow in self._follows:
            self._follows.remove(follow)

    async def read(self, stream: int, offset: int, count: int) -> tuple[int, bytes, bool]:
        """A piece of a stream as soon as there is one: offset, bytes, whether more can come.

        For followers. An offset of -1 means the present end, -2 one byte before it. The answered
        offset is -1 when nobody knows it any more. No bytes although more can come: ask again.
        """
        if self.outcome is not None:
            return -1, b"", False
        return await self._slot.ask_read(self.number, stream, offset, count)

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
            self._slot.release(self, wipe=wipe)

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
        for follow in self._follows:
            follow.run_ended(result)
        if self._started is not None and not self._started.done():
            self._started.set_result(self.pid)
        if self._ended is not None:
            self._ended.set_result(result)
        if self.on_ended is not None:
            self.on_ended(self, result)
