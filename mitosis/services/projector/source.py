"""The stream as the projections want it, over a connection that comes back by itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import cast

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import StoreUnavailable
from mitosis.events.messages import StoredMessage, stream_state
from mitosis.events.reader import EventReader
from mitosis.nats.connection import Connection
from mitosis.projections.commit import RawCommit
from mitosis.projections.feed import MAX_BATCH_COMMITS

# The runner tries again by itself, on whatever link the connection has then.
_BUDGET_SECONDS = 1.0

# A new leader of the stream is elected after four seconds of silence at least. (When one way of
# three is cut, by one who hears nothing, with the vote of one who hears both: then the former one
# may not know for the two seconds which its word is old as a rule.)
_MOST_QUIET_SECONDS = 3.5

_IDLE_SECONDS = 5.0

_Batches = AsyncGenerator[list[StoredMessage], None]


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

        While nothing comes the leader is asked now and then: a node that was cut off goes on saying
        that there is nothing new, and who reads there must let another projector write.

        Raises:
            Unavailable: There is no link, or it was lost; or more is stored than comes.
            CorruptData: The stream lacks commits.
        """
        reader = EventReader(
            self._connection.raw, self._stream, budget_seconds=self._budget_seconds
        )
        last = start - 1
        found = cast(_Batches, reader.batches(start, limit=MAX_BATCH_COMMITS))
        async with aclosing(found):
            while True:
                coming = asyncio.create_task(_next(found))
                try:
                    await self._until_come(coming, last)
                    batch = coming.result()
                finally:
                    coming.cancel()
                    await asyncio.wait({coming})
                if batch is None:
                    return
                last = batch[-1].position
                yield batch

    async def _until_come(
        self, coming: asyncio.Task[list[StoredMessage] | None], last: int
    ) -> None:
        wanted = last
        while not (await asyncio.wait({coming}, timeout=_IDLE_SECONDS))[0]:
            if wanted > last:
                raise StoreUnavailable(
                    f"position {wanted} of {self._stream} is stored, and nothing after {last} comes"
                )
            wanted = await self.last_position()


async def _next(batches: _Batches) -> list[StoredMessage] | None:
    return await anext(batches, None)
