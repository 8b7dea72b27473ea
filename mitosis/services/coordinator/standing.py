"""Whether this coordinator may still believe its own memory.

The store lets nobody write who is not the one writer. But a coordinator that was frozen, suspended
or cut off, and is back, could also do harm by answers alone: it might call a worker's live attempt
foreign, because it has not heard of it. A standby takes over after some seconds without an answer
(leadership.py). So one that has not looked at the clock for `DOUBT_SECONDS`, or has lost its
connection, answers nothing more until the stream has told it that nobody else has written.

In a cluster its own node may be cut off from the others with it, and no connection is lost. A
standby on the other side takes over, and a renewal that is answered here would let a task go on
that runs a second time there. So there the standing must be proved all the time, by a commit that
was stored or by the leader of the stream, who must have heard of a majority.
"""

from mitosis.errors import Unavailable
from mitosis.runtime import Clock

DOUBT_SECONDS = 2.0  # half of the silence that lets a standby take over
LOOK_SECONDS = 0.25
# Enough for the age of a proof, about two seconds as a rule, and a slow answer. Who takes over
# gives leases so much more: what was prolonged with a proof has ended before it runs again.
PROOF_SECONDS = 3.5


class Standing:
    """Kept up by a loop that calls `confirm`; asked before every answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._confirmed_at = clock.monotonic()
        self._doubted_at: float | None = None
        self._proved_at: float | None = None
        self._has_ended = False

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have taken over."""
        now = self._clock.monotonic()
        is_fresh = now - self._confirmed_at <= DOUBT_SECONDS
        is_proved = self._proved_at is None or now - self._proved_at <= PROOF_SECONDS
        return is_fresh and is_proved and self._doubted_at is None and not self._has_ended

    def end(self) -> None:
        """The term is over: nothing that is known here may be believed any more."""
        self._has_ended = True

    def doubt(self) -> None:
        """The connection was lost: from here on somebody else may have taken over."""
        self._doubted_at = self._clock.monotonic()

    def confirm(self, at: float | None = None) -> None:
        """Nobody else had taken over at this time (of the clock); None: until now.

        An answer is as old as its question: it may have waited while this process was frozen. So a
        doubt that came after the question stays.
        """
        at = self._clock.monotonic() if at is None else at
        self._confirmed_at = max(self._confirmed_at, at)
        if self._doubted_at is not None and self._doubted_at <= at:
            self._doubted_at = None

    @property
    def needs_proof(self) -> bool:
        """Whether `prove` must be called again and again."""
        return self._proved_at is not None

    def prove(self, at: float) -> None:
        """Nobody else had taken over at this time (of the clock); from now on proofs are needed."""
        self._proved_at = at if self._proved_at is None else max(at, self._proved_at)

    def check(self) -> None:
        """Check before answering.

        Raises:
            Unavailable: Another coordinator may have taken over; ask again.
        """
        if self._has_ended:
            raise Unavailable(
                "the term of this coordinator is over, the next one begins: try again"
            )
        if not self.is_sure:
            raise Unavailable(
                "the coordinator was away and looks whether it still leads: try again"
            )
