"""The execution engine: runs programs in slots, and knows that nothing of them is left.

It knows nothing of NATS, ids of tasks or uploads. Decision and measurements:
docs/decisions/0005-execution-engine.md.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mitosis.errors import WorkerFault
from mitosis.processes.guard import frames
from mitosis.processes.guard.frames import Message
from mitosis.processes.guard.linux import is_alive, machine_clock
from mitosis.processes.guardians import (
    MAX_FAILED_STARTS,
    RETRY_SECONDS,
    Guardians,
    pause_seconds,
)
from mitosis.processes.launch import sweep_adopted
from mitosis.processes.reservation import Reservation
from mitosis.processes.run import Run
from mitosis.processes.runs import Abilities, Exited, RunSpec
from mitosis.processes.slot import OnEnded, OnStarted, Slot, SlotState
from mitosis.processes.strays import end_strays
from mitosis.processes.user import TaskUser

_log = logging.getLogger(__name__)

_START_SECONDS = 30.0
#: The kill gives up after 60 s (guard/job.py); this is when waiting for that ends.
_KILL_SECONDS = 65.0
#: A guardian gives quitting runners 70 s (guard/guardian.py).
_QUIT_SECONDS = 80.0
_SWEEP_SECONDS = 0.005
_UNANSWERED_PINGS = 3
_KEPT_ASIDE = 1000


class Engine:
    """Slots that run one program each.

    Args:
        slots: how many programs run at a time.
        root: folder that only this engine uses; folders of an earlier one in it are removed.
        lock_fds: held open by the helpers and by no task: a lock (flock) on one of them proves,
            when it can be taken, that every helper of this engine is dead, and what it ran too.
        epitaph: command that the guardian runs when the worker has died and everything that it ran
            is dead too.
        epitaph_env: complete environment of that command.
        adopts_orphans: this process called `become_subreaper` and has no children but the
            engine's. It then ends what a guardian and a runner that died together leave.
        isolate: run everything in a PID namespace; `start` refuses where there can be none.
        control_groups: use those that can be had; a test can do without.
        user: whom tasks run as; None for the user of this process, who else must be root.
        ping_seconds: interval of the question whether the guardian and busy runners live; who
            leaves three without an answer is killed (a task can stop them).
    """

    def __init__(
        self,
        slots: int,
        root: Path,
        *,
        lock_fds: Sequence[int] = (),
        epitaph: Sequence[str] = (),
        epitaph_env: Mapping[str, str] | None = None,
        adopts_orphans: bool = False,
        isolate: bool = False,
        control_groups: bool = True,
        user: TaskUser | None = None,
        ping_seconds: float = 5.0,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots is {slots}, at least 1 is needed")
        self._count = slots
        self._root = root
        self._lock_fds = tuple(lock_fds)
        self._epitaph = list(epitaph)
        self._epitaph_env = dict(epitaph_env or {})
        self._adopts_orphans = adopts_orphans
        self._isolate = isolate
        self._control_groups = control_groups
        self._user = user
        self._ping_seconds = ping_seconds
        self._slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        self._lease: float | None = None
        self._guardians: Guardians | None = None
        self._ready: asyncio.Event = asyncio.Event()
        self._closing = False
        self._housekeeping: asyncio.TimerHandle | None = None
        self._aside: deque[Path] = deque(maxlen=_KEPT_ASIDE)

    # What the worker calls.

    async def start(self) -> None:
        """Start the helpers; returns when every slot is free.

        Raises:
            WorkerFault: they do not come up within 30 s; or there can be no PID namespace, or
                tasks of another user cannot reach their folders, or what an earlier worker ran
                in this root is alive and cannot be killed.
            OSError: the root folder cannot be made, or no process can be had.
        """
        self._loop = asyncio.get_running_loop()
        self._make_root()
        self._root = self._root.resolve()
        self._guardians = guardians = Guardians(
            self,
            self._root,
            lock_fds=self._lock_fds,
            epitaph=self._epitaph,
            epitaph_env=self._epitaph_env,
            isolate=self._isolate,
            control_groups=self._control_groups,
        )
        guardians.launch()
        try:
            async with asyncio.timeout(_START_SECONDS):
                self._check_isolation(await guardians.abilities)
                await self._end_strays()
                self._make_slots()
                await self._ready.wait()
                await self._try_user()
        except TimeoutError as problem:
            await self.close(0.0)
            raise WorkerFault(f"the runners are not ready after {_START_SECONDS} s") from problem
        except WorkerFault:
            await self.close(0.0)
            raise
        self._housekeeping = self._loop.call_later(self._ping_seconds, self._keep_house)

    def _make_root(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._user is not None:
            self._root.chmod(0o711)

    def _make_slots(self) -> None:
        for number in range(self._count):
            slot = Slot(number, self, self._loop)
            self._slots.append(slot)
            self._fork_runner(slot, self._count)

    async def _end_strays(self) -> None:
        """After the guardian's control groups did what they can, so it seldom finds anything."""
        alive = await asyncio.to_thread(end_strays, self._root)
        if alive:
            raise WorkerFault(
                f"processes that an earlier worker ran in {self._root} are alive and cannot be "
                f"killed: {', '.join(map(str, alive[:10]))}"
            )

    def _check_isolation(self, found: Abilities) -> None:
        if self._isolate and not found.isolated:
            raise WorkerFault(
                f"no PID namespace can be made here ({found.no_namespace}): "
                "start the worker as root, allow user namespaces, or do without the isolation"
            )

    async def _try_user(self) -> None:
        """Whether tasks of another user come into their folders, through all folders above."""
        user = self._user
        if user is None:
            return
        freed = self._ready = asyncio.Event()
        folder = self._free[0].folder
        script = 'cd "$1" && : > probe && rm probe'
        spec = RunSpec(argv=["/bin/sh", "-c", script, "sh", f"{folder}/work"], env={})
        run = self.start_task(spec)
        result = await run.result()
        run.release()
        if result.outcome != Exited(0):
            said = result.stderr.tail.decode("utf-8", "replace").strip() or str(result.outcome)
            raise WorkerFault(
                f"tasks cannot run as {user.name} in {folder}: {said}; every folder above it must "
                "let others pass (chmod o+x), or give the worker another folder"
            )
        await freed.wait()

    @property
    def abilities(self) -> Abilities:
        """What this machine can guarantee, as probed by the guardian.

        Raises:
            WorkerFault: the engine is not started.
        """
        guardians = self._guardians
        if guardians is None or not guardians.abilities.done():
            raise WorkerFault("the engine is not started")
        return guardians.abilities.result()

    @property
    def user(self) -> TaskUser | None:
        """Whom tasks run as; None for the user of this process."""
        return self._user

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return self._count

    @property
    def free_slots(self) -> int:
        """How many runs can start now."""
        return 0 if self._closing else len(self._free)

    @property
    def lease_is_over(self) -> bool:
        """Whether no program would be started: the runners refuse."""
        return self._lease is not None and machine_clock() >= self._lease

    @property
    def is_broken(self) -> bool:
        """Whether all helpers died at their starts, so that nothing can run any more."""
        return bool(self._slots) and all(slot.state is SlotState.BROKEN for slot in self._slots)

    @property
    def runs(self) -> list[Run]:
        """Runs that are not released."""
        return [slot.run for slot in self._slots if slot.run is not None]

    @property
    def folders_set_aside(self) -> list[Path]:
        """Folders that could not be removed (a mounted file system, an immutable file)."""
        return list(self._aside)

    @property
    def guardian_pid(self) -> int:
        """Pid of the guardian, 0 before the start."""
        return 0 if self._guardians is None else self._guardians.pid

    def start_task(
        self,
        spec: RunSpec,
        *,
        on_started: OnStarted | None = None,
        on_ended: OnEnded | None = None,
    ) -> Run:
        """Start a program in a free slot.

        Args:
            spec: what to run.
            on_started: called when it runs; at the latest just before `on_ended`.
            on_ended: called with the result. The caller then calls `run.release()`, at once or
                when it has taken what it needs from the folder.

        Raises:
            WorkerFault: no slot is free.
            ValueError: the spec is out of bounds.
        """
        spec.check()
        return self._take().start(spec, on_started, on_ended)

    def line_up(
        self,
        spec: Callable[[], RunSpec],
        *,
        most: int,
        patience_seconds: float,
        on_started: OnStarted | None = None,
        on_ended: OnEnded | None = None,
    ) -> Run | None:
        """Give a program to the runner of a slot that is taken, to begin when its turn comes.

        The runner begins it without a word to this process, as soon as what it runs has ended and
        left the slot's folder as it was; else it comes back, its outcome `NotBegun`, as it does
        after `Run.recall` and when the runner dies.

        Args:
            spec: makes what is to run; called when there is a slot for it.
            most: so many may be lined up in one slot.
            patience_seconds: not in a slot whose present program runs for longer than this already.
            on_started: as for `start_task`.
            on_ended: as for `start_task`.

        Returns:
            Its handle; None when no slot is to be had for it.

        Raises:
            ValueError: the spec is out of bounds.
        """
        since = self._loop.time() - patience_seconds
        slots = [slot for slot in self._slots if slot.can_line_up(most, since)]
        if not slots or self._closing:
            return None
        wanted = spec()
        wanted.check()
        return min(slots, key=_lined_up).line_up(wanted, on_started, on_ended)

    def reserve(self) -> Reservation:
        """Take a free slot whose folder is to be filled before the start.

        Raises:
            WorkerFault: no slot is free.
        """
        slot = self._take()
        slot.state = SlotState.RESERVED
        return Reservation(slot)

    def grow(self, slots: int) -> None:
        """Have at least so many slots; the new ones are free when their runners are ready."""
        for number in range(self._count, slots):
            slot = Slot(number, self, self._loop)
            self._slots.append(slot)
            self._fork_runner(slot, None)
        self._count = max(self._count, slots)

    def renew(self, lease_seconds: float, *, measured_from: float | None = None) -> None:
        """Allow all runs to go on for so long; afterwards the runners kill them (cause `lease`).

        Args:
            lease_seconds: length of the lease; 0 kills now.
            measured_from: instant of `machine_clock` at which it begins, so that the time that an
                answer took does not lengthen it; None for now.
        """
        begin = machine_clock() if measured_from is None else measured_from
        self._lease = begin + lease_seconds
        for slot in self._slots:
            slot.renew(self._lease)
        self._tell_guardian((frames.LEASE, self._lease))

    @property
    def misses_folders(self) -> bool:
        """Whether somebody has removed folders of slots."""
        return any(slot.runner_pid and not slot.folder.is_dir() for slot in self._slots)

    def begin_anew(self) -> None:
        """Make the root and the folders of slots anew, by new helpers, which hold the locks anew.

        Runs go on to their ends; in a namespace they are lost with it.

        Raises:
            OSError: the root cannot be made.
        """
        self._make_root()
        # No slot takes a task before it has its new runner.
        self._free.clear()
        if self._guardians is not None:
            self._guardians.kill()

    async def close(self, grace_seconds: float) -> None:
        """Stop all runs (cause `shutdown`), deliver their results, end the helpers.

        Raises:
            WorkerFault: a helper did not end in time: something of a task is still alive.
        """
        self._closing = True
        if self._guardians is not None:
            self._guardians.closing = True
        # What is lined up first: it is not to begin because the one before it is stopped.
        lined_up = [run for slot in self._slots for run in slot.lined_up]
        running = lined_up + [run for run in self.runs if run.outcome is None]
        for run in running:
            run.stop("shutdown", grace_seconds)
        if running:
            results = [asyncio.ensure_future(run.result()) for run in running]
            _, late = await asyncio.wait(results, timeout=grace_seconds + _KILL_SECONDS)
            for result in late:
                result.cancel()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        await self._dismiss()

    # Helpers.

    def _take(self) -> Slot:
        if self.free_slots == 0:
            raise WorkerFault("the engine is closing" if self._closing else "no slot is free")
        return self._free.popleft()

    def _tell_guardian(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self._guardians is not None:
            self._guardians.tell(message, descriptors)

    def _start_runner(self, slot: Slot) -> None:
        """Give a slot a runner, as soon as that can be had."""
        if self._closing or slot.connected:
            return  # a new guardian may have given it one while this waited
        try:
            self._fork_runner(slot, None)
        except OSError as error:
            _log.warning("slot %d: no runner can be started just now: %s", slot.number, error)
            self._loop.call_later(RETRY_SECONDS, self._start_runner, slot)

    def _fork_runner(self, slot: Slot, sweep_slots: int | None) -> None:
        ours, theirs = socket.socketpair()
        # The descriptor lives until it is sent; the queue is flushed at once but for a full socket.
        user = self._user
        who = None if user is None else (user.uid, user.gid, list(user.groups))
        message = (frames.FORK, slot.number, os.fsencode(self._root), sweep_slots, who)
        self._tell_guardian(message, (theirs.fileno(),))
        self._keep_until_sent(theirs)
        slot.attach(ours, self._lease)

    def _keep_until_sent(self, sock: socket.socket) -> None:
        if self._guardians is not None and self._guardians.has_unsent:
            self._loop.call_later(_SWEEP_SECONDS, self._keep_until_sent, sock)
        else:
            sock.close()

    def _replace(self, slot: Slot) -> None:
        """Give a slot without a task a new runner; the old one ends with its channel."""
        self._forget_free(slot)
        slot.detach()
        self._start_runner_again(slot)

    def _forget_free(self, slot: Slot) -> None:
        if slot in self._free:
            self._free.remove(slot)

    def _end_lost(self, slot: Slot, text: str, *, clean: bool, by_task: bool = False) -> None:
        if self._closing and slot.run is None:
            return
        run = slot.run
        if run is not None and run.outcome is None:
            slot.lose(run, text, clean, by_task=by_task)
        if self._closing:
            return
        _log.warning("slot %d: %s; it gets a new runner", slot.number, text)
        self._start_runner_again(slot)

    def _start_runner_again(self, slot: Slot) -> None:
        """After the one before is dead; with a pause if that never was ready."""
        failed = slot.starts_without_ready
        if failed >= MAX_FAILED_STARTS:
            slot.state = SlotState.BROKEN
            _log.error("slot %d: runners die before they are ready; slot given up", slot.number)
        elif failed:
            self._loop.call_later(pause_seconds(failed), self._start_runner, slot)
        else:
            self._start_runner(slot)

    def _orphans_of(self, slot: Slot) -> None:
        """A runner died whose guardian is dead: only this process can end what it left.

        In a namespace the kernel has done that when the first process is dead.
        """
        if self._isolate:
            first = 0 if self._guardians is None else self._guardians.dying_namespace
            if first and is_alive(first):
                self._loop.call_later(_SWEEP_SECONDS, self._orphans_of, slot)
            else:
                self._end_lost(slot, "the guardian died, and all in its namespace", clean=True)
        elif not self._adopts_orphans:
            text = "the runner and the guardian died"
            self._end_lost(slot, text, clean=False, by_task=self._user is None)
        elif sweep_adopted(self._kept_children()):
            text = "the runner and the guardian died; what they left was ended by the worker"
            self._end_lost(slot, text, clean=True, by_task=self._user is None)
        else:
            self._loop.call_later(_SWEEP_SECONDS, self._orphans_of, slot)

    def _kept_children(self) -> frozenset[int]:
        # Runners in a namespace have other numbers there, and die with their guardian.
        kept = {slot.runner_pid for slot in self._slots if slot.connected and not self._isolate}
        return frozenset(kept | {self.guardian_pid})

    def _keep_house(self) -> None:
        self._housekeeping = self._loop.call_later(self._ping_seconds, self._keep_house)
        for slot in self._slots:
            slot.ping(_UNANSWERED_PINGS)
        if self._guardians is not None:
            self._guardians.ping(_UNANSWERED_PINGS)
            if self._adopts_orphans and self._guardians.lost:
                sweep_adopted(self._kept_children())

    async def _dismiss(self) -> None:
        for slot in self._slots:
            slot.send((frames.QUIT,))
            slot.state = SlotState.CLOSED
        guardians = self._guardians
        if guardians is None:
            return
        try:
            await guardians.close(_QUIT_SECONDS)
        except TimeoutError as problem:
            raise WorkerFault(f"helpers are alive {_QUIT_SECONDS} s after the end") from problem
        for slot in self._slots:
            slot.detach()
        await guardians.reaped()

    # What the guardian reports.

    def guardian_lost(self) -> None:
        """Every slot gets a runner of the new guardian when it is free (for the guardian)."""
        if self._lease is not None:
            self._tell_guardian((frames.LEASE, self._lease))
        for slot in self._slots:
            slot.draining = True
            slot.recall_lined_up()
            if slot.state in {SlotState.FREE, SlotState.STARTING}:
                self._replace(slot)
            elif not slot.connected:
                self._orphans_of(slot)

    def no_guardian(self) -> None:
        """No slot takes a task any more (for the guardian)."""
        self._free.clear()
        for slot in self._slots:
            if slot.run is None:
                slot.state = SlotState.BROKEN
                slot.detach()

    def runner_lost(self, number: int, status: int) -> None:
        """What the runner of a slot left is dead, too (for the guardian)."""
        slot = self._slots[number]
        slot.read_rest()
        code = os.waitstatus_to_exitcode(status)
        if slot.unresponsive:
            text = "the runner stood still (a SIGSTOP?) and was killed"
        elif code < 0:
            text = f"the runner was killed by signal {-code}"
        else:
            text = f"the runner died (exit code {code})"
        # Tasks of another user cannot have sent the signal.
        self._end_lost(slot, text, clean=True, by_task=code < 0 and self._user is None)

    # What slots report.

    def slot_free(self, slot: Slot) -> None:
        """The slot can take a task (for the slot)."""
        if slot.draining and not self._closing:
            self._replace(slot)
            return
        self._free.append(slot)
        if len(self._free) == self._count:
            self._ready.set()

    def slot_disconnected(self, slot: Slot) -> None:
        """The runner is gone; the guardian will say when its tree is, too (for the slot).

        It is told, as a process that traces the runner keeps the end from it.
        """
        self._forget_free(slot)
        if self._closing:
            return
        if slot.draining:
            self._orphans_of(slot)
        else:
            self._tell_guardian((frames.KILL, slot.number))

    def slot_unresponsive(self, slot: Slot) -> None:
        """The runner does not answer: it is killed, and its tree with it (for the slot)."""
        _log.warning("slot %d: the runner does not answer and is killed", slot.number)
        if not slot.draining:
            self._tell_guardian((frames.KILL, slot.number))
        elif self._adopts_orphans and slot.runner_pid and not self._isolate:
            os.kill(slot.runner_pid, 9)

    def set_aside(self, folders: list[Path]) -> None:
        """Folders that could not be removed (for slots and guardian)."""
        for folder in folders:
            _log.warning("folder set aside, as it cannot be removed: %s", folder)
        self._aside.extend(folders)


def _lined_up(slot: Slot) -> int:
    return len(slot.lined_up)
