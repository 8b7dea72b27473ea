"""What is to be run, and how it ends: the words of tasks."""

from enum import StrEnum

import msgspec

from mitosis.domain.limits import (
    DEFAULT_MAX_LOSSES,
)
from mitosis.domain.nearest import one_of
from mitosis.domain.resources import (
    DEFAULT_GRACE_SECONDS,
    DEFAULT_STOP_SIGNAL,
    NO_LIMITS,
    Limits,
)
from mitosis.domain.retry import NO_RETRY, Retry
from mitosis.domain.watch import Watch
from mitosis.errors import InvalidInput

MAX_WARNINGS = 20
MAX_EXACT = 2**53 - 1  # the largest whole number that every JSON reader keeps
MAX_TAIL_BYTES = 4_096
DEFAULT_TIMEOUT_SECONDS = 600.0  # as in the original: 10min


class TaskState(StrEnum):
    """Where a task is."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether it can never change again."""
        return self in {TaskState.FINISHED, TaskState.CANCELLED}


UNKNOWN_STATE = "unknown"  # of the original, which never writes it: a filter that fits nothing


def check_state(text: str) -> str:
    """Return the name of a state that tasks can be filtered by.

    Raises:
        InvalidInput: No such state.
    """
    names = [*(state.value for state in TaskState), UNKNOWN_STATE]
    if text not in names:
        raise InvalidInput(
            f"{text[:40]!r} is no state of a task: {one_of(text[:40], names)}", field="state"
        )
    return text


class Outcome(StrEnum):
    """How a task ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    CANCELLED = "cancelled"
    ERROR = "error"

    @property
    def state(self) -> TaskState:
        """The terminal state that this outcome leads to."""
        ran = self in {Outcome.SUCCEEDED, Outcome.FAILED}
        return TaskState.FINISHED if ran else TaskState.CANCELLED


class ArtifactKind(StrEnum):
    """What an artifact of a task holds."""

    RESULT = "result"
    EXEC_LOG = "exec-log"
    STD_LOG = "std-log"

    @property
    def filename(self) -> str:
        """The name that users see."""
        return f"{self.value}.tar.gz"


def check_kind(kind: str) -> ArtifactKind:
    """Return the kind of an artifact.

    Raises:
        InvalidInput: No such kind.
    """
    try:
        return ArtifactKind(kind)
    except ValueError:
        known = one_of(str(kind)[:40], [one.value for one in ArtifactKind])
        raise InvalidInput(
            f"{str(kind)[:40]!r} is no kind of output: {known}", field="kind"
        ) from None


class ExitKind(StrEnum):
    """The three different ways in which a program ends, or does not even start."""

    CODE = "code"
    SIGNAL = "signal"
    NOT_STARTED = "not_started"


class EndCause(StrEnum):
    """What made the program end."""

    OWN = "own"
    TIMEOUT = "timeout"
    CANCEL = "cancel"
    LEASE = "lease"
    SHUTDOWN = "shutdown"


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the whole process tree used. `max_rss_bytes` is the largest single process."""

    wall_seconds: float = 0.0
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    max_rss_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0


class Exit(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the program ended. `number` is the exit code, the signal, or the errno.

    The tails are the last bytes of each stream, at most 4 KiB; NUL and bytes that are no UTF-8
    are replaced.
    """

    kind: ExitKind
    number: int = 0
    cause: EndCause = EndCause.OWN
    reason: str = ""
    usage: Usage = Usage()
    stdout_tail: str = ""
    stderr_tail: str = ""


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is to be run, and what it waits for.

    Attributes:
        limits: What it may use; where there is none, the worker's own hold.
        stop_signal: What asks it to stop at a timeout or cancel, without SIG.
        grace_seconds: Time between that and the kill.
        retry: What follows a failed attempt.
        max_losses: So many attempts may be lost with their workers; planned stops do not count.
        secrets: Names of its secret variables.
        sealing: Id under which their values are sealed; empty: there are none.
    """

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    priority: int = 0
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    terminal: bool = False
    max_losses: int = DEFAULT_MAX_LOSSES
    watch: Watch | None = None
    limits: Limits = NO_LIMITS
    stop_signal: str = DEFAULT_STOP_SIGNAL
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    retry: Retry = NO_RETRY
    secrets: tuple[str, ...] = ()
    sealing: str = ""
