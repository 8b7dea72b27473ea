"""The stream as the projections want it, over a connection that comes back by itself."""

from collections.abc import AsyncIterator, Sequence

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import StoreUnavailable
from mitosis.events.messages import stream_state
from mitosis.events.reader import EventReader
from mitosis.nats.connection import Connection
from mitosis.projections.commit import RawCommit
from mitosis.projections.feed import MAX_BATCH_COMMITS

# The runner tries again by itself, on whatever link the connection has then.
_BUDGET_SECONDS = 1.0

# A new leader of the stream is elected after four seconds of silence at least.
_MOST_QUIET_SECONDS = 3.5


class StreamSource:
    """Reads commits on the present link; a lost one ends the reading with StoreUnavailable."""

    def __init__(
        self,
        connection: Connection,
        stream: str = EVENTS_STREAM,
        *,
        budget_seconds: float = _BUDGET_SECONDS,
    ) -> None:
        """`connection` belongs to who reads; `budget_seconds`: how long to try to reach NATS."""
        self._connection = connection
        self._stream = stream
        self._budget_seconds = budget_seconds

    async def last_position(self) -> int:
        """Return the position of the newest commit.

        Raises:
            Unavailable: There is no link, JetStream does not answer, or the leader of the stream is
                cut off from the others and may know less than they do.
        """
        state = await stream_state(self._connection.raw, self._stream)
        if state.quiet_seconds > _MOST_QUIET_SECONDS:
            raise StoreUnavailable(
                f"the leader of the stream {self._stream} does not hear a majority of its replicas"
            )
        return state.last_seq

    async def batches(self, start: int) -> AsyncIterator[Sequence[RawCommit]]:
        """Yield what is stored from `start` on, then what comes.

        Raises:
            Unavailable: There is no link, or it was lost.
            CorruptData: The stream lacks commits.
        """
        reader = EventReader(
            self._connection.raw, self._stream, budget_seconds=self._budget_seconds
        )
        async for batch in reader.batches(start, limit=MAX_BATCH_COMMITS):
            yield batch
