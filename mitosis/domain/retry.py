"""Retries: which failed attempt is followed by another one, and after what time. Pure.

The wait doubles from one retry to the next, up to a bound. Attempts that were lost with their
worker are no failures of the task: they are counted by themselves (`max_losses`), without a wait.
"""

from enum import StrEnum
from typing import Literal

import msgspec
from msgspec.structs import replace

from mitosis.domain.limits import check_number
from mitosis.domain.nearest import one_of
from mitosis.errors import InvalidInput

UNLIMITED: Literal["unlimited"] = "unlimited"
MAX_RETRIES = 1_000
MAX_LOSSES = 1_000
MIN_DELAY_SECONDS = 0.1
MAX_DELAY_SECONDS = 7 * 86_400.0
DEFAULT_DELAY_SECONDS = 1.0
DEFAULT_MOST_SECONDS = 300.0
#: What runs without end may not fill the stream: a few commits a minute at most.
MIN_MOST_SECONDS_UNLIMITED = 60.0


class RetryCause(StrEnum):
    """How an attempt failed."""

    EXIT = "exit"
    TIMEOUT = "timeout"
    SIGNAL = "signal"


ALL_CAUSES = tuple(RetryCause)
Times = int | Literal["unlimited"]


class Retry(
    msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True
):
    """What follows a failed attempt of a task.

    Attributes:
        times: How many more attempts at most; 0: none, it runs once; `unlimited`: no limit.
        causes: After which failures. A program that cannot be started is never tried again: it
            could not be started the next time either.
        delay_seconds: Wait before the first retry; it doubles each time.
        max_delay_seconds: The longest wait; None: 5 minutes, or `delay_seconds` if that is longer.
    """

    times: Times = 0
    causes: tuple[RetryCause, ...] = ALL_CAUSES
    delay_seconds: float = DEFAULT_DELAY_SECONDS
    max_delay_seconds: float | None = None

    def allows(self, cause: RetryCause, used: int) -> bool:
        """Whether another attempt follows a failure, when so many retries were used already."""
        return cause in self.causes and (self.times == UNLIMITED or used < self.times)

    def wait_seconds(self, used: int) -> float:
        """Return the wait before the next retry, when so many were used already."""
        return min(self._most_seconds, self.delay_seconds * 2.0 ** min(used, 60))

    @property
    def _most_seconds(self) -> float:
        if self.max_delay_seconds is not None:
            return self.max_delay_seconds
        return max(DEFAULT_MOST_SECONDS, self.delay_seconds)

    def checked(self) -> "Retry":
        """Return it in its canonical form.

        Raises:
            InvalidInput: A value is out of its bounds.
        """
        if self is NO_RETRY:
            return self
        check_times(self.times)
        least, most = MIN_DELAY_SECONDS, MAX_DELAY_SECONDS
        check_number(self.delay_seconds, "retry delay in seconds", least, most)
        if self.max_delay_seconds is not None:
            least = self.delay_seconds
            if self.times == UNLIMITED:
                least = max(least, MIN_MOST_SECONDS_UNLIMITED)
            check_number(
                self.max_delay_seconds,
                "longest retry delay in seconds (of unlimited retries at least a minute)"
                if self.times == UNLIMITED
                else "longest retry delay in seconds",
                least,
                most,
            )
        if not self.causes:
            raise InvalidInput(
                "there must be something to retry after: exit, timeout or signal", field="retry on"
            )
        if self == NO_RETRY:
            return NO_RETRY  # itself, which forms leave out
        return replace(self, causes=tuple(c for c in RetryCause if c in self.causes))


NO_RETRY = Retry()


def check_times(times: int | str) -> Times:
    """Return a number of retries.

    Raises:
        InvalidInput: No whole number from 0 to 1000, nor `unlimited`.
    """
    if times == UNLIMITED:
        return UNLIMITED
    if isinstance(times, bool) or not isinstance(times, int):
        raise InvalidInput(
            f"{times!r} is no number of retries: give a whole number from 0 (run once) to "
            f"{MAX_RETRIES}, or {UNLIMITED!r}",
            field="retries",
        )
    check_number(times, "retries", 0, MAX_RETRIES)
    return times


def check_losses(count: int) -> int:
    """Return how many attempts may be lost.

    Raises:
        InvalidInput: Not from 1 to 1000.
    """
    check_number(count, "max losses", 1, MAX_LOSSES)
    return count


def parse_cause(text: str) -> RetryCause:
    """Read what a task is tried again after.

    Raises:
        InvalidInput: None of exit, timeout and signal.
    """
    try:
        return RetryCause(text)
    except ValueError:
        known = one_of(text[:40], [cause.value for cause in RetryCause])
        raise InvalidInput(
            f"{text[:40]!r} is nothing that a task is tried again after: {known}", field="retry on"
        ) from None
