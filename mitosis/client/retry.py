"""Asking again: one request, repeated with the same id until it is answered or its time is over."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mitosis.errors import (
    AuthenticationFailed,
    MitosisError,
    NoCoordinator,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)

T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0
LONGEST_WANTED_SECONDS = 60.0
TRY_SECONDS = 4.0
PAST_TRY_SECONDS = 25.0  # an answer of the past may take that long, and is not to be asked twice
PATIENCE_SECONDS = 600.0  # of those who watch and wait: longer than any restart takes
AGAIN_SECONDS = 1.0  # after a question of theirs that nobody answered


async def asleep(seconds: float) -> None:
    """Let others on the event loop run for so long."""
    import asyncio

    await asyncio.sleep(seconds)


class Tries:
    """What the tries of one command have left open, whatever comes between two of them."""

    def __init__(self) -> None:
        self._perhaps_done = False
        self._is_decided = False

    @property
    def leave_open(self) -> bool:
        """Whether the command may have been done: an answer was lost, and no other one came."""
        return self._perhaps_done and not self._is_decided

    def failed(self, error: MitosisError) -> None:
        """A try has ended with this."""
        # Left open only by a lost answer, or by one that says so: who names a service has not
        # done it.
        self._perhaps_done = self._perhaps_done or type(error) in {Unavailable, OutcomeUnknown}
        # Who is not let in learns nothing of what was sent before.
        self._is_decided = not isinstance(error, AuthenticationFailed | Unavailable)


async def persist(
    ask: Callable[[float], Awaitable[T]],
    timeout_seconds: float,
    command_id: str = "",
    sleep: Callable[[float], Awaitable[None]] = asleep,
    try_seconds: float | None = None,
    *,
    until: float | None = None,
    told: Callable[[Unavailable, float], None] | None = None,
) -> T:
    """Repeat `ask` while a service is unavailable, not before it wants to be asked again.

    Args:
        ask: Gets the seconds that this try may take.
        timeout_seconds: For all tries together.
        command_id: Set for a command, whose outcome is unknown when no answer came: what names it.
        sleep: Waits between the tries.
        try_seconds: How long to wait for one answer before it is taken for lost; None: as usual.
        until: When the time is over, by `time.monotonic`, if some of it was spent before.
        told: Gets the first error that is not the last one, and the seconds that are left.

    Raises:
        OutcomeUnknown: A command was sent, and no answer came in time.
        Unavailable: The last error, once the time is over.
        MitosisError: Any other answer, at once.
    """
    deadline = time.monotonic() + timeout_seconds if until is None else until
    delay, tries = FIRST_DELAY_SECONDS, Tries()
    longest = TRY_SECONDS if try_seconds is None else try_seconds
    while True:
        try:
            return await ask(max(0.001, min(longest, deadline - time.monotonic())))
        except Unavailable as error:
            tries.failed(error)
            pause = _pause_seconds(error, delay)
            left = deadline - time.monotonic()
            if error.is_final or pause >= left:
                if not command_id or not tries.leave_open or isinstance(error, OutcomeUnknown):
                    raise
                raise _unanswered(error, command_id, timeout_seconds) from error
            if told is not None:
                told(error, left)
                told = None
        await sleep(pause)
        delay = min(LONGEST_DELAY_SECONDS, 2 * delay)


def _pause_seconds(error: Unavailable, delay: float) -> float:
    """Return how long to wait; many who were refused at once must not come back at once."""
    import random

    if isinstance(error, Overloaded):
        wanted = error.details.get("retry_after_seconds")
        if isinstance(wanted, int | float) and 0 < wanted <= LONGEST_WANTED_SECONDS:
            return float(wanted) * random.uniform(1.0, 2.0)  # noqa: S311  no secret
    return delay * random.uniform(0.5, 1.0)  # noqa: S311  no secret


async def outlast(
    ask: Callable[[], Awaitable[T]], longest_seconds: float, patience_seconds: float
) -> T:
    """Repeat a question of somebody who has time, while a service is unavailable.

    Args:
        ask: Asks once, with its own repetitions (see `persist`).
        longest_seconds: What one such question may take. What is above it was no waiting for an
            answer: this machine slept, or this process was stopped.
        patience_seconds: For all of them together.

    Raises:
        Unavailable: The last error, once the time is over.
        MitosisError: Any other answer, at once.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    left = patience_seconds
    while True:
        begun = loop.time()
        try:
            return await ask()
        except Unavailable:
            left -= min(loop.time() - begun, longest_seconds) + AGAIN_SECONDS
            if left < 0:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


def outcome_unknown(why: str, command: str) -> OutcomeUnknown:
    """Return what is said of a command that was sent, and to which no answer came."""
    return OutcomeUnknown(
        f"{why}: the command may or may not have been done; look, or send it again with the same "
        "key",
        command=command,
    )


def _unanswered(error: Unavailable, command: str, seconds: float) -> OutcomeUnknown:
    reason = "the coordinator went away" if isinstance(error, NoCoordinator) else error.message
    return outcome_unknown(f"no answer in {seconds:g} s ({reason})", command)
