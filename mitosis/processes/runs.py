"""What is run and how it ended: values at the border of the engine.

Times are instants of the machine clock (seconds since boot, suspension included). They are for
ages only: a worker's clock is never stored.
"""

import math
import pwd
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from mitosis.domain.resources import Limits
from mitosis.errors import InvalidInput
from mitosis.processes.guard.linux import machine_clock

Cause = Literal["own", "timeout", "cancel", "lease", "shutdown"]
Output = Literal["tail", "file"]
Part = Literal["work", "result", "exec", "resource", "tmp", "output"]
StreamName = Literal["stdout", "stderr"]
#: Stages of a start. At `lease` the right to run had ended before; `machine` has no process,
#: memory or descriptor left; `limits` and `user` are what the worker was told to set.
Stage = Literal[
    "arguments", "folder", "output", "machine", "limits", "user", "program", "exec", "lease"
]
#: A fault at these is the worker's, not the task's: the task can run elsewhere.
WORKER_STAGES: frozenset[Stage] = frozenset({"folder", "output", "machine", "limits", "user"})
#: `machine_memory`: the kernel killed for want of memory while the task ran, probably this task.
LimitName = Literal["memory", "cpu", "processes", "open_files", "file_size", "machine_memory"]

#: The tail is held in memory by runner and worker.
MAX_TAIL_BYTES = 1 << 20
_STOP_SIGNALS = frozenset(int(number) for number in signal.valid_signals())


class RunSpec(Struct, frozen=True, kw_only=True):
    """One program to run.

    Attributes:
        argv: program and arguments; a program without a slash is looked up in PATH of `env`.
        env: the complete environment; nothing is added but `directory_env`.
        timeout_seconds: time to the polite stop; None for no limit.
        grace_seconds: time between the polite stop and the kill.
        stop_signal: signal of the polite stop, sent once to each process of the tree.
        output: `tail` keeps the last bytes in memory, `file` writes `output/stdout.log` and
            `output/stderr.log` and keeps the tail besides.
        tail_bytes: size of the kept tail of each stream.
        cap_bytes: how much of a stream its file keeps, exact; None for all. Of a longer stream the
            head and the end are kept, with a line between them that says how much is missing.
        cap_end_bytes: how much of the cap is for the end, at most half of it.
        limits: what the task may use at most; None, not one without values, for no limit.
            `Abilities` says how each is kept.
        directory_env: names of variables that get the path of a part of the slot's folder.
    """

    argv: list[str]
    env: dict[str, str]
    timeout_seconds: float | None = None
    grace_seconds: float = 10.0
    stop_signal: int = signal.SIGTERM
    output: Output = "tail"
    tail_bytes: int = 4096
    cap_bytes: int | None = None
    cap_end_bytes: int = 1 << 16
    limits: Limits | None = None
    directory_env: Mapping[Part, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what no runner can do.

        Raises:
            ValueError: a value is out of its range.
        """
        if not 0 <= self.tail_bytes <= MAX_TAIL_BYTES:
            raise ValueError(f"tail_bytes is {self.tail_bytes}, not between 0 and {MAX_TAIL_BYTES}")
        if self.cap_bytes is not None and self.cap_bytes < 0:
            raise ValueError(f"cap_bytes is {self.cap_bytes}, must not be negative")
        if not 0 <= self.cap_end_bytes <= MAX_TAIL_BYTES:
            raise ValueError(
                f"cap_end_bytes is {self.cap_end_bytes}, not between 0 and {MAX_TAIL_BYTES}"
            )
        if self.limits is not None:
            try:
                self.limits.check()
            except InvalidInput as error:
                raise ValueError(error.message) from error
        if self.stop_signal not in _STOP_SIGNALS:
            raise ValueError(f"stop_signal is {self.stop_signal}, which is no signal to send")
        for name, value in (("timeout", self.timeout_seconds), ("grace", self.grace_seconds)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name}_seconds is {value}, must be finite and not negative")


class Exited(Struct, frozen=True, tag="exited"):
    """The main process ended by itself with an exit code."""

    code: int


class Signaled(Struct, frozen=True, tag="signaled"):
    """The main process was ended by a signal."""

    number: int
    core_dumped: bool = False


class SpawnFailed(Struct, frozen=True, tag="spawn_failed"):
    """Nothing was started."""

    stage: Stage
    errno: int
    text: str

    @property
    def is_worker_fault(self) -> bool:
        """Whether the same task could start elsewhere."""
        return self.stage in WORKER_STAGES


class Lost(Struct, frozen=True, tag="lost"):
    """The runner died, so nobody knows how the task ended; the task is dead too.

    `by_task`: by a signal, which the task could have sent: it has the same user.
    """

    text: str
    by_task: bool = False


class NotBegun(Struct, frozen=True, tag="not_begun"):
    """It was lined up and has come back: recalled, stopped, or not to be had in a clean folder."""


Outcome = Exited | Signaled | SpawnFailed | Lost | NotBegun


class StreamResult(Struct, frozen=True):
    """What became of one stream.

    Attributes:
        kept_bytes: size of the file, or of the tail when no file was asked for.
        dropped_bytes: what came besides.
        write_errno: error that ended the file early (disk full, for instance), or 0.
        tail: the last bytes of the stream, exactly as written; more than asked for when somebody
            followed it.
        head_bytes: bytes at the start of the file that are those of the stream; what is kept
            besides stands at the end of the file, behind the line that says what is missing.
    """

    kept_bytes: int = 0
    dropped_bytes: int = 0
    write_errno: int = 0
    tail: bytes = b""
    head_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """What the task wrote."""
        return self.kept_bytes + self.dropped_bytes


class Survivor(Struct, frozen=True):
    """A process that could not be killed."""

    pid: int
    uid: int
    name: str

    def __str__(self) -> str:
        try:
            owner = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            owner = f"user {self.uid}"
        return f"process {self.pid} ({self.name}) belongs to {owner} and could not be stopped"


class RunResult(Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        outcome: what happened to the main process.
        cause: who wanted it: the program itself, or which stop.
        started_at: instant of the start on the machine clock.
        ended_at: instant of the main process's end.
        wall_seconds: time between the two, by the monotonic clock.
        user_cpu_seconds: of the whole tree, orphans included.
        system_cpu_seconds: the same in the kernel.
        max_rss_bytes: of the largest single process; never below that of the runner (10 MB).
        leftovers_killed: processes that had to be killed after the main process.
        tree_clean: nothing of the tree is alive. False only after a minute of killing; the slot
            stays taken until the tree is dead.
        limits_hit: limits that the task ran into, whatever its outcome.
        limits: those that held for it.
        survivors: what could not be killed, when the tree is not clean; the first ten.
        mounts: mount points that the task had left in its folder.
        mounts_gone: they are unmounted. Else its files are kept and the slot gets another folder.
        folder: of the slot, valid until the release.
        left_nothing: the folder is as it was before the start: there is nothing to look for in it.
    """

    outcome: Outcome
    cause: Cause
    started_at: float
    ended_at: float
    wall_seconds: float = 0.0
    user_cpu_seconds: float = 0.0
    system_cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    stdout: StreamResult = StreamResult()
    stderr: StreamResult = StreamResult()
    leftovers_killed: int = 0
    tree_clean: bool = True
    limits_hit: tuple[LimitName, ...] = ()
    limits: Limits | None = None
    survivors: tuple[Survivor, ...] = ()
    mounts: tuple[Path, ...] = ()
    mounts_gone: bool = True
    folder: Path
    left_nothing: bool = False

    def started_age_seconds(self, now: float | None = None) -> float:
        """Seconds from the start to `now` on the machine clock, or to the call."""
        return (machine_clock() if now is None else now) - self.started_at

    def ended_age_seconds(self, now: float | None = None) -> float:
        """Seconds from the end to `now` on the machine clock, or to the call."""
        return (machine_clock() if now is None else now) - self.ended_at


class Abilities(Struct, frozen=True):
    """What this machine can guarantee, found out by doing it at the start.

    Attributes:
        subreaper: orphans of a task are adopted, so the end of a tree is proven.
        children_file: children are listed by the kernel; without it the whole /proc is scanned.
        pidfd: signals below the children reach the process that was meant.
        splice: output goes to files without passing through a process.
        isolated: all runs in a PID namespace: it dies as a whole, whatever is killed.
        no_namespace: why there can be no PID namespace; empty when there can.
        first_pid: of the namespace, as seen from outside; 0 without one.
        kernel_timer: where all is isolated, the kernel ends it at the end of the lease, even when
            everybody who could is frozen.
        cgroup_kill: a tree is killed as a group: no fork and no other user escapes. What a worker
            and helpers that were killed at once leave is killed when a worker starts again with
            the same folder.
        memory_group: limits of memory are kept by the kernel for the tree; else by each process,
            and the sum is watched.
        processes_group: the same for the number of processes; else it is watched only.
    """

    subreaper: bool
    children_file: bool
    pidfd: bool
    splice: bool
    isolated: bool = False
    no_namespace: str = ""
    first_pid: int = 0
    kernel_timer: bool = False
    cgroup_kill: bool = False
    memory_group: bool = False
    processes_group: bool = False

    def guarantees(self) -> list[str]:
        """What holds on this machine, a sentence each."""
        if self.isolated:
            death = "at once, by the kernel (PID namespace)"
        elif self.cgroup_kill:
            death = "before a worker starts again in its folder (control group)"
        else:
            death = "before a worker starts again in its folder, unless it hides"
        frozen = "goes on until one of them does (--isolate pid ends it with the lease)"
        if self.isolated:
            frozen = "goes on until one of them does (no timer of the kernel here)"
        if self.kernel_timer:
            frozen = "is killed at the end of the lease, by the kernel (timer)"
        if self.no_namespace:
            death += f"; no PID namespace here: {self.no_namespace}"
        return [
            "worker, guardian or runners killed: what they ran dies with them",
            f"all of them killed in one moment: what they ran dies {death}",
            f"all of them frozen in one moment: what they run {frozen}",
            f"limit of memory: {_kept(self.memory_group)}",
            f"limit of processes: {_kept(self.processes_group)}",
            "limit of CPU time: of the tree, counted by the runner",
            "limits of open files and file size: of each process, by the kernel",
        ]


def _kept(by_group: bool) -> str:
    return "of the tree, by the kernel" if by_group else "of the tree, watched ten times a second"
