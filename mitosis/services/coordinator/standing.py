"""Whether this coordinator may still believe its own memory.

The store lets nobody write who is not the one writer. But a coordinator that was frozen, suspended
or cut off, and is back, could also do harm by answers alone: it might call a worker's live attempt
foreign, because it has not heard of it. A standby takes over after some seconds without an answer
(leadership.py). So one that has not looked at the clock for `DOUBT_SECONDS`, or has lost its
connection, answers nothing more until the stream has told it that nobody else has written.
"""

from mitosis.errors import Unavailable
from mitosis.runtime import Clock

DOUBT_SECONDS = 2.0  # half of the silence that lets a standby take over
LOOK_SECONDS = 0.25


class Standing:
    """Kept up by a loop that calls `confirm`; asked before every answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._confirmed_at = clock.monotonic()
        self._doubted = False

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have taken over."""
        if self._clock.monotonic() - self._confirmed_at > DOUBT_SECONDS:
            self._doubted = True
        return not self._doubted

    def doubt(self) -> None:
        """The connection was lost: from here on somebody else may have taken over."""
        self._doubted = True

    def confirm(self) -> None:
        """Nobody else has taken over until now."""
        self._confirmed_at = self._clock.monotonic()
        self._doubted = False

    def check(self) -> None:
        """Check before answering.

        Raises:
            Unavailable: Another coordinator may have taken over; ask again.
        """
        if not self.is_sure:
            raise Unavailable(
                "the coordinator was away and looks whether it still leads: try again"
            )
