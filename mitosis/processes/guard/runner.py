"""The runner of a slot: one task at a time, from a clean folder to an empty process tree.

It is forked by the guardian, adopts every orphan of its task, holds the pipes and the timers, and
measures the lease by itself, so that a frozen or cut-off worker cannot let a task live on.
"""

import gc
import math
import os
import select
import signal
import socket
import time
from collections import deque

from . import frames, linux
from .folders import SlotFolder, Unfinished, next_folder, remains, remove_folder
from .frames import Channel, Closed, Message
from .job import LEASE, OVER, SHUTDOWN, Job, Place
from .reads import Reads
from .spawn_error import SpawnError
from .trash import REMOVED_AT_ONCE, Trash

#: A start is told to the worker with the end if that follows so soon: one wake-up less there, and
#: one report and one commit less at the coordinator.
_STARTED_DELAY_SECONDS = 0.02
_COLLECT_EVERY = 1000
#: Poll counts milliseconds in 32 bits.
_MAX_WAIT_SECONDS = 3600.0
_KEPT_ASIDE_NAMES = 100


class Wakeups:
    """A descriptor that is readable when a child has ended.

    The signal is blocked: a handler would interrupt each wait, write, and have the wait begun anew.
    """

    def __init__(self) -> None:
        # Ignored, as somebody may have left it, it would take the news of the ends away.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        self.read_fd = linux.signal_descriptor(signal.SIGCHLD)

    def drain(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while len(os.read(self.read_fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back, in a forked child that makes an own one."""
        os.close(self.read_fd)


class Runner:
    """Loop of one slot."""

    def __init__(
        self, sock: socket.socket, root: bytes, slot: int, place: Place, trash: Trash
    ) -> None:
        self._place = place
        self._trash = trash
        user = place.user
        self._owner = None if user is None else (user.uid, user.gid)
        self._reads = Reads()
        self._channel = Channel(sock)
        self._root = root
        self._slot = slot
        self._number = 0
        self._aside: list[bytes] = []
        self._job: Job | None = None
        self._lease: float | None = None
        self._clean_asked = False
        #: The last task has left something, and the worker has not said to clean.
        self._dirty = False
        self._leaving = False
        #: What begins, in its turn, when the task before it has left nothing.
        self._lined_up: deque[Message] = deque()
        #: The start of the present task, until it is told, and when that is to be.
        self._begun: Message | None = None
        self._tell_begun_at = math.inf
        self._jobs = 0
        self._readers: dict[int, Job] = {}
        self._wakeups = Wakeups()
        self._poll = select.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(self._wakeups.read_fd, select.POLLIN)
        self._writing = False
        self._folder: SlotFolder

    def run(self, sweep_slots: int | None) -> None:
        """Serve until the worker says "quit" or is gone, and nothing of a task is left.

        Args:
            sweep_slots: number of slots among which folders of earlier workers are shared out for
                removal; None after the loss of a runner, whose folder may still be needed.
        """
        if sweep_slots is not None:
            for path in remains(self._root, self._slot, sweep_slots):
                self._discard(path, REMOVED_AT_ONCE)
        self._folder, self._number = next_folder(self._root, self._slot, 0, self._owner)
        try:
            self._channel.send((frames.READY, os.getpid(), self._folder.path, self._told_aside()))
            while not (self._leaving and self._job is None):
                self._turn()
        except Closed:
            self._leave_tree_dead()

    def _turn(self) -> None:
        ended = False
        for fd, event in self._poll.poll(self._wait_milliseconds()):
            if fd == self._wakeups.read_fd:
                self._wakeups.drain()
                ended = True
            elif fd in self._readers:
                self._pump(fd)
            elif event & ~select.POLLOUT:
                for message in self._channel.receive():
                    self._obey(message)
        job = self._job
        if job is not None and job.phase != OVER:
            self._advance(job, ended)
        if self._clean_asked and (self._job is None or self._job.phase == OVER):
            self._clean()
        self._flush()
        self._begin_next()

    def _wait_milliseconds(self) -> float | None:
        wait = self._tell_begun_at
        if wait < math.inf:
            wait = max(0.0, wait - time.monotonic())
        if self._job is not None and self._job.phase != OVER:
            wake = self._job.next_wake(self._lease)
            if wake is not None:
                wait = min(wait, wake)
        # Rounded up, or the last millisecond before a deadline would be spent in a busy loop.
        return int(min(wait, _MAX_WAIT_SECONDS) * 1000) + 1 if wait < math.inf else None

    def _flush(self) -> None:
        """Send what waits; a start, when it has waited for its end."""
        if time.monotonic() >= self._tell_begun_at:
            self._post_begun()
        if not self._channel.waiting and not self._writing:
            return
        writing = not self._channel.flush()
        if writing != self._writing:
            self._writing = writing
            mask = select.POLLIN | select.POLLOUT if writing else select.POLLIN
            self._poll.modify(self._channel, mask)

    def _post_begun(self) -> None:
        if self._begun is not None:
            self._channel.post(self._begun)
            self._begun, self._tell_begun_at = None, math.inf

    def _obey(self, message: Message) -> None:
        kind = message[0]
        job = self._job
        if kind == frames.RUN:
            self._take(message)
        elif kind == frames.LEASE:
            self._lease = message[1]
        elif kind == frames.STOP:
            if job is not None and job.run == message[1]:
                job.stop(message[2], message[3], message[4])
            else:
                self._recall(message[1], all_behind=False)
        elif kind == frames.RECALL:
            self._recall(message[1], all_behind=True)
        elif kind == frames.TAIL:
            self._channel.post(
                (frames.TAILED, message[1], self._tail(message[2], message[3], message[4]))
            )
        elif kind == frames.READ:
            self._read(message)
        elif kind == frames.PING:
            self._channel.post((frames.PONG, message[1]))
        elif kind == frames.CLEAN:
            self._clean_asked = True
        elif kind == frames.DISCARD:
            # One that somebody had removed is not there: the name may be that of the present one.
            if message[1] != self._folder.path:
                self._discard(message[1], self._trash.removed_at_once())
            self._channel.post((frames.CLEANED, self._folder.path, self._told_aside()))
        elif kind == frames.QUIT:
            self._leaving = True
            self._recall_all()
            if job is not None and job.phase != OVER:
                job.stop(SHUTDOWN, 0.0)
            self._clean_asked = True
        else:
            raise ValueError(f"message of unknown kind {kind}")

    def _take(self, message: Message) -> None:
        """Line a task up, and begin it at once if nothing is before it."""
        if self._dirty or self._leaving:
            self._channel.post((frames.RECALLED, message[1]))
        else:
            self._lined_up.append(message)
            self._begin_next()

    def _begin_next(self) -> None:
        """Begin what is first in the line, when the end of the task before it is sent.

        So of what is lined up, nothing has begun when a runner dies whose last words were heard.
        """
        if self._lined_up and self._job is None and not self._writing:
            self._start(self._lined_up.popleft())

    def _recall(self, run: int, *, all_behind: bool) -> None:
        """Give a task back if it is lined up, or it and all that would begin after it."""
        numbers = [message[1] for message in self._lined_up]
        if run not in numbers:
            return
        first = numbers.index(run)
        for _ in numbers[first:] if all_behind else (run,):
            self._channel.post((frames.RECALLED, self._lined_up[first][1]))
            del self._lined_up[first]

    def _recall_all(self) -> None:
        while self._lined_up:
            self._channel.post((frames.RECALLED, self._lined_up.popleft()[1]))

    def _go_on(self, *, untouched: bool) -> None:
        """After a task was reported: begin what is lined up, if it finds the folder as new."""
        if untouched:
            self._job = None
        else:
            self._dirty = True
            self._recall_all()
        self._flush()
        self._begin_next()

    def _start(self, message: Message) -> None:
        self._jobs += 1
        if self._jobs % _COLLECT_EVERY == 0:
            gc.collect()
        job = Job(message, self._folder, self._place)
        try:
            job.start(self._lease)
        except SpawnError as problem:
            untouched = self._folder.untouched()
            self._channel.post(job.refusal(problem, untouched))
            self._go_on(untouched=untouched)
            return
        self._job = job
        for stream in job.streams:
            self._readers[stream.read_fd] = job
            self._poll.register(stream.read_fd, select.POLLIN)
        self._begun = (frames.STARTED, job.run, job.pid, job.started_at)
        self._tell_begun_at = time.monotonic() + _STARTED_DELAY_SECONDS

    def _pump(self, fd: int) -> None:
        job = self._readers[fd]
        for stream in job.streams:
            if stream.read_fd == fd:
                stream.pump()
        if self._reads.waiting:
            self._answer_reads(job)

    def _read(self, message: Message) -> None:
        job = self._job
        if job is None or job.run != message[2] or job.reported:
            self._channel.post((frames.PIECE, message[1], -1, b"", False))
            return
        for piece in self._reads.add(message, job.streams):
            self._channel.post(piece)
        self._answer_reads(job)

    def _answer_reads(self, job: Job) -> None:
        for piece in self._reads.answers(job.streams):
            self._channel.post(piece)

    def _forget(self, fd: int) -> None:
        if self._readers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _advance(self, job: Job, ended: bool) -> None:
        empty = job.advance(self._lease, ended=ended)
        if not job.reported and (empty or job.overdue()):
            for stream in job.streams:
                self._forget(stream.read_fd)
            job.drain()
            self._answer_reads(job)
            for piece in self._reads.end():
                self._channel.post(piece)
            self._report(job, untouched=empty and not job.to_file and self._folder.untouched())
        elif empty:
            job.phase = OVER

    def _report(self, job: Job, *, untouched: bool) -> None:
        self._post_begun()
        self._channel.post(job.report(untouched))
        self._go_on(untouched=untouched)

    def _tail(self, run: int, stream: int, count: int) -> bytes:
        job = self._job
        if job is None or job.run != run or job.reported:
            return b""
        return job.streams[stream].tail(count)

    def _clean(self) -> None:
        """Make the folder as new, or leave it and take another one."""
        self._clean_asked = self._dirty = False
        clean = self._job is None or not self._job.reported_late
        self._job = None
        if self._leaving:
            self._folder.close()
            self._discard(self._folder.path, REMOVED_AT_ONCE)
            return
        most = self._trash.removed_at_once()
        try:
            if not clean:
                raise OSError("the tree outlived its report")
            self._folder.wipe(most)
        except OSError:
            self._take_another_folder(most)
        except Unfinished:
            self._take_another_folder(0)
        self._channel.post((frames.CLEANED, self._folder.path, self._told_aside()))

    def _take_another_folder(self, most: int | None) -> None:
        self._folder.close()
        self._discard(self._folder.path, most)
        self._folder, self._number = next_folder(
            self._root, self._slot, self._number + 1, self._owner
        )

    def _discard(self, path: bytes, most: int | None) -> None:
        """Remove a folder, or have it removed if there is more in it than `most`.

        What refuses is left as it is, and named to the worker.
        """
        if not path.startswith(self._root + b"/slot-"):
            raise ValueError(f"not a folder of a slot: {path!r}")
        try:
            self._remove(path, most)
        except FileNotFoundError:
            return
        except OSError:
            self._aside = [*self._aside, path][-_KEPT_ASIDE_NAMES:]

    def _remove(self, path: bytes, most: int | None) -> None:
        try:
            remove_folder(path, most)
        except Unfinished:
            self._trash.take(path)

    def _told_aside(self) -> tuple[bytes, ...]:
        told = tuple(self._aside)
        self._aside.clear()
        return told

    def _leave_tree_dead(self) -> None:
        """The worker is gone: end the tree, which nobody will ask about."""
        job = self._job
        if job is None:
            return
        job.kill(LEASE)
        while not job.advance(None, ended=True):
            for stream in job.streams:
                stream.pump()
            wait = job.next_wake(None)
            select.select([self._wakeups.read_fd], [], [], wait)
            self._wakeups.drain()


def serve(
    sock: socket.socket,
    root: bytes,
    slot: int,
    sweep_slots: int | None,
    place: Place,
    trash: Trash,
) -> None:
    """Life of a runner, in the forked child.

    Raises:
        OSError: the kernel refuses what it has to ask for.
    """
    linux.become_subreaper()
    linux.go_on_without_parent()
    gc.collect()
    gc.freeze()
    gc.disable()
    if place.groups is not None:
        place.groups.enter()
    Runner(sock, root, slot, place, trash).run(sweep_slots)
