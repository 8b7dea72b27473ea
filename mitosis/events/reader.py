"""Reading the stream: replay, live following, one aggregate, the head.

A pull consumer without acknowledgements, asked by an own loop: the outstanding requests are counted
exactly (asking for too much makes the server drop the connection), the consumer's own sequence must
have no gap, and after a gap, a reconnection or silence a new consumer starts behind the last
message that was delivered. The place that a reader has reached is its owner's to keep.

What is stored already is asked for ahead. A reader that has all of it asks for the rest only when
it wants it, and then gets all that has come meanwhile at once: a message that is sent by itself, as
it is stored, costs server and reader several times as much.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from mitosis.contract import subjects
from mitosis.errors import REPAIR, CorruptData, StoreUnavailable
from mitosis.events.envelope import digest
from mitosis.events.messages import (
    StoredMessage,
    get_message,
    last_message,
    request,
    stream_end,
    stream_state,
    subject_messages,
)
from mitosis.nats.intake import promptly

BATCH = 500
BUDGET_SECONDS = 30.0
_AHEAD = 2000  # messages asked for and not yet delivered, at most
_PULL_SECONDS = 10
_BEAT_SECONDS = 2
_SILENCE_SECONDS = 5  # more than two heartbeats
_TICK_SECONDS = 0.25
_PAUSE_SECONDS = 0.1
_BEHIND_SECONDS = 2.0  # a replica that lives is some milliseconds behind
_NANOSECONDS = 1_000_000_000


class EventReader:
    """Reads one stream of commits.

    Args:
        nc: An open connection.
        stream: Name of the stream.
        prefix: Subject before the tail of an aggregate.
        budget_seconds: How long to try to reach the stream before giving up.
    """

    def __init__(
        self,
        nc: Client,
        stream: str = subjects.EVENTS_STREAM,
        prefix: str = subjects.EVENTS,
        *,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> None:
        self._nc = nc
        self._stream = stream
        self._prefix = prefix
        self._budget = budget_seconds
        self.caught_up = asyncio.Event()
        """Set when `batches` has yielded everything that was stored when it started."""

    async def head(self) -> tuple[int, str]:
        """Return the last sequence and the digest of its message; `(0, "")` if there is none."""
        last = await self.last_position()
        if last == 0:
            return 0, ""
        found = await get_message(self._nc, self._stream, last)
        if found is None:
            raise _lost(self._stream, last)
        return last, digest(found.subject, found.payload)

    async def last_position(self) -> int:
        """Return the last sequence; 0 if there is none."""
        return (await stream_state(self._nc, self._stream)).last_seq

    async def end(self, known: int) -> int:
        """Return the last sequence; less than a position that was seen only if that is certain.

        Raises:
            StoreUnavailable: The stream cannot be read now, or its leader is cut off.
        """
        return await stream_end(self._nc, self._stream, known)

    async def message(self, position: int) -> StoredMessage | None:
        """Return the message at a position, or None.

        Raises:
            StoreUnavailable: The stream cannot be read now.
        """
        return await get_message(self._nc, self._stream, position)

    async def last_message(self, subject: str) -> StoredMessage | None:
        """Return the last message on a subject, wildcards allowed, or None."""
        return await last_message(self._nc, self._stream, subject)

    async def read_aggregate(
        self, tail: str, upto: int | None = None, *, start: int = 1
    ) -> list[StoredMessage]:
        """Return every commit of an aggregate in order, between two positions if they are given.

        Any replica answers, also one that is behind; so its leader is asked for the last one.

        Raises:
            StoreUnavailable: The stream cannot be read now, or who answers stays behind.
        """
        found: list[StoredMessage] = []
        subject, seen = f"{self._prefix}.{tail}", start - 1
        clock = asyncio.get_running_loop().time
        deadline = clock() + _BEHIND_SECONDS
        while True:
            async for message in subject_messages(self._nc, self._stream, subject, seen + 1):
                seen = message.position
                if upto is not None and seen > upto:
                    return found
                found.append(message)
            last = await last_message(self._nc, self._stream, subject)
            if last is None or last.position <= seen:
                return found
            if clock() >= deadline:
                msg = f"the replica of {self._stream} that answers is behind: try again"
                raise StoreUnavailable(msg, stream=self._stream)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def batches(
        self,
        start: int = 1,
        *,
        filters: Sequence[str] = (),
        limit: int = BATCH,
        follow: bool = True,
        gaps: bool = False,
    ) -> AsyncIterator[list[StoredMessage]]:
        """Yield lists of messages, oldest first, each list with 1 to `limit` of them.

        Args:
            start: First position.
            filters: Subjects to read, wildcards allowed; the whole stream if empty.
            limit: The longest list.
            follow: Go on with what is stored later; else end when caught up.
            gaps: Pass over positions that the stream does not have, instead of raising.

        Raises:
            CorruptData: The stream has lost messages, or ends before `start - 1`.
            StoreUnavailable: The stream could not be reached within the budget, or not read to
                its end, as whoever has it is away.
        """
        self.caught_up.clear()
        start = max(start, 1)
        target = await self._end(start - 1)
        pull = _Pull(self._nc, self._stream, start, filters, self._budget, gaps=gaps)
        try:
            if pull.last >= target:
                self.caught_up.set()
            while follow or not self.caught_up.is_set():
                batch = await pull.next(limit)
                if batch:
                    yield batch
                if self.caught_up.is_set():
                    continue
                if pull.last >= target or (pull.drained and not await pull.leave_if_behind()):
                    self.caught_up.set()
        finally:
            await pull.close()

    async def _end(self, known: int) -> int:
        last = await self.end(known)
        if last < known:
            raise _shorter(self._stream, last, known)
        return last


class _Pull:
    """One consumer after another over the same stream, without gap or repetition."""

    def __init__(
        self,
        nc: Client,
        stream: str,
        start: int,
        filters: Sequence[str],
        budget: float,
        *,
        gaps: bool = False,
    ) -> None:
        self._nc = nc
        self._stream = stream
        self._filters = list(filters)
        self._gaps = gaps
        self._budget = budget
        self._arrived: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._inbox = ""
        self._delivered = 0  # sequence of the consumer
        self._outstanding = 0
        self._left = 0  # behind the last message that was taken, as the server last said
        self._reconnects = 0
        self.last = start - 1
        self.drained = False  # the consumer has said that nothing more matches now
        self._behind_since = 0.0
        self._behind_at = -1

    async def next(self, limit: int) -> list[StoredMessage]:
        """Return what has arrived, waiting if there is nothing; empty after a lost consumer."""
        if not self._consumer:
            await self._create_within_budget()
            if self.drained:
                return []
        try:
            await self._ask()
            if not await self._wait(limit):
                await self._abandon()
                return []
        except (NatsError, OSError):
            await self._abandon()
            return []
        return await self._take(limit)

    async def leave_if_behind(self) -> bool:
        """Give a consumer up that has nothing more, if it stands at a replica that is behind.

        The next one may stand at another replica. What the leader of the stream cannot read either
        is not waited for; with filters, or gaps, nobody knows what is missing.

        Returns:
            Whether there is more to come.

        Raises:
            StoreUnavailable: None has had any more within the budget.
        """
        if self._filters or self._gaps:
            return False
        if await get_message(self._nc, self._stream, self.last + 1) is None:
            return False
        now = asyncio.get_running_loop().time()
        if self._behind_at != self.last:
            self._behind_at, self._behind_since = self.last, now
        elif now - self._behind_since > self._budget:
            msg = f"replicas of {self._stream} end at {self.last}, behind their leader"
            raise StoreUnavailable(msg, stream=self._stream)
        await self.close()
        await asyncio.sleep(_PAUSE_SECONDS)
        return True

    async def close(self) -> None:
        """Let the server forget the consumer."""
        consumer = self._consumer
        await self._abandon()
        if consumer and self._nc.is_connected:
            await self._nc.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer}")

    async def _create_within_budget(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._budget
        while True:
            try:
                await self._create()
            except (StoreUnavailable, NatsError, OSError) as error:
                await self._abandon()
                if loop.time() >= deadline:
                    msg = f"{self._stream} could not be read for {self._budget:g} s: {error}"
                    raise StoreUnavailable(msg, stream=self._stream) from error
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def _create(self) -> None:
        if not self._nc.is_connected:
            msg = "the connection to NATS is down"
            raise StoreUnavailable(msg)
        self._reconnects = self._nc.stats["reconnects"]
        end = await stream_end(self._nc, self._stream, self.last)
        if end < self.last:
            raise _shorter(self._stream, end, self.last)
        self._inbox = self._nc.new_inbox()
        self._subscription = await self._nc.subscribe(
            self._inbox, cb=promptly(self._keep), pending_msgs_limit=0, pending_bytes_limit=0
        )
        name = self._inbox.rpartition(".")[2]
        config: dict[str, Any] = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.last + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": 60 * _NANOSECONDS,
        }
        if self._filters:
            config["filter_subjects"] = self._filters
        answer = await request(
            self._nc,
            f"$JS.API.CONSUMER.CREATE.{self._stream}.{name}",
            {"stream_name": self._stream, "config": config, "action": "create"},
        )
        self._delivered = 0
        self._outstanding = 0
        self._consumer = name
        self._left = answer.get("num_pending", 0)
        self.drained = self._left == 0

    async def _abandon(self) -> None:
        """Forget the consumer; the server removes it when nobody asks any more.

        Its subscription goes also while the connection is down, or it would come back with it, and
        what the server still sends to the former consumer would be counted as the next one's.
        """
        self._consumer = ""
        self._arrived.clear()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not (self._nc.is_closed or self._nc.is_draining):
            await subscription.unsubscribe()

    def _keep(self, message: Msg) -> None:
        if message.reply:
            self._outstanding -= 1
        else:
            self._status(message)
        self._arrived.append(message)
        self._wake.set()

    def _status(self, message: Msg) -> None:
        """Take back what a request will not deliver any more.

        408: its time is over. 404: that was all there is, to the one that asked for it.
        """
        headers = message.headers or {}
        left = headers.get("Nats-Pending-Messages")
        if left is not None:
            self._outstanding -= int(left)
        elif headers.get("Status") == "404":
            self._outstanding = 0

    async def _ask(self) -> None:
        if self._outstanding > _AHEAD // 2 or len(self._arrived) > _AHEAD:
            return
        stored = self._left - len(self._arrived) - self._outstanding
        if self._gaps:  # what the server counts is not all there
            await self._request(_AHEAD - max(self._outstanding, 0), b"")
        elif stored > 0:
            await self._request(min(stored, _AHEAD - self._outstanding), b"")
        elif not self._arrived and not self._outstanding:
            # All that there is when there is something, and then no more.
            await self._request(_AHEAD, b',"no_wait":true')

    async def _request(self, count: int, how: bytes) -> None:
        self._outstanding += count
        await self._nc.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
            b'{"batch":%d,"expires":%d,"idle_heartbeat":%d%b}'
            % (count, _PULL_SECONDS * _NANOSECONDS, _BEAT_SECONDS * _NANOSECONDS, how),
            self._inbox,
        )

    async def _wait(self, limit: int) -> bool:
        """Wait for all that is under way, or enough; False when the consumer is taken for lost.

        Of a stream with gaps nobody knows how much that is: anything is enough.
        """
        if self._gaps:
            limit = 1
        loop = asyncio.get_running_loop()
        arrived, deadline = 0, loop.time() + _SILENCE_SECONDS
        while not self._arrived or (len(self._arrived) < limit and self._outstanding > 0):
            if not self._nc.is_connected or self._nc.stats["reconnects"] != self._reconnects:
                return False
            if len(self._arrived) > arrived:
                arrived, deadline = len(self._arrived), loop.time() + _SILENCE_SECONDS
            if loop.time() >= deadline:
                return False
            self._wake.clear()
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue
        return True

    async def _take(self, limit: int) -> list[StoredMessage]:
        batch: list[StoredMessage] = []
        while self._arrived and len(batch) < limit:
            message = self._arrived.popleft()
            if not message.reply:
                if not _harmless(message):
                    await self._abandon()
                    break
                continue
            position, delivered, left = _sequences(message.reply)
            if delivered != self._delivered + 1:
                await self._abandon()
                break
            if not (self._filters or self._gaps) and position != self.last + 1:
                raise _lost(self._stream, self.last + 1)
            self._delivered, self._left = delivered, left
            self.last = position
            self.drained = left == 0
            batch.append(StoredMessage(position, message.subject, message.data))
        return batch


def _harmless(message: Msg) -> bool:
    """Whether a status only ends a request (404, 408) or beats (100), the consumer living on."""
    return (message.headers or {}).get("Status") in {"100", "404", "408"}


def _sequences(reply: str) -> tuple[int, int, int]:
    """Return position, sequence of the consumer, and how many messages are left behind it.

    `$JS.ACK.<stream>.<consumer>.<deliveries>.<position>.<sequence>.<time>.<left>`; with a domain
    two more tokens stand behind `$JS.ACK`.
    """
    tokens = reply.split(".")
    shift = 0 if len(tokens) == 9 else 2
    return int(tokens[5 + shift]), int(tokens[6 + shift]), int(tokens[8 + shift])


def _lost(stream: str, position: int) -> CorruptData:
    msg = (
        f"position {position} of the stream {stream} is missing, although nothing may be deleted. "
        f"{REPAIR}"
    )
    return CorruptData(msg, stream=stream, position=position)


def _shorter(stream: str, last: int, known: int) -> CorruptData:
    msg = (
        f"the stream {stream} ends at {last}, but position {known} has been read from it: it has "
        f"lost commits. {REPAIR}"
    )
    return CorruptData(msg, stream=stream, position=last, known=known)
