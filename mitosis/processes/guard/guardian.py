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

from . import frames, linux, tree
from .frames import Channel, Closed, Message
from .job import round_pause_seconds
from .runner import Wakeups, serve

#: Runners that see the end of their channel need milliseconds. One that does not see it (stopped
#: by its task, or its channel held by a copy of the worker) is killed, and swept from here.
_ORPHANED_RUNNER_SECONDS = 0.5
#: Asked to quit, runners also remove folders.
_QUITTING_RUNNER_SECONDS = 70.0
_EPITAPH_SECONDS = 30.0
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Guardian:
    """Loop of the guardian process."""

    def __init__(self, control: socket.socket, worker_pid: int) -> None:
        self._channel = Channel(control)
        self._wakeups = Wakeups()
        self._runners: dict[int, int] = {}
        self._dead: list[tuple[int, int]] = []
        self._round = 0
        self._epitaph: tuple[list[str], dict[str, str]] | None = None
        self._quitting = False
        self._tree = tree.Tree()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._wakeups.read_fd, select.POLLIN)
        self._worker = self._watch(worker_pid)

    def _watch(self, worker_pid: int) -> int:
        """A descriptor that is readable when the worker has died.

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
        self._poll.register(held, select.POLLIN)
        return held

    def run(self) -> None:
        """Serve until the worker says "quit" or dies; afterwards nothing of it is alive."""
        abilities = {
            "subreaper": True,
            "children_file": linux.has_children_file(),
            "pidfd": linux.has_pidfd(),
            "splice": hasattr(os, "splice"),
        }
        try:
            self._channel.send((frames.HELLO, abilities))
            while not self._quitting:
                self._turn()
        except Closed:
            pass  # the worker died: what it ran must die too
        self._end_everything()
        if not self._quitting and self._epitaph is not None:
            self._speak(*self._epitaph)

    def _turn(self) -> None:
        wait = round_pause_seconds(self._round) * 1000 + 1 if self._dead else None
        for fd, event in self._poll.poll(wait):
            if fd == self._worker:
                raise Closed("the worker died")
            if fd == self._wakeups.read_fd:
                self._wakeups.drain()
            elif event & ~select.POLLOUT:
                for message in self._channel.receive_with_descriptors():
                    self._obey(message)
        self._sweep()
        writing = not self._channel.flush()
        mask = select.POLLIN | select.POLLOUT if writing else select.POLLIN
        self._poll.modify(self._channel, mask)

    def _obey(self, message: Message) -> None:
        kind = message[0]
        if kind == frames.FORK:
            self._fork(message[1], message[2], message[3])
        elif kind == frames.KILL:
            for pid, slot in self._runners.items():
                if slot == message[1]:
                    linux.kill_process(pid, signal.SIGKILL)
        elif kind == frames.EPITAPH:
            self._epitaph = (message[1], message[2])
        elif kind == frames.QUIT:
            self._quitting = True
        else:
            raise ValueError(f"message of unknown kind {kind}")

    def _fork(self, slot: int, root: bytes, sweep_slots: int | None) -> None:
        sock = socket.socket(fileno=self._channel.descriptors.popleft())
        pid = os.fork()
        if pid:
            sock.close()
            self._runners[pid] = slot
            return
        code = 1
        try:
            self._channel.close()
            for other in self._channel.descriptors:
                os.close(other)
            if self._worker >= 0:
                os.close(self._worker)
            self._wakeups.close()
            serve(sock, root, slot, sweep_slots)
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a forked process
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for pid, status in self._tree.reap():
            slot = self._runners.pop(pid, None)
            if slot is not None:
                self._dead.append((slot, status))

    def _sweep(self) -> None:
        """Kill what dead runners left; say "lost" when nothing of it is there any more."""
        self._reap()
        if not self._dead:
            return
        if self._orphans():
            tree.kill_round(self._round, frozenset(self._runners))
            self._round += 1
            self._reap()
        if not self._orphans():
            for slot, status in self._dead:
                self._channel.post((frames.LOST, slot, status))
            self._dead.clear()
            self._round = 0

    def _orphans(self) -> bool:
        # Exact, as entries leave only when this process waits (see `children_of`).
        return any(pid not in self._runners for pid in linux.children_of(os.getpid()))

    def _end_everything(self) -> None:
        patience = _QUITTING_RUNNER_SECONDS if self._quitting else _ORPHANED_RUNNER_SECONDS
        limit = time.monotonic() + patience
        number = 0
        self._reap()
        while not self._tree.empty:
            keep = frozenset(self._runners) if time.monotonic() < limit else frozenset[int]()
            orphans = not keep or self._orphans()
            if orphans:
                tree.kill_round(number, keep)
                number += 1
            self._wait(round_pause_seconds(number) if orphans else limit - time.monotonic())
            self._reap()

    def _wait(self, seconds: float) -> None:
        select.select([self._wakeups.read_fd], [], [], max(0.0, seconds))
        self._wakeups.drain()

    def _speak(self, argv: list[str], env: dict[str, str]) -> None:
        """Run the epitaph, with everything dead, and let it not outlive its time."""
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)
        with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL) as speaker:
            try:
                speaker.wait(_EPITAPH_SECONDS)
            except subprocess.TimeoutExpired:
                speaker.kill()


def main(control_fd: int, worker_pid: int) -> int:
    """Life of the guardian; its exit status."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    for name in os.listdir("/proc/self/fd"):
        # Locks of the worker are held by being open here; no task may get them.
        if int(name) > 2:
            _close_on_exec(int(name))
    control = socket.socket(fileno=control_fd)
    linux.become_subreaper()
    try:
        Guardian(control, worker_pid).run()
    except Closed as problem:
        print(f"guardian: {problem}", file=sys.stderr)  # noqa: T201 - it has no logger
        return 1
    return 0


def _close_on_exec(fd: int) -> None:
    try:
        os.set_inheritable(fd, False)
    except OSError:
        return  # the listing's own descriptor, closed by now
