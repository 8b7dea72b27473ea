"""The worker's side of one slot: what its runner was told, and what it says."""

import asyncio
import enum
import errno
import logging
import math
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import astuple

from mitosis.processes import results
from mitosis.processes.guard import frames, linux
from mitosis.processes.guard.frames import Channel, Closed, Message
from mitosis.processes.run import Run
from mitosis.processes.runs import (
    MAX_TAIL_BYTES,
    Lost,
    RunResult,
    RunSpec,
    SpawnFailed,
)

_log = logging.getLogger(__name__)

_MAX_TAIL_REQUESTS = 64
#: With so many lined up, a runner has enough to do while nobody listens to it: this loop then is
#: woken for several of its messages at once, and at the same instants for all slots.
_ENOUGH_LINED_UP = 3
_REST_SECONDS = 0.002
_NO_PIECE = (-1, b"", False)

OnStarted = Callable[[Run], None]
OnEnded = Callable[[Run, RunResult], None]


class SlotState(enum.Enum):
    """Where a slot is in its cycle."""

    STARTING = "starting"
    FREE = "free"
    RESERVED = "reserved"
    BUSY = "busy"
    ENDED = "ended"
    CLEANING = "cleaning"
    BROKEN = "broken"
    CLOSED = "closed"


class SlotOwner(Protocol):
    """What a slot needs from the engine."""

    def slot_free(self, slot: "Slot") -> None:
        """The slot can take a task."""

    def slot_disconnected(self, slot: "Slot") -> None:
        """The runner's end of the channel is closed."""

    def slot_unresponsive(self, slot: "Slot") -> None:
        """The runner must be killed."""

    def set_aside(self, folders: list[Path]) -> None:
        """Folders that could not be removed."""


class Slot:
    """One runner, in the worker's loop.

    `run` has the slot as far as the worker has heard. Its runner may be further: it has ended that
    one, and begun what was lined up behind it, as the messages that come will say.
    """

    def __init__(self, number: int, owner: SlotOwner, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.state = SlotState.STARTING
        self.folder = Path()
        self.runner_pid = 0
        #: Rises with each runner, so that a reservation knows that its folder is gone.
        self.generation = 0
        self.run: Run | None = None
        #: The present runner did not answer, and so it was killed.
        self.unresponsive = False
        #: The guardian of this runner is dead: the slot gets a new runner when it is free.
        self.draining = False
        self.starts_without_ready = 0
        self.connected = False
        #: Whether the folder was as new at the end of the last run.
        self.untouched = False
        #: Given to the runner already; each begins when the run before it has left nothing.
        self.lined_up: deque[Run] = deque()
        #: Instant of the loop's clock at which the present run was given to the runner, or came up;
        #: before all times when the runner was not told of it.
        self.busy_since = 0.0
        self._folder_known = False
        self._run_generation = 0
        self._unsent = False
        self._owner = owner
        self._loop = loop
        self._channel: Channel | None = None
        self._runs = 0
        self._tails: dict[int, asyncio.Future[bytes]] = {}
        self._reads: dict[int, asyncio.Future[tuple[int, bytes, bool]]] = {}
        self._requests = 0
        self._pinged = 0
        self._ponged = 0

    # The life of the channel.

    def attach(self, sock: socket.socket, lease: float | None) -> None:
        """Take the worker's end of the channel of a new runner."""
        left = self.folder if self._folder_known else None
        self.generation += 1
        self.draining = self.unresponsive = False
        self.connected = True
        self.starts_without_ready += 1
        self._pinged = self._ponged = 0
        self._channel = Channel(sock)
        self._listen()
        if lease is not None:
            self.renew(lease)
        if self.run is not None or self.state is SlotState.RESERVED:
            return  # the release will have the folder discarded
        self.state = SlotState.STARTING
        if left is not None:
            self.state = SlotState.CLEANING
            self.send((frames.DISCARD, os.fsencode(left)))

    def detach(self) -> None:
        """Close the channel; a runner without a task ends then."""
        self.connected = False
        if self._channel is not None:
            self._loop.remove_reader(self._channel.fileno())
            self._loop.remove_writer(self._channel.fileno())
            self._channel.close()
            self._channel = None
        for waiting in self._tails.values():
            if not waiting.done():
                waiting.set_result(b"")
        self._tails.clear()
        self._end_reads()

    def send(self, message: Message) -> None:
        """Send, or queue, a message to the runner; a dead runner is noticed when reading."""
        channel = self._channel
        if channel is None:
            return
        try:
            channel.post(message)
        except frames.Overflow:
            self._owner.slot_unresponsive(self)
        else:
            self._flush()

    def _flush(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            if not channel.flush():
                self._loop.add_writer(channel.fileno(), self._writable)
        except Closed:
            self._loop.call_soon(self._readable)

    def _writable(self) -> None:
        if self._channel is None:
            return
        try:
            if self._channel.flush():
                self._loop.remove_writer(self._channel.fileno())
        except Closed:
            self._readable()

    def _readable(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            messages = channel.receive()
        except Closed:
            self._disconnect()
            return
        for message in messages:
            self._hear(message)
        if len(self.lined_up) >= _ENOUGH_LINED_UP and self._channel is channel:
            self._loop.remove_reader(channel.fileno())
            beats = int(self._loop.time() / _REST_SECONDS) + 2
            self._loop.call_at(beats * _REST_SECONDS, self._listen)

    def _listen(self) -> None:
        """Hear the runner, from now on; nothing when there is none or it is heard already."""
        if self._channel is not None:
            self._loop.add_reader(self._channel.fileno(), self._readable)

    def _disconnect(self) -> None:
        """All that the runner had said is heard: what is lined up still had not begun.

        It tells each end before it begins what comes next.
        """
        self.detach()
        while self.lined_up:
            self._give_back(self.lined_up[0].number)
        self._owner.slot_disconnected(self)

    def read_rest(self) -> None:
        """Hear what a dead runner had said: all of it is there.

        The end of its channel may not be, while somebody holds a copy of the other end.
        """
        while self._channel is not None and _can_be_read(self._channel):
            self._readable()
        if self.connected:
            self._disconnect()

    # What the worker wants.

    def start(self, spec: RunSpec, on_started: OnStarted | None, on_ended: OnEnded | None) -> Run:
        """Start a run on this slot, which must be free or reserved."""
        run = self.run = self._new_run(spec, on_started, on_ended)
        self._run_generation = self.generation
        self.state = SlotState.BUSY
        self.busy_since = self._loop.time()
        try:
            self.send(self._order(run, spec))
        except ValueError as problem:
            self.busy_since = -math.inf  # the runner knows nothing of it
            failure = SpawnFailed("arguments", errno.E2BIG, str(problem))
            self._loop.call_soon(self._end_unstarted, run, failure)
        return run

    def line_up(self, spec: RunSpec, on_started: OnStarted | None, on_ended: OnEnded | None) -> Run:
        """Give the runner a run that begins when those before it have left nothing.

        Raises:
            ValueError: it is larger than what can be sent.
        """
        run = self._new_run(spec, on_started, on_ended)
        if self._channel is not None:
            # Sent with what else is lined up in this turn of the loop: the runner is woken once.
            try:
                self._channel.post(self._order(run, spec))
            except frames.Overflow:
                self._owner.slot_unresponsive(self)
            if not self._unsent:
                self._unsent = True
                self._loop.call_soon(self._send_lined_up)
        self.lined_up.append(run)
        return run

    def can_line_up(self, most: int, since: float) -> bool:
        """Whether one more may be lined up, so that at most `most` are.

        `since`: a program that is running for longer keeps others back. One whose output goes to a
        file never leaves nothing. Nor while anything is on its way back: it would be overtaken.
        """
        run = self.run
        return (
            self.state is SlotState.BUSY
            and self.connected
            and not self.draining
            and run is not None
            and run.outcome is None
            and not run.to_file
            and len(self.lined_up) < most
            and self.busy_since >= since
            and not (run.recalled and run.pid is None)
            and not any(waiting.recalled for waiting in self.lined_up)
        )

    def recall(self, run: Run) -> None:
        """Ask for a run back that may be lined up, and for all behind it."""
        run.recalled = True
        first = self.lined_up.index(run) + 1 if run in self.lined_up else 0
        for behind in islice(self.lined_up, first, None):
            behind.recalled = True
        self.send((frames.RECALL, run.number))

    def recall_lined_up(self) -> None:
        """Ask for everything back that has not begun."""
        for run in self.lined_up:
            run.recall()

    def _send_lined_up(self) -> None:
        self._unsent = False
        self._flush()

    def _new_run(
        self, spec: RunSpec, on_started: OnStarted | None, on_ended: OnEnded | None
    ) -> Run:
        self._runs += 1
        to_file = spec.output == "file"
        return Run(self, self._runs, on_started, on_ended, spec.limits, to_file=to_file)

    def _order(self, run: Run, spec: RunSpec) -> Message:
        env = spec.env
        if spec.directory_env:
            folder = str(self.folder)
            env = env | {name: f"{folder}/{part}" for part, name in spec.directory_env.items()}
        limits = spec.limits
        return (
            frames.RUN,
            run.number,
            spec.argv,
            env,
            spec.timeout_seconds,
            spec.grace_seconds,
            int(spec.stop_signal),
            run.to_file,
            spec.tail_bytes,
            spec.cap_bytes,
            spec.cap_end_bytes,
            None if limits is None else astuple(limits),
        )

    def start_lost(self, folder: Path, on_ended: OnEnded | None) -> Run:
        """A run that is lost before it started, as its reserved runner has died."""
        self._runs += 1
        run = self.run = Run(self, self._runs, None, on_ended)
        self._run_generation = -1
        self.state = SlotState.BUSY
        self.busy_since = -math.inf
        self._loop.call_soon(self.lose, run, "the runner died before the start", True, folder)
        return run

    def release(self, run: Run, *, wipe: bool) -> None:
        """The run's folder is not needed any more; nothing when another run has it already."""
        if run is not self.run:
            return
        self.run = None
        if run.outcome is None or self.state is SlotState.CLOSED:
            return
        if self._run_generation != self.generation or not self.connected:
            # Of a runner that has died; if the next one is not there yet, it is told at its start.
            self.state = SlotState.CLEANING
            self.send((frames.DISCARD, os.fsencode(run.outcome.folder)))
        elif self.untouched and not wipe:
            self.state = SlotState.FREE
            self._owner.slot_free(self)
        else:
            self.state = SlotState.CLEANING
            self.send((frames.CLEAN,))

    def renew(self, deadline: float) -> None:
        """Tell the end of the lease."""
        self.send((frames.LEASE, deadline))

    def ping(self, patience: int) -> None:
        """Ask for a sign of life; after `patience` unanswered questions the runner is lost."""
        if self.state is not SlotState.BUSY or not self.connected:
            self._ponged = self._pinged
            return
        if self._pinged - self._ponged >= patience:
            self.unresponsive = True
            self._owner.slot_unresponsive(self)
            return
        self._pinged += 1
        self.send((frames.PING, self._pinged))

    async def ask_tail(self, run: int, stream: int, count: int) -> bytes:
        """Ask the runner for the last bytes of a stream; empty when it is gone."""
        if len(self._tails) >= _MAX_TAIL_REQUESTS:
            raise RuntimeError(f"{_MAX_TAIL_REQUESTS} requests for output are waiting already")
        if not self.connected:
            return b""
        self._requests += 1
        request = self._requests
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._tails[request] = answer
        self.send((frames.TAIL, request, run, stream, min(count, MAX_TAIL_BYTES)))
        try:
            return await answer
        finally:
            self._tails.pop(request, None)

    async def ask_read(
        self, run: int, stream: int, offset: int, count: int
    ) -> tuple[int, bytes, bool]:
        """Ask the runner for a piece of a stream; it answers when there is one (`Run.read`)."""
        if not self.connected:
            return _NO_PIECE
        self._requests += 1
        request = self._requests
        answer: asyncio.Future[tuple[int, bytes, bool]] = self._loop.create_future()
        self._reads[request] = answer
        self.send((frames.READ, request, run, stream, offset, count))
        try:
            return await answer
        finally:
            self._reads.pop(request, None)

    def _end_reads(self) -> None:
        for waiting in self._reads.values():
            if not waiting.done():
                waiting.set_result(_NO_PIECE)

    def lose(
        self,
        run: Run,
        text: str,
        clean: bool,
        folder: Path | None = None,
        *,
        by_task: bool = False,
    ) -> None:
        """End a run that nobody can say more about."""
        result = results.lost(
            Lost(text, by_task),
            now=linux.machine_clock(),
            started_at=run.started_at,
            clean=clean,
            folder=self.folder if folder is None else folder,
        )
        self._finish(run, result)

    # What the runner says.

    def _hear(self, message: Message) -> None:
        kind = message[0]
        run = self.run
        if kind == frames.STARTED:
            if run is not None and run.number == message[1]:
                self._call(run.begin, message[2], message[3])
        elif kind == frames.ENDED:
            if run is not None and run.number == message[1]:
                self._end(run, message)
        elif kind == frames.RECALLED:
            self._give_back(message[1])
        elif kind in {frames.CLEANED, frames.READY}:
            self._hear_of_folder(message)
        elif kind == frames.TAILED:
            answer = self._tails.get(message[1])
            if answer is not None and not answer.done():
                answer.set_result(message[2])
        elif kind == frames.PIECE:
            piece = self._reads.get(message[1])
            if piece is not None and not piece.done():
                piece.set_result(message[2:])
        elif kind == frames.PONG:
            self._ponged = message[1]

    def _end(self, run: Run, message: Message) -> None:
        self.untouched = message[13]
        result = results.told(message, self.folder, run.limits)
        if self.untouched and self.lined_up:
            self._go_on()
            self._call(run.finish, result)
        else:
            self._finish(run, result)

    def _go_on(self) -> None:
        """The runner has turned to what is lined up, in the same folder."""
        self.run = self.lined_up.popleft()
        self.busy_since = self._loop.time()
        if self._reads:
            self._end_reads()

    def _give_back(self, number: int) -> None:
        """A run is not begun and will not be."""
        run, freed = self.run, False
        if run is not None and run.number == number:
            # Recalled before the runner could begin it: the folder is as it was.
            if self.lined_up:
                self._go_on()
            elif self.state is SlotState.BUSY:
                self.run, self.state, freed = None, SlotState.FREE, True
        else:
            run = next((run for run in self.lined_up if run.number == number), None)
            if run is None:
                return
            self.lined_up.remove(run)
        self._call(run.finish, results.not_begun(linux.machine_clock(), self.folder))
        if freed:
            self._owner.slot_free(self)

    def _hear_of_folder(self, message: Message) -> None:
        if message[0] == frames.READY:
            self.runner_pid = message[1]
            self.starts_without_ready = 0
        done = SlotState.STARTING if message[0] == frames.READY else SlotState.CLEANING
        self.folder = Path(os.fsdecode(message[-2]))
        self._folder_known = True
        if message[-1]:
            self._owner.set_aside([Path(os.fsdecode(path)) for path in message[-1]])
        if self.state is done:
            self.state = SlotState.FREE
            self._owner.slot_free(self)

    def _end_unstarted(self, run: Run, failure: SpawnFailed) -> None:
        self.untouched = False
        result = results.unstarted(failure, linux.machine_clock(), self.folder)
        self._finish(run, result)

    def _finish(self, run: Run, result: RunResult) -> None:
        if run.outcome is None:
            if self._reads:
                self._end_reads()
            if self.state is not SlotState.CLOSED:
                self.state = SlotState.ENDED
            self._call(run.finish, result)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call into the worker; its mistake must not lose the messages that follow."""
        try:
            function(*arguments)
        except Exception as problem:  # noqa: BLE001 - goes to the loop's handler of exceptions
            self._loop.call_exception_handler(
                {"message": f"callback of a run in slot {self.number}", "exception": problem}
            )


def _can_be_read(channel: Channel) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))
