"""The guardian: parent of all runners, and the one that is left when they or the worker die.

It sweeps the tree of a runner that died, and at the worker's death waits for the runners (each
kills its own tree), kills what is left and, with everything dead, runs the epitaph.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable

from . import cgroups, frames, isolation, kernel_timer, linux, tree
from .cgroups import Groups
from .confinement import User
from .frames import Channel, Closed, Message
from .job import GROUP_FROM_ROUND, Place, round_pause_seconds
from .kernel_timer import DeadMansSwitch, KernelTimer
from .runner import Wakeups, serve
from .trash import Remover

#: Runners that see the end of their channel need milliseconds. One that does not see it (stopped
#: by its task, or its channel held by a copy of the worker) is killed, and swept from here.
_ORPHANED_RUNNER_SECONDS = 0.5
#: Asked to quit, runners also remove folders.
_QUITTING_RUNNER_SECONDS = 70.0
_EPITAPH_SECONDS = 30.0
#: After the end of the lease, at which runners kill by themselves. One that is stopped cannot.
_LATE_SECONDS = 0.5
_LOOK_SECONDS = 1.0
#: After the end of the lease, at which the kernel ends all where it can. More than the one above,
#: and less than the coordinator waits.
_FROZEN_SECONDS = 1.5
#: The same afterwards, when nothing runs that could go on.
_SILENT_SECONDS = 10.0
#: Between two looks for the orphans of a runner that was killed and whose end is not told.
_CONDEMNED_SECONDS = 0.1
#: Questions of the worker, one more than a busy runner may leave unanswered.
_STANDS_STILL = 5
#: Exit code of a runner that could not be forked.
_NOT_STARTED = 71
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Guardian:
    """Loop of the guardian process."""

    def __init__(
        self,
        control: socket.socket,
        worker: int,
        groups: Groups,
        abilities: dict[str, object],
        switch: DeadMansSwitch | None = None,
    ) -> None:
        """Take the channel to the worker, a descriptor that tells its death (or -1), and more.

        `switch`: of the timer that ends all of this when nobody moves it any more.
        """
        self._switch = switch
        self._channel = Channel(control)
        self._groups = groups
        self._abilities = abilities
        self._wakeups = Wakeups()
        self._runners: dict[int, int] = {}
        self._dead: list[tuple[int, int]] = []
        self._condemned: set[int] = set()
        #: Runners that stand still, and at how many questions in turn they did.
        self._stopped: dict[int, int] = {}
        self._lease: float | None = None
        self._round = 0
        self._epitaph: tuple[list[str], dict[str, str]] | None = None
        self._quitting = False
        self._tree = tree.Tree()
        self._remover = Remover()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._wakeups.read_fd, select.POLLIN)
        self._poll.register(self._remover.wake_read_fd, select.POLLIN)
        self._worker = worker
        if worker >= 0:
            self._poll.register(worker, select.POLLIN)

    def run(self) -> None:
        """Serve until the worker says "quit" or dies; afterwards nothing of it is alive."""
        try:
            self._channel.send((frames.HELLO, self._abilities))
            while not self._quitting:
                self._turn()
        except Closed:
            self._remover.abandon()  # the worker died: what it ran must die too
        self._end_everything()
        if self._switch is not None:
            self._switch.keep(None)  # nothing is alive
        if not self._quitting and self._epitaph is not None:
            self._speak(*self._epitaph)

    def _turn(self) -> None:
        for fd, event in self._poll.poll(self._wait_milliseconds()):
            if fd == self._worker:
                raise Closed("the worker died")
            if fd == self._wakeups.read_fd:
                self._wakeups.drain()
            elif fd == self._remover.wake_read_fd:
                self._remover.heed()
            elif event & ~select.POLLOUT:
                for message in self._channel.receive_with_descriptors():
                    self._obey(message)
        self._end_stopped_runners()
        self._prove_life()
        self._sweep()
        writing = not self._channel.flush()
        mask = select.POLLIN | select.POLLOUT if writing else select.POLLIN
        self._poll.modify(self._channel, mask)

    def _wait_milliseconds(self) -> float | None:
        if self._dead:
            return round_pause_seconds(self._round) * 1000 + 1
        if self._condemned:
            return _CONDEMNED_SECONDS * 1000
        if self._lease is None:
            return None
        # Waiting does not count suspension, the lease does.
        late = self._lease + _LATE_SECONDS - linux.machine_clock()
        return (min(late, _LOOK_SECONDS) if late > 0 else _LOOK_SECONDS) * 1000 + 1

    def _prove_life(self) -> None:
        """Have the kernel's timer moved: before the end of the lease that is not needed."""
        if self._switch is None or self._lease is None:
            return
        now = linux.machine_clock()
        if now >= self._lease + _LATE_SECONDS:
            self._switch.keep(now + _SILENT_SECONDS)

    def _obey(self, message: Message) -> None:
        kind = message[0]
        if kind == frames.FORK:
            self._fork(*message[1:])
        elif kind == frames.KILL:
            for pid, slot in self._runners.items():
                if slot == message[1]:
                    linux.kill_process(pid, signal.SIGKILL)
                    self._condemned.add(pid)
        elif kind == frames.LEASE:
            self._lease = lease = message[1]
            if self._switch is not None:
                self._switch.keep(max(lease, linux.machine_clock()) + _FROZEN_SECONDS)
        elif kind == frames.PING:
            self._end_idle_runners_that_stand_still()
            self._channel.post((frames.PONG, message[1]))
        elif kind == frames.EPITAPH:
            self._epitaph = (message[1], message[2])
        elif kind == frames.QUIT:
            self._quitting = True
        else:
            raise ValueError(f"message of unknown kind {kind}")

    def _fork(
        self,
        slot: int,
        root: bytes,
        sweep_slots: int | None,
        user: tuple[int, int, list[int]] | None,
    ) -> None:
        sock = socket.socket(fileno=self._channel.descriptors.popleft())
        try:
            pid = os.fork()
        except OSError as problem:
            # The machine has no process just now, which is no reason to leave the other runners.
            sock.close()
            print(f"guardian: no runner for slot {slot}: {problem}", file=sys.stderr)  # noqa: T201
            self._channel.post((frames.LOST, slot, _NOT_STARTED << 8))
            return
        if pid:
            sock.close()
            self._runners[pid] = slot
            self._remover.begin(root, first=sweep_slots is not None)
            return
        code = 1
        try:
            self._channel.close()
            for other in self._channel.descriptors:
                os.close(other)
            if self._worker >= 0:
                os.close(self._worker)
            self._wakeups.close()
            if self._switch is not None:
                self._switch.close()
            os.close(self._remover.wake_read_fd)
            place = Place(User(*user) if user is not None else None, self._groups.of_slot(slot))
            serve(sock, root, slot, sweep_slots, place, self._remover.trash(root))
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a forked process
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for pid, status in self._tree.reap():
            slot = self._runners.pop(pid, None)
            self._condemned.discard(pid)
            if slot is not None:
                self._dead.append((slot, status))
            elif pid == self._remover.pid:
                aside = self._remover.ended(status)
                if aside:
                    self._channel.post((frames.ASIDE, aside))

    def _end_stopped_runners(self) -> None:
        """Kill those that cannot end their tasks at the end of the lease."""
        if self._lease is None or linux.machine_clock() < self._lease + _LATE_SECONDS:
            return
        for pid in self._runners:
            if linux.is_stopped(pid):
                linux.kill_process(pid, signal.SIGKILL)
                self._condemned.add(pid)

    def _end_idle_runners_that_stand_still(self) -> None:
        """Kill those that nobody asks: the worker asks the busy ones, and is sooner.

        A task of another slot can stop one, which would take none any more.
        """
        standing = [pid for pid in self._runners if linux.is_stopped(pid)]
        self._stopped = {pid: self._stopped.get(pid, 0) + 1 for pid in standing}
        for pid, times in self._stopped.items():
            if times >= _STANDS_STILL:
                linux.kill_process(pid, signal.SIGKILL)
                self._condemned.add(pid)

    def _sweep(self) -> None:
        """Kill what dead runners left; say "lost" when nothing of it is there any more.

        A process that traces its runner holds back the news of its end: so what was left is looked
        for as soon as a runner is known to be killed.
        """
        self._reap()
        if not self._dead and not self._condemned:
            return
        if self._orphans():
            if self._round >= GROUP_FROM_ROUND:
                self._kill_groups(slot for slot, _ in self._dead)
            tree.kill_round(self._round, self._kept())
            self._round += 1
            self._reap()
        if not self._orphans():
            for slot, status in self._dead:
                self._channel.post((frames.LOST, slot, status))
            self._dead.clear()
            self._round = 0

    def _kill_groups(self, slots: Iterable[int]) -> None:
        for slot in slots:
            groups = self._groups.of_slot(slot)
            if groups is not None:
                groups.kill()

    def _orphans(self) -> bool:
        # Exact, as entries leave only when this process waits (see `children_of`).
        kept = self._kept()
        return any(pid not in kept for pid in linux.children_of(os.getpid()))

    def _kept(self) -> frozenset[int]:
        remover = self._remover.pid
        return frozenset((*self._runners, remover) if remover else self._runners)

    def _end_everything(self) -> None:
        patience = _QUITTING_RUNNER_SECONDS if self._quitting else _ORPHANED_RUNNER_SECONDS
        limit = time.monotonic() + patience
        number = 0
        if self._quitting:
            self._remover.start()
        while True:
            self._reap()
            in_time = time.monotonic() < limit
            if in_time and self._quitting:
                self._remover.heed()
            if self._tree.empty and not self._remover.pid:
                return
            keep = self._kept() if in_time else frozenset[int]()
            orphans = not keep or self._orphans()
            if orphans:
                if number >= GROUP_FROM_ROUND and not keep:
                    self._kill_groups(set(self._runners.values()))
                tree.kill_round(number, keep)
                number += 1
            self._prove_life()
            wait = limit - time.monotonic()
            self._wait(round_pause_seconds(number) if orphans else min(_LOOK_SECONDS / 2, wait))

    def _wait(self, seconds: float) -> None:
        select.select([self._wakeups.read_fd], [], [], max(0.0, seconds))
        self._wakeups.drain()

    def _speak(self, argv: list[str], env: dict[str, str]) -> None:
        """Run the epitaph, with everything dead, and let it not outlive its time."""
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL) as speaker:
            try:
                speaker.wait(_EPITAPH_SECONDS)
            except subprocess.TimeoutExpired:
                speaker.kill()


def main(control_fd: int, worker_pid: int, token: str, *, first: bool, isolate: bool) -> int:
    """Life of the guardian; its exit status.

    Args:
        control_fd: channel to the worker.
        worker_pid: the worker, which must be the parent.
        token: name of the engine's root in control groups; empty to use none.
        first: False when runners of an earlier guardian may be alive.
        isolate: run everything in a PID namespace, so that the kernel ends all at once.
    """
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for name in os.listdir("/proc/self/fd"):
        # Locks of the worker are held by being open here; no task may get them.
        if int(name) > 2:
            _close_on_exec(int(name))
    control = socket.socket(fileno=control_fd)
    groups = Groups()
    try:
        # A task can stop this process, which would then hold the locks of a dead worker for ever.
        linux.go_on_without_parent()
        worker = _watch(worker_pid)
        groups = cgroups.find(token, worker_pid, first=first)
        abilities: dict[str, object] = {
            "subreaper": True,
            "children_file": linux.has_children_file(),
            "pidfd": linux.has_pidfd(),
            "splice": hasattr(os, "splice"),
            "isolated": False,
            "no_namespace": "",
            "first_pid": 0,
            "kernel_timer": False,
            **groups.abilities(),
        }
        if isolate:
            return _live_isolated(control, worker, groups, abilities)
        if first:  # later ones tell nobody
            abilities["no_namespace"] = isolation.probe()
        linux.become_subreaper()
        Guardian(control, worker, groups, abilities).run()
    except Closed as problem:
        print(f"guardian: {problem}", file=sys.stderr)  # noqa: T201 - it has no logger
        return 1
    finally:
        groups.remove()
    return 0


def _live_isolated(
    control: socket.socket, worker: int, groups: Groups, abilities: dict[str, object]
) -> int:
    """Wait for a guardian that is the first process of a namespace, and hold its timer.

    The timer is out here, as the kernel does not let the first process be killed from inside.
    """
    # Two of the C library's calls that a probe has tried: what fails later ends the guardian.
    timer = KernelTimer() if kernel_timer.probe() else None
    switch = DeadMansSwitch()

    def live() -> None:
        linux.become_subreaper()
        told = {**abilities, "isolated": True, "first_pid": isolation.outer_pid()}
        told["kernel_timer"] = timer is not None
        isolation.mount_proc()
        switch.take_telling_end()
        Guardian(control, worker, groups, told, switch if timer is not None else None).run()

    try:
        pid = isolation.fork_isolated(live)
    except OSError as problem:
        told = {**abilities, "no_namespace": str(problem)}
        Channel(control).send((frames.HELLO, told))
        return 1
    # The end of the channel is to be the end of the other one.
    control.close()
    if worker >= 0:
        os.close(worker)
    if timer is not None:
        switch.obey(timer)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _watch(worker_pid: int) -> int:
    """A descriptor that is readable when the worker has died, or -1.

    The end of the channel does not come while a forked copy of the worker holds it.
    """
    if not linux.has_pidfd():
        return -1
    try:
        held = os.pidfd_open(worker_pid)
    except ProcessLookupError:
        raise Closed("the worker died during the start") from None
    if os.getppid() != worker_pid:
        raise Closed("the worker died during the start")
    return held


def _close_on_exec(fd: int) -> None:
    try:
        os.set_inheritable(fd, False)
    except OSError:
        return  # the listing's own descriptor, closed by now
