"""One task in a runner: from the spawn to the proof that nothing of it is left."""

import os
import signal
import time

from . import limits, linux, tree
from .capture import Stream
from .confinement import Confinement, User
from .folders import SlotFolder
from .frames import ENDED, Message
from .limits import Watch
from .machine_memory import MachineMemory
from .mounts import mounted_below, unmount_below
from .oom_score import OomScore
from .slot_groups import SlotGroups
from .spawn import ignored_signals, spawn
from .spawn_error import SpawnError

OWN, TIMEOUT, CANCEL, LEASE, SHUTDOWN = "own", "timeout", "cancel", "lease", "shutdown"

RUNNING, STOPPING, KILLING, OVER = range(4)

#: After this long the task is reported with `tree_clean` false; the kill goes on.
KILL_LIMIT_SECONDS = 60.0
#: The same when every process that is left belongs to somebody whom this user may not kill.
REFUSED_LIMIT_SECONDS = 5.0
#: From this round on the kill is the group's, where there is one: no fork escapes it.
GROUP_FROM_ROUND = 3
#: Between SIGXCPU and the kill, for a task over its limit of CPU time.
_CPU_GRACE_SECONDS = 1.0
_TOLD_SURVIVORS = 10
#: Pause between two rounds of the kill, by the number of the round.
_ROUND_SECONDS = ((20, 0.001), (200, 0.005), (800, 0.1), (1 << 30, 1.0))


def round_pause_seconds(number: int) -> float:
    """How long to wait for a child to end before the next round of the kill."""
    return next(pause for limit, pause in _ROUND_SECONDS if number < limit)


class Place:
    """Where the tasks of a slot run, the same for all of them. Made in the runner."""

    def __init__(self, user: User | None, groups: SlotGroups | None) -> None:
        self.user = user
        self.groups = groups
        self.memory = MachineMemory()
        self.score = OomScore()
        self.ignored_signals = ignored_signals()


class Job:
    """State of the one task that a runner has."""

    def __init__(self, message: Message, folder: SlotFolder, place: Place) -> None:
        (
            _,
            self.run,
            self._argv,
            self._env,
            self._timeout,
            self._grace,
            self._stop_signal,
            self.to_file,
            self._tail_bytes,
            self._cap,
            self._end_bytes,
            self._limits,
        ) = message
        self._folder = folder
        self._place = place
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
        self._watch: Watch | None = None
        self._hits: set[str] = set()
        self._refused_since: float | None = None
        self._sent: set[int] = set()
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
        self._place.memory.refresh(self._started)
        try:
            confinement = self._confine()
            self._open_streams()
            out, err = self.streams
            work = self._folder.part("work")
            with self._place.score:
                self.pid = spawn(
                    self._argv, self._env, work, out.write_fd, err.write_fd,
                    self._place.ignored_signals, confinement,
                )  # fmt: skip
        except BaseException:
            self.close()
            raise
        if self._timeout is not None:
            self._deadline = self._started + self._timeout

    def _confine(self) -> Confinement | None:
        """Prepare what is only needed by a task with limits or with another user."""
        user, groups = self._place.user, self._place.groups
        if groups is not None:
            groups.enter()
        wanted = self._limits
        if wanted is None:
            return None if user is None else Confinement(user, [], [])
        memory = groups is not None and groups.has("memory")
        processes = groups is not None and groups.has("pids")
        joined: list[bytes] = []
        try:
            if groups is not None:
                joined = groups.limit(wanted[limits.MEMORY], wanted[limits.PROCESSES])
        except OSError as problem:
            text = f"control group of the task: {problem.strerror}"
            raise SpawnError("limits", problem.errno or 0, text) from problem
        self._watch = Watch(wanted, memory=not memory, processes=not processes, groups=groups)
        return Confinement(user, joined, limits.kernel_limits(wanted, group_has_memory=memory))

    def _open_streams(self) -> None:
        try:
            for name in (b"stdout", b"stderr"):
                file = self._folder.part("output") + b"/%b.log" % name if self.to_file else None
                self.streams.append(Stream(file, self._cap, self._tail_bytes, self._end_bytes))
        except OSError as problem:
            text = f"output of the task: {problem.strerror}"
            raise SpawnError("output", problem.errno or 0, text) from problem

    def close(self) -> None:
        """Close what the job holds open."""
        for stream in self.streams:
            stream.close()
        self.streams.clear()
        if self._limits is not None and self._place.groups is not None:
            self._place.groups.forget_limits()

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
        waits = []
        now = time.monotonic()
        if self.phase == STOPPING:
            waits.append(self._kill_at - now)
        elif self._deadline is not None:
            waits.append(self._deadline - now)
        if self._watch is not None and self.phase == RUNNING:
            waits.append(self._watch.look_at - now)
        if lease is not None:
            # Waiting does not count suspension, the lease does: look at least every second.
            waits.append(min(1.0, lease - linux.machine_clock()))
        return max(0.0, min(waits)) if waits else None

    def stop(self, cause: str, grace: float | None, number: int | None = None) -> None:
        """Begin the polite stop; or shorten the grace of one that has begun, or change its signal.

        The same order may come many times: no signal is sent twice.
        """
        if self.phase in {KILLING, OVER}:
            return
        grace = 0.0 if number == signal.SIGKILL else self._grace if grace is None else grace
        kill_at = time.monotonic() + grace
        if self.phase == STOPPING:
            self._kill_at = min(self._kill_at, kill_at)
        else:
            self._cause = cause
            self._kill_at = kill_at
            self.phase = STOPPING
            number = number or self._stop_signal
        if number is not None and number not in self._sent and grace > 0:
            self._sent.add(number)
            tree.signal_tree(number)

    def kill(self, cause: str) -> None:
        """End the tree without grace."""
        if self.phase != OVER:
            self._cause = cause
            self._begin_kill()

    def advance(self, lease: float | None, *, ended: bool) -> bool:
        """Reap and let the timers act; whether nothing of the tree is left.

        `ended`: the kernel has told of the end of a child since the last call.
        """
        if ended or self.phase == KILLING:
            self._reap()
        if not self._tree.empty and self.phase != KILLING:
            if self._is_late(lease):
                self._reap()  # who has ended by now has ended in time
            if not self._tree.empty:
                self._let_timers_act(lease)
        if self.phase == KILLING and not self._tree.empty:
            self._kill_once()
            self._reap()
        return self._tree.empty

    def overdue(self) -> bool:
        """Whether the kill has taken so long that the task is reported with its tree alive."""
        if self.phase != KILLING:
            return False
        now = time.monotonic()
        refused = self._refused_since
        return now > self._give_up_at or (
            refused is not None and now > refused + REFUSED_LIMIT_SECONDS
        )

    def drain(self) -> None:
        """Take what is left of the output."""
        for stream in self.streams:
            stream.drain()

    def report(self, untouched: bool) -> Message:
        """Close the output and say how the task ended."""
        self.reported = True
        self.reported_late = not self._tree.empty
        if self._tree.empty:
            self.phase = OVER
        message = self._report(untouched and self._tree.empty)
        self.close()
        return message

    def _is_late(self, lease: float | None) -> bool:
        """Whether the time of a program that is not known to have ended is over."""
        if self.phase != RUNNING or self._outcome is not None:
            return False
        over = self._deadline is not None and time.monotonic() >= self._deadline
        return over or (lease is not None and linux.machine_clock() >= lease)

    def _let_timers_act(self, lease: float | None) -> None:
        now = time.monotonic()
        if lease is not None and linux.machine_clock() >= lease:
            self.kill(LEASE)
        elif self.phase == RUNNING and self._outcome is not None:
            self._begin_kill()
        elif self.phase == RUNNING and self._deadline is not None and now >= self._deadline:
            self.stop(TIMEOUT, None)
        elif self._watch is not None and self.phase == RUNNING and now >= self._watch.look_at:
            self._enforce(self._watch.look(self._tree))
        if self.phase == STOPPING and now >= self._kill_at:
            self._begin_kill()

    def _enforce(self, hit: int | None) -> None:
        """End a task that is over a limit that its runner counts."""
        if hit is None:
            return
        self._hits.add(limits.NAMES[hit])
        if hit == limits.CPU:
            self.phase = STOPPING
            self._kill_at = time.monotonic() + min(self._grace, _CPU_GRACE_SECONDS)
            tree.signal_tree(signal.SIGXCPU)
        else:
            self._begin_kill()

    def _kill_once(self) -> None:
        groups = self._place.groups
        if self._round >= GROUP_FROM_ROUND and groups is not None:
            groups.kill()
        if not tree.kill_round(self._round):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = time.monotonic()
        self._round += 1

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
                    self._name_signal(os.WTERMSIG(status))
                else:
                    self._outcome = ("exited", os.WEXITSTATUS(status))
                    self._name_signal(os.WEXITSTATUS(status) - 128)
            elif self.phase == KILLING and os.WIFSIGNALED(status):
                self._leftovers += os.WTERMSIG(status) == signal.SIGKILL

    def _name_signal(self, number: int) -> None:
        """Whether the signal that ended the main process speaks of a limit.

        So does the exit code 128 + signal, by which a shell tells how its program ended.
        """
        wanted = self._limits or limits.NONE
        if number == signal.SIGXCPU and wanted[limits.CPU] is not None:
            self._hits.add("cpu")
        elif number == signal.SIGXFSZ and wanted[limits.FILE_SIZE] is not None:
            self._hits.add("file_size")
        elif number == signal.SIGKILL and self.phase == RUNNING and self._place.memory.has_killed():
            self._hits.add("machine_memory")

    def _told_hits(self) -> tuple[str, ...]:
        groups = self._place.groups
        if self._limits is not None and groups is not None:
            self._hits.update(groups.hits())
        if "memory" in self._hits:
            self._hits.discard("machine_memory")
        return tuple(sorted(self._hits))

    def _survivors(self) -> tuple[tuple[int, int, str], ...]:
        """Pid, user and name of what could not be killed."""
        if self._tree.empty:
            return ()
        found: list[tuple[int, int, str]] = []
        for pid in linux.descendants():
            uid = linux.uid_of(pid)
            if uid is not None and linux.is_alive(pid) and len(found) < _TOLD_SURVIVORS:
                found.append((pid, uid, linux.name_of(pid)))
        return tuple(found)

    def _mounts(self, untouched: bool) -> tuple[tuple[bytes, ...], bool]:
        """Take away what the task mounted in its folder, before anybody reads or empties it."""
        if untouched or not self.pid or not self._tree.empty:
            return (), True
        try:
            points = tuple(unmount_below(self._folder.path))
            return points, not points or not mounted_below(self._folder.path)
        except OSError:
            return (), False  # no descriptor left: emptying the folder looks again, or leaves it

    def _report(self, untouched: bool) -> Message:
        usage = self._tree
        by_group = (0.0, 0.0) if self._watch is None else self._watch.group_cpu_seconds()
        outcome = self._outcome or ("lost", "the main process could not be killed")
        return (
            ENDED,
            self.run,
            outcome,
            self._cause,
            self.started_at,
            self._ended_at or linux.machine_clock(),
            self._wall or time.monotonic() - self._started,
            max(usage.user_seconds, by_group[0]),
            max(usage.system_seconds, by_group[1]),
            usage.max_rss_kib * 1024,
            tuple(stream.finish() for stream in self.streams),
            self._leftovers,
            usage.empty,
            untouched,
            self._told_hits(),
            self._survivors(),
            *self._mounts(untouched),
        )
