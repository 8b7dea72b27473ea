"""What is run and how it ended: values at the border of the engine.

Times are instants of the machine clock (seconds since boot, suspension included). They are for
ages only: a worker's clock is never stored.
"""

import math
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct, field

from mitosis.processes.guard.linux import machine_clock

Cause = Literal["own", "timeout", "cancel", "lease", "shutdown"]
Output = Literal["tail", "file"]
Part = Literal["work", "result", "exec", "resource", "output"]
StreamName = Literal["stdout", "stderr"]
#: Stages of a start. A fault of `folder` or `output` is the worker's, not the task's; at `lease`
#: the right to run had ended before.
Stage = Literal["arguments", "folder", "output", "program", "exec", "lease"]


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
        cap_bytes: size at which a file of output ends, exact; None for no limit.
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


class Lost(Struct, frozen=True, tag="lost"):
    """The runner died, so nobody knows how the task ended; the task is dead too."""

    text: str


Outcome = Exited | Signaled | SpawnFailed | Lost


class StreamResult(Struct, frozen=True):
    """What became of one stream.

    Attributes:
        kept_bytes: size of the file, or of the tail when no file was asked for.
        dropped_bytes: what came besides.
        write_errno: error that ended the file early (disk full, for instance), or 0.
        tail: the last bytes of the stream, exactly as written.
    """

    kept_bytes: int = 0
    dropped_bytes: int = 0
    write_errno: int = 0
    tail: bytes = b""


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
        folder: of the slot, valid until the release.
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
    folder: Path

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
    """

    subreaper: bool
    children_file: bool
    pidfd: bool
    splice: bool
