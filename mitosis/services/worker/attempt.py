"""One attempt that a worker holds, and where it is."""

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from mitosis.contract.work import Assignment, CancelAttempt
from mitosis.processes.runs import Cause
from mitosis.services.worker.drafts import Draft, Key
from mitosis.services.worker.masking import Masking

NO_SECRETS: Mapping[str, str] = MappingProxyType({})


class Phase(enum.Enum):
    """Where an attempt is."""

    WAITING = "waiting"
    LINED_UP = "lined up"  # until it is heard that it has begun
    RUNNING = "running"
    DELIVERING = "delivering"
    REPORTED = "reported"


class RunHandle(Protocol):
    """What the core needs of a run of the engine."""

    started_at: float

    def stop(
        self, cause: Cause, grace_seconds: float | None = None, stop_signal: int | None = None
    ) -> None:
        """Ask it to end."""

    def recall(self) -> None:
        """Ask for it back, if it is lined up and has not begun."""

    def release(self, *, wipe: bool = False) -> None:
        """Give its folder back."""


class Attempt:
    """One attempt that this worker holds."""

    __slots__ = ("arrival", "assigned_at", "assignment", "dropped", "key", "masking", "obeyed",
                 "phase", "refused", "run", "secrets")  # fmt: skip

    def __init__(
        self,
        assignment: Assignment,
        now: float,
        secrets: Mapping[str, str] = NO_SECRETS,
        arrival: int = 0,
    ) -> None:
        self.assignment = assignment
        self.arrival = arrival
        self.secrets = secrets
        self.masking = Masking(secrets.values()) if secrets else None
        self.key: Key = (assignment.task, assignment.attempt)
        self.assigned_at = now
        self.phase = Phase.WAITING
        self.obeyed: CancelAttempt | None = None
        self.dropped = False
        self.refused = False
        self.run: RunHandle | None = None

    def draft(self) -> Draft:
        """An empty report about it."""
        return Draft(self.assignment.task, self.assignment.group, self.assignment.attempt)

    @property
    def in_a_slot(self) -> bool:
        """Whether a runner has it, and may have begun it."""
        return self.phase in {Phase.LINED_UP, Phase.RUNNING}
