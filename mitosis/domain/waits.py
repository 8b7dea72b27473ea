"""Times in which a task waited, each for one thing; short ones become parts of others. Pure."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from mitosis.domain.watch import Watch

MAX_WAITS = 100  # beyond, the shortest ones count to those that they follow without a break
# A free slot is given out in milliseconds; a gap of that length has no cause of its own.
GAP_SECONDS = 0.1
LONGEST_SECONDS = 2.0**40


class Cause(StrEnum):
    """What a task waits for."""

    WATCH = "watch"
    RETRY = "retry"
    NO_WORKER = "no_worker"
    PAUSED = "paused"
    BUSY = "busy"
    UNREACHABLE = "unreachable"


class Unfit(msgspec.Struct, frozen=True):
    """A worker that serves the group and may not run the task all the same.

    Attributes:
        worker: Its UUID.
        tags: Those of it that the task lacks; none: the task asks for more than its ceilings.
    """

    worker: str
    tags: tuple[str, ...]


class Wait(msgspec.Struct, frozen=True):
    """A time without a break in which a task waited for one thing.

    Attributes:
        cause: What for.
        began, ended: When, by the coordinator's clock.
        attempt: The attempt that it waited for.
        after: How the attempt before had ended.
        watch: The other task and the state that it waited for.
        retry_at: When its next attempt was to begin.
        able: How many workers might have run it when the wait began.
        unfit: Some workers that serve its group and might not, when the wait began.
        serving: How many workers served its group then.
        busy: How many tasks of each group the able workers held then.
        before: How many tasks of each group came before it in the order of those workers then.
    """

    cause: Cause
    began: datetime
    ended: datetime
    attempt: int
    after: str = ""
    watch: Watch | None = None
    retry_at: datetime | None = None
    able: int = 0
    unfit: tuple[Unfit, ...] = ()
    serving: int = 0
    busy: dict[str, int] = {}
    before: dict[str, int] = {}

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.ended - self.began).total_seconds()


def smoothed(waits: Sequence[Wait]) -> list[Wait]:
    """Return waits of which none follows its like, and few are left; they are as long together."""
    return _shortened(_joined(_without_gaps(waits)))


def _without_gaps(waits: Sequence[Wait]) -> list[Wait]:
    """Give the moments in which a free slot is given out to the wait before them."""
    found: list[Wait] = []
    for wait in waits:
        last = found[-1] if found else None
        short = wait.cause is Cause.UNREACHABLE and wait.seconds < GAP_SECONDS
        if short and last and (last.ended, last.attempt) == (wait.began, wait.attempt):
            found[-1] = replace(last, ended=wait.ended)
        else:
            found.append(wait)
    return found


def _joined(waits: Sequence[Wait]) -> list[Wait]:
    """Make one of neighbours with the same cause."""
    found: list[Wait] = []
    for wait in waits:
        last = found[-1] if found else None
        if last and (last.ended, last.cause, last.attempt, last.watch) == (
            wait.began, wait.cause, wait.attempt, wait.watch,
        ):  # fmt: skip
            found[-1] = replace(last, ended=wait.ended)
        else:
            found.append(wait)
    return found


def _shortened(waits: list[Wait]) -> list[Wait]:
    """Let the shortest waits count to those that they follow, until few are left."""
    least = GAP_SECONDS
    while len(waits) > MAX_WAITS and least < LONGEST_SECONDS:
        kept: list[Wait] = []
        for wait in waits:
            last = kept[-1] if kept else None
            if last and last.ended == wait.began and wait.seconds < least:
                kept[-1] = replace(last, ended=wait.ended)
            else:
                kept.append(wait)
        waits, least = _joined(kept), 2 * least
    return waits
