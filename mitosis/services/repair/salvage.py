"""Both copies of history side by side, position by position, as far as they can be read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NamedTuple, cast

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.events.envelope import digest
from mitosis.events.messages import (
    STREAM_NOT_FOUND,
    JetStreamError,
    StoredMessage,
    get_message,
    next_message,
    stream_state,
)
from mitosis.events.reader import EventReader
from mitosis.nats.store_client import StoreClient
from mitosis.projections.archive import Archive
from mitosis.projections.commit import RawCommit

WINDOW = 100
STALLED_SECONDS = 20.0  # a consumer that cannot pass a damaged message says nothing at all


class Copies(NamedTuple):
    """What there is of one position.

    Attributes:
        position: In history.
        streamed: Subject and payload in the stream, or None.
        archived: In the archive, or None.
        noted: The digest that the archive noted when it got the commit.
    """

    position: int
    streamed: tuple[str, bytes] | None
    archived: tuple[str, bytes] | None
    noted: str

    @property
    def is_archived_well(self) -> bool:
        """Whether the archive has it as it was when it was noted."""
        return self.archived is not None and digest(*self.archived) == self.noted

    @property
    def sound(self) -> list[tuple[str, bytes]]:
        """What may be the right one: none, one, or first that of the stream, then the other."""
        found = [] if self.streamed is None else [self.streamed]
        if self.archived is not None and self.archived not in found and self.is_archived_well:
            found.append(self.archived)
        return found


class Sources:
    """The two places that history is in.

    Attributes:
        nc: Connection of the event store.
        archive: The second copy, held by this process.
    """

    def __init__(self, nc: StoreClient, archive: Archive) -> None:
        self.nc, self.archive = nc, archive

    async def ends(self) -> tuple[int, int]:
        """Return the last positions that stream and archive count.

        Raises:
            Unavailable: NATS or Postgres does not answer.
        """
        return await stream_end(self.nc), await self.archive.last_position()

    async def windows(self, last: int) -> AsyncIterator[list[Copies]]:
        """Yield all positions from 1 to `last`, in pieces.

        Raises:
            Unavailable: NATS or Postgres does not answer.
        """
        counted, archived = await self.ends()
        stream = _Ahead(self.nc, counted)
        async with aclosing(stream):
            for first in range(1, last + 1, WINDOW):
                end = min(first + WINDOW - 1, last)
                streamed = {m.position: (m.subject, m.payload) for m in await stream.upto(end)}
                kept = await self._archived(first, end) if first <= archived else {}
                noted = await self.archive.digests(first, end) if kept else {}
                yield [
                    Copies(p, streamed.get(p), kept.get(p), noted.get(p, ""))
                    for p in range(first, end + 1)
                ]

    async def _archived(self, first: int, last: int) -> dict[int, tuple[str, bytes]]:
        found: dict[int, tuple[str, bytes]] = {}
        while first <= last:
            rows = await self.archive.read(first, last)
            if not rows:
                break
            found.update((position, (subject, payload)) for position, subject, payload in rows)
            first = rows[-1][0] + 1
        return found


class _Ahead:
    """Gives what can be read of the stream up to positions that grow."""

    def __init__(self, nc: StoreClient, end: int) -> None:
        self._pieces = cast(Any, salvaged(nc, end))
        self._read: list[RawCommit] = []
        self._over = not end

    async def upto(self, last: int) -> list[StoredMessage]:
        """Return what was not returned before, up to a position."""
        while not self._over and (not self._read or self._read[-1][0] < last):
            piece = await anext(self._pieces, None)
            self._over = piece is None
            self._read.extend(piece or ())
        found = [StoredMessage(*message) for message in self._read if message[0] <= last]
        self._read = self._read[len(found) :]
        return found

    async def aclose(self) -> None:
        """Read no more."""
        await self._pieces.aclose()


async def stream_end(nc: StoreClient) -> int:
    """Return the last position that the stream counts, readable or not; 0: there is no stream.

    Raises:
        StoreUnavailable: NATS does not answer.
    """
    try:
        return (await stream_state(nc, EVENTS_STREAM)).last_seq
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        return 0


async def salvaged(nc: StoreClient, end: int) -> AsyncIterator[list[StoredMessage]]:
    """Yield every message of the stream up to `end` that the servers can still give, in order.

    What a consumer passes over is asked of the leader too: a consumer reads the files of one node,
    which may be damaged, or behind.

    Raises:
        StoreUnavailable: NATS does not answer.
    """
    at = 0
    async with aclosing(cast(Any, _consumed(nc, end))) as batches:
        async for batch in batches:
            found: list[StoredMessage] = []
            for message in batch:
                if message.position > at + 1:
                    found += [m async for m in _of_leader(nc, at + 1, message.position - 1)]
                found.append(message)
                at = message.position
            yield found
    async for message in _of_leader(nc, at + 1, end):
        yield [message]


async def _consumed(nc: StoreClient, end: int) -> AsyncIterator[list[StoredMessage]]:
    """Yield what consumers give, step by step where none gets any further."""
    at = 0
    while at < end:
        batches = cast(Any, EventReader(nc).batches(at + 1, follow=False, gaps=True))
        async with aclosing(batches):
            try:
                while True:
                    async with asyncio.timeout(STALLED_SECONDS):
                        batch = await anext(batches, None)
                    if batch is None:
                        return
                    yield batch
                    at = batch[-1].position
            except TimeoutError:
                pass  # something that no consumer gets over; step by step it can be passed
        found = None
        while found is None and at < end:
            at += 1
            found = await get_message(nc, EVENTS_STREAM, at)
        if found is not None:
            yield [found]


async def _of_leader(nc: StoreClient, first: int, last: int) -> AsyncIterator[StoredMessage]:
    """Yield what the leader has of a range; one request, if that is nothing."""
    while first <= last:
        found = await next_message(nc, EVENTS_STREAM, ">", first)
        if found is None or found.position > last:
            return
        yield found
        first = found.position + 1
