"""Reports before they are sent: instants instead of ages, and merged while they wait."""

from collections.abc import Callable

from msgspec.structs import replace

from mitosis.contract.work import AgedStep, StoredArtifact, TaskReport
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import Exit

Key = tuple[str, int]


class Draft:
    """One report about one attempt (see `TaskReport`); `steps` hold instants of the machine clock.

    `alone`: judged by itself, so nothing is merged into it. `on_unjudged`: told how many seconds it
    took to hear that it cannot be judged just now; says whether to try again.
    """

    __slots__ = (
        "alone", "artifacts", "attempt", "before_start", "by_task", "committed", "cut_short",
        "exit", "fault", "group", "handed_back", "on_unjudged", "on_verdict", "started", "steps",
        "task", "unstored", "warnings",
    )  # fmt: skip

    def __init__(self, task: str, group: str, attempt: int) -> None:
        self.task, self.group, self.attempt = task, group, attempt
        self.steps: list[tuple[ExecutionState, float]] = []
        self.started = False
        self.exit: Exit | None = None
        self.warnings: list[str] = []
        self.artifacts: list[StoredArtifact] = []
        self.committed = False
        self.handed_back = ""
        self.fault = ""
        self.before_start = self.by_task = False
        self.cut_short = False
        self.unstored = ""
        self.alone = False
        self.on_verdict: Callable[[str], None] | None = None
        self.on_unjudged: Callable[[float], bool] | None = None

    @property
    def key(self) -> Key:
        """Which attempt it is about."""
        return (self.task, self.attempt)

    @property
    def final(self) -> bool:
        """Whether nothing can follow it."""
        return self.committed or bool(self.handed_back or self.fault)

    def goes_on(self, asked_seconds: float) -> bool:
        """Whether to try again, after an answer that did not judge it."""
        return self.on_unjudged is None or self.on_unjudged(asked_seconds)

    def merge(self, later: "Draft") -> bool:
        """Take a later report of the same attempt in; False when it must stay apart."""
        if self.alone or later.alone or self.final or self.artifacts:
            return False
        if later.started and self.exit is not None:
            return False  # parts of one report are applied in a fixed order: start before exit
        self.steps += later.steps
        self.started = self.started or later.started
        self.exit = self.exit or later.exit
        self.warnings += later.warnings
        self.committed = later.committed
        self.handed_back, self.fault = later.handed_back, later.fault
        self.before_start, self.cut_short = later.before_start, later.cut_short
        self.unstored, self.by_task = later.unstored, later.by_task
        return True

    def report(self, now: float) -> TaskReport:
        """What is sent at the instant `now`."""
        return TaskReport(
            self.task,
            self.group,
            self.attempt,
            [AgedStep(state, round(max(0.0, now - at), 6)) for state, at in self.steps],
            self.started,
            _sendable_exit(self.exit),
            [_sendable(text) for text in self.warnings],
            self.artifacts,
            self.committed,
            _sendable(self.handed_back),
            _sendable(self.fault),
            self.before_start,
            self.cut_short,
            _sendable(self.unstored),
            self.by_task,
        )


def _sendable(text: str) -> str:
    """The text with bytes that are no UTF-8 escaped, as of a path: they cannot be sent as text.

    And who cannot send one report sends none of those that follow.
    """
    if text.isascii():
        return text
    try:
        data = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return data.decode(errors="backslashreplace")


def _sendable_exit(end: Exit | None) -> Exit | None:
    if end is None or end.reason.isascii():
        return end
    return replace(end, reason=_sendable(end.reason))
