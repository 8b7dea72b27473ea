"""Can this coordinator do its work now? Asked of everything that it stands on, at bounded cost.

However many ask, each service is asked at most once a second, and never again while a question is
still open.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from mitosis.errors import MitosisError

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
SAMPLE_SECONDS = 1.0
MAX_SAMPLES = 3_600


class Check(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer. `reason` is a code of our errors: details are in the log, not for everybody."""

    ok: bool
    reason: str = ""


class Question:
    """Something that is asked now and then; an answer is good for a while."""

    def __init__(self, name: str, ask: Callable[[], Awaitable[None]], fresh_seconds: float) -> None:
        """`ask` raises a MitosisError when something is wrong."""
        self._name = name
        self._ask = ask
        self._fresh_seconds = fresh_seconds
        self._asked: asyncio.Task[None] | None = None
        self._answered_at = float("-inf")
        self._answer = Check(ok=False, reason="not_asked")

    async def answer(self) -> Check:
        """Return the present answer, after `CHECK_SECONDS` at the latest."""
        if time.monotonic() - self._answered_at < self._fresh_seconds:
            return self._answer
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._find_out(), name=f"check {self._name}")
        done, _ = await asyncio.wait({self._asked}, timeout=CHECK_SECONDS)
        return self._answer if done else Check(ok=False, reason="no_answer")

    async def stop(self) -> None:
        """Wait for nothing more."""
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.gather(self._asked, return_exceptions=True)

    async def _find_out(self) -> None:
        try:
            await self._ask()
        except MitosisError as error:
            if self._answer.ok or self._answer.reason != error.code:
                log.warning("not ready, %s: %s", self._name, error)
            self._answer = Check(ok=False, reason=error.code)
        else:
            self._answer = Check(ok=True)
        self._answered_at = time.monotonic()


class Lag:
    """How far the read models are behind, in commits and in time.

    The end of the stream is noted once a second; the lag is the age of the oldest end that the read
    models have not reached.
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque(maxlen=MAX_SAMPLES)
        self.applied = 0
        """Position that the read models include, as last seen."""

    def note(self, now: float, end: int) -> None:
        """The stream ends here at this time (seconds of a monotonic clock)."""
        if end > self.applied and (not self._ends or self._ends[-1][1] != end):
            self._ends.append((now, end))

    def applied_up_to(self, position: int) -> None:
        """The read models include everything up to this position."""
        self.applied = position
        while self._ends and self._ends[0][1] <= position:
            self._ends.popleft()

    def seconds(self, now: float) -> float:
        """Return the age of the oldest known end that is not applied; 0 when there is none."""
        return now - self._ends[0][0] if self._ends else 0.0


class Readiness:
    """All questions, and the lag of the read models.

    Attributes:
        lag: Of the read models.
    """

    def __init__(
        self,
        *,
        nats: Callable[[], Awaitable[None]],
        objects: Callable[[], Awaitable[None]],
        applied: Callable[[], Awaitable[int]],
        end: Callable[[], int | None],
        max_lag_seconds: float,
    ) -> None:
        """Prepare.

        Args:
            nats: Raises when NATS or JetStream does not answer.
            objects: Raises when the S3 store does not answer.
            applied: Asks Postgres for the position of the read models.
            end: The end of the stream; None while this coordinator is not in office.
            max_lag_seconds: Longer behind is not ready.
        """
        self.lag = Lag()
        self._applied = applied
        self._end = end
        self._max_lag_seconds = max_lag_seconds
        self._questions = {
            "nats": Question("nats", nats, 1.0),
            "postgres": Question("postgres", self._ask_applied, 1.0),
            "s3": Question("s3", objects, 5.0),
        }

    async def checks(self) -> dict[str, Check]:
        """Return every answer by name."""
        answers = await asyncio.gather(*(one.answer() for one in self._questions.values()))
        found = dict(zip(self._questions, answers, strict=True))
        lag = self.lag.seconds(time.monotonic())
        late = lag > self._max_lag_seconds
        found["projection"] = Check(ok=not late, reason="lag" if late else "")
        return found

    async def look_at_lag(self) -> None:
        """Bring the lag up to date; when Postgres is away it stays as it was seen last."""
        await self._questions["postgres"].answer()

    async def sample(self) -> None:
        """Note the end of the stream, for ever."""
        while True:
            end = self._end()
            if end is not None:
                self.lag.note(time.monotonic(), end)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def stop(self) -> None:
        """Leave no question open."""
        await asyncio.gather(*(one.stop() for one in self._questions.values()))

    async def _ask_applied(self) -> None:
        self.lag.applied_up_to(await self._applied())
