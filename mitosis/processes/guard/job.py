"""One task in a runner: from the spawn to the proof that nothing of it is left."""

import os
import signal
import time

from . import linux, tree
from .capture import Stream
from .folders import SlotFolder
from .frames import ENDED, Message
from .spawn import SpawnError, prefer_for_oom_kill, spawn

OWN, TIMEOUT, CANCEL, LEASE, SHUTDOWN = "own", "timeout", "cancel", "lease", "shutdown"

RUNNING, STOPPING, KILLING, OVER = range(4)

#: After this long the task is reported with `tree_clean` false; the kill goes on.
KILL_LIMIT_SECONDS = 60.0
#: Pause between two rounds of the kill, by the number of the round.
_ROUND_SECONDS = ((20, 0.001), (200, 0.005), (1 << 30, 0.1))


def round_pause_seconds(number: int) -> float:
    """How long to wait for a child to end before the next round of the kill."""
    return next(pause for limit, pause in _ROUND_SECONDS if number < limit)


class Job:
    """State of the one task that a runner has."""

    def __init__(self, message: Message, folder: SlotFolder) -> None:
        (
            _,
            self.run,
            self._argv,
            self._env,
            self._timeout,
            self._grace,
            self._stop_signal,
            self._to_file,
            self._tail_bytes,
            self._cap,
        ) = message
        self._folder = folder
        self._tree = tree.Tree()
        self.phase = RUNNING
        self.pid = 0
        self.started_at = 0.0
        self.streams: list[Stream] = []
        self._cause = OWN
        self._outcome: Message | None = None
        self._started = 0.0
        self._wall = 0.0
        self._ended_at = 0.0
        self._deadline: float | None = None
        self._kill_at = 0.0
        self._give_up_at = 0.0
        self._round = 0
        self._leftovers = 0
        self.reported = False
        #: Reported while some of the tree was alive: its folder is not used again.
        self.reported_late = False

    def start(self, lease: float | None) -> None:
        """Spawn the program.

        Raises:
            SpawnError: nothing was started, nothing stays open.
        """
        self.started_at = linux.machine_clock()
        self._started = time.monotonic()
        if lease is not None and self.started_at >= lease:
            raise SpawnError("lease", 0, "the right to run ended before the start")
        try:
            self._open_streams()
            out, err = self.streams
            self.pid = spawn(
                self._argv, self._env, self._folder.part("work"), out.write_fd, err.write_fd
            )
        except BaseException:
            self.close()
            raise
        for stream in self.streams:
            stream.close_write_end()
        prefer_for_oom_kill(self.pid)
        if self._timeout is not None:
            self._deadline = self._started + self._timeout

    def _open_streams(self) -> None:
        try:
            for name in ("stdout", "stderr"):
                path = self._folder.part("output") + b"/%b.log" % name.encode()
                self.streams.append(
                    Stream(path if self._to_file else None, self._cap, self._tail_bytes)
                )
        except OSError as problem:
            text = f"output of the task: {problem.strerror}"
            raise SpawnError("output", problem.errno or 0, text) from problem

    def close(self) -> None:
        """Close what the job holds open."""
        for stream in self.streams:
            stream.close()
        self.streams.clear()

    def refusal(self, problem: SpawnError, untouched: bool) -> Message:
        """What is said of a task that was not started."""
        self._outcome = ("spawn_failed", problem.stage, problem.number, problem.text)
        self._ended_at = linux.machine_clock()
        if problem.stage == "lease":
            self._cause = LEASE
        self._tree.empty = True
        return self._report(untouched)

    def next_wake(self, lease: float | None) -> float | None:
        """Seconds until the job wants `advance`, if nothing happens; None for no limit."""
        if self.phase == KILLING:
            return round_pause_seconds(self._round)
        limits = []
        now = time.monotonic()
        if self.phase == STOPPING:
            limits.append(self._kill_at - now)
        elif self._deadline is not None:
            limits.append(self._deadline - now)
        if lease is not None:
            # Waiting does not count suspension, the lease does: look at least every second.
            limits.append(min(1.0, lease - linux.machine_clock()))
        return max(0.0, min(limits)) if limits else None

    def stop(self, cause: str, grace: float | None) -> None:
        """Begin the polite stop, or shorten the grace of one that has begun."""
        if self.phase in {KILLING, OVER}:
            return
        grace = self._grace if grace is None else grace
        kill_at = time.monotonic() + grace
        if self.phase == STOPPING:
            self._kill_at = min(self._kill_at, kill_at)
            return
        self._cause = cause
        self._kill_at = kill_at
        self.phase = STOPPING
        if grace > 0:
            tree.signal_tree(self._stop_signal)

    def kill(self, cause: str) -> None:
        """End the tree without grace."""
        if self.phase != OVER:
            self._cause = cause
            self._begin_kill()

    def advance(self, lease: float | None) -> bool:
        """Reap and let the timers act; whether nothing of the tree is left."""
        self._reap()
        if not self._tree.empty and self.phase != KILLING:
            self._let_timers_act(lease)
        if self.phase == KILLING and not self._tree.empty:
            tree.kill_round(self._round)
            self._round += 1
            self._reap()
        return self._tree.empty

    def overdue(self) -> bool:
        """Whether the kill has taken so long that the task is reported with its tree alive."""
        return self.phase == KILLING and time.monotonic() > self._give_up_at

    def report(self, untouched: bool) -> Message:
        """Close the output and say how the task ended."""
        for stream in self.streams:
            stream.drain()
        self.reported = True
        self.reported_late = not self._tree.empty
        if self._tree.empty:
            self.phase = OVER
        message = self._report(untouched and self._tree.empty)
        self.close()
        return message

    def _let_timers_act(self, lease: float | None) -> None:
        now = time.monotonic()
        if lease is not None and linux.machine_clock() >= lease:
            self.kill(LEASE)
        elif self.phase == RUNNING and self._outcome is not None:
            self._begin_kill()
        elif self.phase == RUNNING and self._deadline is not None and now >= self._deadline:
            self.stop(TIMEOUT, None)
        if self.phase == STOPPING and now >= self._kill_at:
            self._begin_kill()

    def _begin_kill(self) -> None:
        if self.phase != KILLING:
            self.phase = KILLING
            self._give_up_at = time.monotonic() + KILL_LIMIT_SECONDS

    def _reap(self) -> None:
        for pid, status in self._tree.reap():
            if pid == self.pid:
                self._wall = time.monotonic() - self._started
                self._ended_at = linux.machine_clock()
                if os.WIFSIGNALED(status):
                    self._outcome = ("signaled", os.WTERMSIG(status), os.WCOREDUMP(status))
                else:
                    self._outcome = ("exited", os.WEXITSTATUS(status))
            elif self.phase == KILLING and os.WIFSIGNALED(status):
                self._leftovers += os.WTERMSIG(status) == signal.SIGKILL

    def _report(self, untouched: bool) -> Message:
        usage = self._tree
        outcome = self._outcome or ("lost", "the main process could not be killed")
        return (
            ENDED,
            self.run,
            outcome,
            self._cause,
            self.started_at,
            self._ended_at or linux.machine_clock(),
            self._wall or time.monotonic() - self._started,
            usage.user_seconds,
            usage.system_seconds,
            usage.max_rss_kib * 1024,
            tuple(stream.counts() for stream in self.streams),
            self._leftovers,
            usage.empty,
            untouched,
        )
