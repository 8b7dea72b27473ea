"""Live output of attempts, for those who follow them (contract/output.py).

Nothing is read from a program and nothing is sent while nobody follows. One piece at a time leaves
the worker, whoever it is for, and the next one waits until the server has it: so reports and
renewals, which share the connection, never stand behind a heap of output.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from mitosis.contract import subjects
from mitosis.contract.output import (
    FOLLOW_SECONDS,
    WINDOW_BYTES,
    FollowOutput,
    OutputMessage,
    OutputPiece,
    OutputReached,
)
from mitosis.errors import Unavailable
from mitosis.nats.connection import Connection
from mitosis.processes.follow import STREAMS, Chunk
from mitosis.processes.run import Run
from mitosis.processes.runs import StreamName
from mitosis.services.worker.masking import MaskedStream, Masking

log = logging.getLogger(__name__)

MAX_FOLLOWERS = 64
"""Of one worker; the engine has a bound of its own for each run."""
MAX_BEGINS = 64
BEGINS_SECONDS = 1.0
"""In this time so many begin at most, also anew: each costs a whole piece of output."""
SMALL_BYTES = 16 * 1024
SMALL_PAUSE_SECONDS = 0.02  # after a small piece: 50 messages a second of a chatty program
RETRY_SECONDS = 0.2

_encode = msgspec.json.Encoder().encode


class Followed(NamedTuple):
    """What the worker knows of an attempt: its run, or that there is none any more.

    `masking`: what is taken out of its output.
    """

    run: Run | None
    over: bool = False
    masking: Masking | None = None


FindRun = Callable[[str, int], Followed | None]
"""(task, attempt) -> what is known of it, None: nothing."""


class Followers:
    """Everybody who follows an attempt of this worker.

    Args:
        connection: Of the worker.
        worker: Its UUID.
        find: Finds the run of an attempt.
        follow_seconds: How long one is followed without hearing from the follower.
        max_followers: How many there may be.
    """

    def __init__(
        self,
        connection: Connection,
        worker: str,
        find: FindRun,
        *,
        follow_seconds: float = FOLLOW_SECONDS,
        max_followers: int = MAX_FOLLOWERS,
    ) -> None:
        self._connection, self._worker, self._find = connection, worker, find
        self.follow_seconds, self._max_followers = follow_seconds, max_followers
        self._followers: dict[tuple[str, int, str], Follower] = {}
        self._begins: deque[float] = deque(maxlen=MAX_BEGINS)
        self._sending = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._followers)

    def order(self, order: FollowOutput) -> None:
        """Begin, go on or stop.

        Nothing is said to who asks about an attempt that has not begun, or when too many begin at
        a time: those ask again.
        """
        key = (order.task, order.attempt, order.follower)
        follower = self._followers.get(key)
        if follower is not None and (order.stop or (order.again and not follower.over)):
            if not order.stop and self._begin_too_many():
                return
            follower.stop()
            del self._followers[key]
            follower = None
        if order.stop:
            return
        if follower is None:
            if self._begin_too_many():
                return
            follower = self._begin(order)
            if follower is None:
                return
            self._followers[key] = follower
        follower.renew(order)
        follower.tell()

    def forget(self, follower: "Follower") -> None:
        """One has ended (for the follower)."""
        order = follower.order
        key = (order.task, order.attempt, order.follower)
        if self._followers.get(key) is follower:
            del self._followers[key]

    async def close(self) -> None:
        """Follow nothing any more."""
        followers, self._followers = list(self._followers.values()), {}
        for follower in followers:
            follower.stop()
        await asyncio.gather(*(follower.wait() for follower in followers))

    async def send(self, subject: str, message: OutputMessage) -> None:
        """Publish, and wait until the server has it; tried again while there is no link."""
        data = _encode(message)
        async with self._sending:
            while True:
                try:
                    self._connection.publish(subject, data)
                    await self._connection.flush()
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS)  # until the follower's time is over
                else:
                    return

    def post(self, subject: str, message: OutputMessage) -> None:
        """Publish without waiting; without a link nothing is sent, and the follower asks again."""
        with contextlib.suppress(Unavailable):
            self._connection.publish(subject, _encode(message))

    def _begin_too_many(self) -> bool:
        """Whether one more would be too many now."""
        now = asyncio.get_running_loop().time()
        return len(self._begins) == MAX_BEGINS and now - self._begins[0] < BEGINS_SECONDS

    def _begin(self, order: FollowOutput) -> "Follower | None":
        found = self._find(order.task, order.attempt)
        if found is None or (found.run is None and not found.over):
            return None
        subject = subjects.output(order.group, order.task, self._worker)
        if found.run is None:
            self.post(subject, OutputReached(order.follower, order.attempt, over=True))
            return None
        follower = Follower(self, order, subject, found.masking)
        if len(self) >= self._max_followers:
            follower.refused = f"{self._max_followers} follow tasks of this worker already"
            follower.tell()
            return None
        self._begins.append(asyncio.get_running_loop().time())
        follower.begin(found.run)
        return follower


class Follower:
    """One who follows one attempt.

    Attributes:
        order: The latest from it.
        over: Everything was sent.
        refused: Why it may not follow; empty: it may.
    """

    def __init__(
        self,
        followers: Followers,
        order: FollowOutput,
        subject: str,
        masking: Masking | None = None,
    ) -> None:
        self._followers, self._subject = followers, subject
        self._masking = masking
        self._masked: dict[StreamName, MaskedStream] = {}
        self.order = order
        self.over = False
        self.refused = ""
        self._wanted = wanted = _offsets(order)
        self._sent = {stream: offset for stream, offset in wanted.items() if offset >= 0}
        self._heard = dict(self._sent)
        self._backlogs: set[StreamName] = set()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, run: Run) -> None:
        """Start to read and to send."""
        self._task = asyncio.create_task(self._run(run), name="follower")

    def renew(self, order: FollowOutput) -> None:
        """Take in how far the other side is, and that it is there."""
        self.order = order
        for stream, offset in _offsets(order).items():
            if offset >= 0:
                self._heard[stream] = max(offset, self._heard.get(stream, 0))
        self._moved.set()
        if self._timer is not None:
            self._timer.cancel()
        seconds = self._followers.follow_seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self.stop)

    def tell(self) -> None:
        """Say up to where everything was sent."""
        sent = self._sent
        self._followers.post(
            self._subject,
            OutputReached(
                self.order.follower, self.order.attempt,
                sent.get("stdout"), sent.get("stderr"), self.over, self.refused,
            ),
        )  # fmt: skip

    def stop(self) -> None:
        """Follow no more."""
        for waiting in (self._task, self._timer):
            if waiting is not None:
                waiting.cancel()

    async def wait(self) -> None:
        """Until it has ended."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, run: Run) -> None:
        try:
            await self._follow(run)
            self.over = not self.refused
            self.tell()
            if self.over:
                await asyncio.Event().wait()  # the same answer for who asks until the time is over
        finally:
            self._followers.forget(self)
            if self._timer is not None:
                self._timer.cancel()

    async def _follow(self, run: Run) -> None:
        try:
            for stream, offset in self._wanted.items():
                if offset < -1 and await run.tail(stream, 1):
                    self._backlogs.add(stream)
            follow = run.start_follow(self._take, begin=self._wanted)
        except RuntimeError as error:  # too many ask, or it has ended: then it is stored elsewhere
            self.refused = "" if run.outcome is not None else str(error)
        else:
            await follow.wait()
            for stream, masked in self._masked.items():
                for offset, data in masked.end():
                    await self._send(Chunk(stream, offset, data))

    async def _take(self, chunk: Chunk) -> None:
        """Send a piece, or what can be shown of it; the rest of it comes with the next one."""
        if self._masking is None:
            await self._send(chunk)
            return
        stream = chunk.stream
        masked = self._masked.setdefault(stream, MaskedStream(self._masking))
        for offset, data in masked.feed(chunk.offset, chunk.data):
            sent = self._sent.get(stream)
            missing = chunk.skipped_bytes if sent is None else offset - sent
            await self._send(Chunk(stream, offset, data, missing))

    async def _send(self, chunk: Chunk) -> None:
        """Send a piece, when the other side has come near it; until then nothing more is read."""
        stream = chunk.stream
        if stream not in self._sent:
            self._sent[stream] = self._heard[stream] = chunk.offset
        while self._sent[stream] - self._heard[stream] >= WINDOW_BYTES:
            self._moved.clear()
            await self._moved.wait()
        piece = OutputPiece(
            self.order.follower, self.order.attempt, stream, chunk.offset, chunk.data,
            chunk.skipped_bytes, stream in self._backlogs,
        )  # fmt: skip
        self._backlogs.discard(stream)
        await self._followers.send(self._subject, piece)
        self._sent[stream] = chunk.offset + len(chunk.data)
        if len(chunk.data) < SMALL_BYTES:
            await asyncio.sleep(SMALL_PAUSE_SECONDS)


def _offsets(order: FollowOutput) -> dict[StreamName, int]:
    """Where each wanted stream begins."""
    named = zip(STREAMS, (order.stdout, order.stderr), strict=True)
    return {stream: offset for stream, offset in named if offset is not None}
