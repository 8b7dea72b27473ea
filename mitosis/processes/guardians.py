"""The worker's side of the guardian: at any time there is one, and a new one when it dies."""

import asyncio
import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mitosis.errors import WorkerFault
from mitosis.processes.guard import frames
from mitosis.processes.guard.frames import Closed, Message
from mitosis.processes.launch import Guard, start_guardian
from mitosis.processes.runs import Abilities

_log = logging.getLogger(__name__)

#: Of helpers in turn, after ever longer pauses: together four minutes.
MAX_FAILED_STARTS = 10
#: At the start of the engine, without pauses.
_MAX_FAILED_FIRST_STARTS = 5
#: Between two tries while this process can have no descriptor or no process.
RETRY_SECONDS = 0.5


def pause_seconds(failed: int) -> float:
    """How long to wait before the next try, after so many starts in turn that failed.

    Where the machine has just no process left, that passes.
    """
    return RETRY_SECONDS * 2 ** (failed - 1) if failed else 0.0


class GuardianOwner(Protocol):
    """What the guardian's link needs from the engine."""

    def guardian_lost(self) -> None:
        """A guardian has died, and there is a new one, which knows no runners."""

    def no_guardian(self) -> None:
        """Guardians die at their starts: no new one is started."""

    def runner_lost(self, number: int, status: int) -> None:
        """The guardian has swept what the dead runner of a slot left."""

    def set_aside(self, folders: list[Path]) -> None:
        """Folders that could not be removed."""


class Guardians:
    """Starts the guardian, again when it dies, and carries the messages between it and the engine.

    Args:
        owner: told what the guardian says.
        root: folder of the engine.
        lock_fds, epitaph, epitaph_env, isolate, control_groups: see `Engine`.
    """

    def __init__(
        self,
        owner: GuardianOwner,
        root: Path,
        *,
        lock_fds: Sequence[int],
        epitaph: Sequence[str],
        epitaph_env: Mapping[str, str],
        isolate: bool,
        control_groups: bool,
    ) -> None:
        self._owner = owner
        self._root = root
        self._lock_fds = tuple(lock_fds)
        self._epitaph = list(epitaph)
        self._epitaph_env = dict(epitaph_env)
        self._isolate = isolate
        self._control_groups = control_groups
        self._loop = asyncio.get_running_loop()
        self._guard: Guard | None = None
        self._gone = asyncio.Event()
        self._reapers: set[asyncio.Future[int]] = set()
        self._silent_launches = 0
        #: The engine ends: who dies now is not replaced.
        self.closing = False
        #: What the first one found out.
        self.abilities: asyncio.Future[Abilities] = self._loop.create_future()
        #: How many have died.
        self.lost = 0
        #: First process of the namespace of the last one that died; 0 without one.
        self.dying_namespace = 0

    @property
    def pid(self) -> int:
        """Pid of the present guardian, 0 while there is none."""
        return 0 if self._guard is None else self._guard.process.pid

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait to be sent."""
        return self._guard is not None and bool(self._guard.channel.waiting)

    def launch(self) -> None:
        """Start a guardian.

        Raises:
            OSError: no process or descriptor can be had.
        """
        guard = start_guardian(
            self._lock_fds,
            self._root,
            first=self.lost == 0,
            isolate=self._isolate,
            control_groups=self._control_groups,
        )
        self._silent_launches += 1
        self._guard = guard
        self._loop.add_reader(guard.channel.fileno(), self._hear, guard)
        if self._epitaph:
            self.tell((frames.EPITAPH, self._epitaph, self._epitaph_env))

    def kill(self) -> None:
        """End the present one: another one follows."""
        if self._guard is not None:
            self._guard.process.kill()

    def ping(self, patience: int) -> None:
        """Ask for a sign of life; after `patience` unanswered questions it is killed and replaced.

        One that stands still (a task can stop it) ends no tree of a runner that dies. Not in a
        namespace, where no task can stop it, and where all that runs would die with it.
        """
        guard = self._guard
        if guard is None or self._isolate or self._silent_launches:
            return
        if guard.pinged - guard.ponged >= patience:
            _log.warning("the guardian does not answer and is killed")
            guard.process.kill()
            return
        guard.pinged += 1
        self.tell((frames.PING, guard.pinged))

    def tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send, or queue, a message; a dead guardian is noticed when reading."""
        guard = self._guard
        if guard is None:
            return
        try:
            if not guard.channel.send(message, descriptors):
                self._loop.add_writer(guard.channel.fileno(), self._flush, guard)
        except Closed:
            self._loop.call_soon(self._hear, guard)

    async def close(self, limit_seconds: float) -> None:
        """Let it quit, with everything below it.

        Raises:
            TimeoutError: it has not ended in time.
        """
        self.closing = True
        if self._guard is not None:
            self.tell((frames.QUIT,))
            async with asyncio.timeout(limit_seconds):
                await self._gone.wait()

    async def reaped(self) -> None:
        """Wait for the ends of all that have died."""
        if self._reapers:
            await asyncio.wait(self._reapers)

    def _flush(self, guard: Guard) -> None:
        try:
            if guard.channel.flush():
                self._loop.remove_writer(guard.channel.fileno())
        except Closed:
            self._hear(guard)

    def _hear(self, guard: Guard) -> None:
        if guard is not self._guard:
            return
        try:
            messages = guard.channel.receive()
        except Closed:
            self._ended(guard)
            return
        for message in messages:
            if message[0] == frames.HELLO:
                self._silent_launches = 0
                abilities = Abilities(**message[1])
                guard.first_pid = abilities.first_pid
                if not self.abilities.done():
                    self.abilities.set_result(abilities)
            elif message[0] == frames.LOST:
                self._owner.runner_lost(message[1], message[2])
            elif message[0] == frames.PONG:
                guard.ponged = message[1]
            elif message[0] == frames.ASIDE:
                self._owner.set_aside([Path(os.fsdecode(path)) for path in message[1]])

    def _ended(self, guard: Guard) -> None:
        self._loop.remove_reader(guard.channel.fileno())
        self._loop.remove_writer(guard.channel.fileno())
        guard.channel.close()
        self._guard = None
        self._reap_in_thread(guard.process)
        if self.closing:
            self._gone.set()
            return
        _log.error("the guardian has died; its runners finish their tasks and are replaced")
        self.lost += 1
        self.dying_namespace = guard.first_pid
        failed, begun = self._silent_launches, self.abilities.done()
        if failed >= (MAX_FAILED_STARTS if begun else _MAX_FAILED_FIRST_STARTS):
            text = "guardians die before they say a word"
            _log.error("%s; no new one is started", text)
            if not self.abilities.done():
                self.abilities.set_exception(WorkerFault(f"{text}: see the worker's stderr"))
            self._owner.no_guardian()
        elif failed and begun:
            self._loop.call_later(pause_seconds(failed), self._replace)
        else:
            self._replace()

    def _replace(self) -> None:
        if self.closing:
            return
        try:
            self.launch()
        except OSError as error:
            _log.warning("no guardian can be started just now: %s", error)
            self._loop.call_later(RETRY_SECONDS, self._replace)
        else:
            self._owner.guardian_lost()

    def _reap_in_thread(self, process: subprocess.Popen[bytes]) -> None:
        waiting = self._loop.run_in_executor(None, process.wait)
        self._reapers.add(waiting)
        waiting.add_done_callback(self._reapers.discard)
