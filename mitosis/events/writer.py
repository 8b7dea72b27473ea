"""The coordinator's hot path: one writer that sends commits without waiting for the one before.

The writer is alone, so it knows the sequence of every commit in advance. Each carries the last
sequence that it expects of the whole stream (and of its subject), so a commit is stored at exactly
the position that was predicted or not at all.

    open ── error, silence, lost connection ──> settling
    settling ──> open     what is stored is acknowledged, the rest is sent again in order
    settling ──> closed   Fenced: something foreign stands behind our last position
                          OutcomeUnknown: the budget is over

Authoritative is the stream, never an assumption: an answer that did not come is found out by
reading the positions that were predicted. A closed writer stays closed; its owner reads the stream
again and opens a new one, whose term begins with a takeover (takeover.py).
Decision: docs/decisions/0002-event-store.md.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from mitosis.errors import (
    MitosisError,
    OutcomeUnknown,
    StoreUnavailable,
    TooLarge,
)
from mitosis.events.messages import (
    WRONG_LAST_SEQUENCE,
    parse_answer,
    request,
)
from mitosis.events.settlement import (
    Append,
    Entry,
    OnFailed,
    OnStored,
    check_expectations,
    settle_pending,
)
from mitosis.events.takeover import WINDOW
from mitosis.nats.intake import promptly
from mitosis.nats.store_client import StoreClient

log = logging.getLogger(__name__)

Why = Callable[[], Awaitable[str | None]]

BUDGET_SECONDS = 15.0  # an election of a new stream leader takes 4 to 9 s
ANSWER_SECONDS = 5.0
BATCH_LIMIT = 1000  # nats-server's own
_WATCH_SECONDS = 0.25
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0
_HEADER_ROOM_BYTES = 512


__all__ = ["Append", "PipelinedWriter"]


class PipelinedWriter:
    """The only writer of a stream.

    Callbacks run on the event loop, in the order of positions, and must neither block nor raise.
    All methods belong to the loop on which the writer was opened.
    """

    def __init__(
        self,
        nc: StoreClient,
        stream: str,
        last_position: int,
        *,
        replicas: int = 1,
        window: int = WINDOW,
        budget_seconds: float = BUDGET_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        on_closed: Callable[[MitosisError], None] | None = None,
        why: Why | None = None,
    ) -> None:
        self._nc = nc
        self._stream = stream
        self._next = last_position + 1
        self._replicas = replicas
        self._window = window
        self._budget = budget_seconds
        self._answer = answer_seconds
        self._on_closed = on_closed
        self._why = why
        self.fault: str | None = None
        """Why the server takes nothing until a person has helped; None while that is not known."""

        self._pending: deque[Entry] = deque()
        self._by_last: dict[int, Entry] = {}
        self._outgoing: deque[Entry] = deque()
        self._in_flight = 0
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._wake = asyncio.Event()
        self._idle: list[asyncio.Future[None]] = []
        self._settling: asyncio.Task[None] | None = None
        self._closed_by: MitosisError | None = None
        self._trouble_at = 0.0
        self._rounds = 0
        self._batches = 0

        self._epoch = 0
        self._inbox = nc.new_inbox()
        self._reply = f"{self._inbox}.0."
        self._subscription: Subscription | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        nc: StoreClient,
        stream: str,
        last_position: int | None = None,
        *,
        window: int = WINDOW,
        budget_seconds: float = BUDGET_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        on_closed: Callable[[MitosisError], None] | None = None,
        why: Why | None = None,
    ) -> Self:
        """Start writing behind a position.

        Args:
            nc: An open connection.
            stream: Name of the stream.
            last_position: Up to where the owner has read; the stream's end if not given.
            window: Commits that may be in flight.
            budget_seconds: How long to try before the writer gives up.
            answer_seconds: Silence after which an answer counts as lost.
            on_closed: Called once when the writer closes itself.
            why: Asked, when commits are not taken, for a fault that only a person can end, such as
                a full disk. While there is one the writer waits, however long that takes.

        Raises:
            StoreUnavailable: JetStream does not answer.
        """
        info = await request(nc, f"$JS.API.STREAM.INFO.{stream}")
        if last_position is None:
            last_position = int(info["state"]["last_seq"])
        writer = cls(
            nc,
            stream,
            last_position,
            replicas=int(info["config"].get("num_replicas", 1)),
            window=window,
            budget_seconds=budget_seconds,
            answer_seconds=answer_seconds,
            on_closed=on_closed,
            why=why,
        )
        await writer._start()
        return writer

    async def _start(self) -> None:
        self._subscription = await self._nc.subscribe(
            f"{self._inbox}.>",
            cb=promptly(self._on_answer),
            pending_msgs_limit=0,
            pending_bytes_limit=0,
        )
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._watch())]

    @property
    def room(self) -> int:
        """How many commits may be submitted now; 0 while settling and when closed."""
        if self._closed_by is not None or self._settling is not None:
            return 0
        return max(0, self._window - self._in_flight)

    @property
    def next_position(self) -> int:
        """The position that the next commit will get."""
        return self._next

    @property
    def closed_by(self) -> MitosisError | None:
        """Why the writer is closed, or None while it is not."""
        return self._closed_by

    def submit(
        self, subject: str, payload: bytes, expected: int
    ) -> tuple[int, asyncio.Future[int]]:
        """Send a commit and return its position and a future that ends when it is stored.

        Raises:
            StoreUnavailable: There is no room; nothing was sent.
            TooLarge: The commit exceeds what the server takes; nothing was sent.
            MitosisError: The writer is closed, with the reason.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        position = self.send(subject, payload, expected, _resolver(future), _failer(future))
        return position, future

    def send(
        self,
        subject: str,
        payload: bytes,
        expected: int,
        on_stored: OnStored,
        on_failed: OnFailed | None = None,
    ) -> int:
        """Send a commit; like `submit`, without a future.

        Args:
            subject: Subject of the aggregate.
            payload: The encoded commit.
            expected: Position of the aggregate's previous commit, 0 for none; it may still be in
                flight.
            on_stored: Called with the position when it is on disk.
            on_failed: Called if the writer closes before.

        Returns:
            The position that the commit gets, if it is stored.
        """
        return self._enqueue((Append(subject, payload, expected),), on_stored, on_failed)

    def submit_batch(self, appends: Sequence[Append]) -> tuple[int, asyncio.Future[int]]:
        """Store commits of several aggregates, all or none.

        Of several commits of one aggregate only the first may name what it expects; the others'
        `expected` is not checked.

        Returns:
            The position of the last commit, and a future that ends with it.

        Raises:
            StoreUnavailable: There is no room; nothing was sent.
            TooLarge: More than `BATCH_LIMIT` commits, or a commit is too large.
        """
        if not 0 < len(appends) <= BATCH_LIMIT:
            msg = f"an atomic batch has 1 to {BATCH_LIMIT} commits, not {len(appends)}"
            raise TooLarge(msg, size=len(appends), limit=BATCH_LIMIT)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        position = self._enqueue(tuple(appends), _resolver(future), _failer(future))
        return position, future

    def _enqueue(
        self, appends: Sequence[Append], on_stored: OnStored, on_failed: OnFailed | None
    ) -> int:
        if self._closed_by is not None:
            raise self._closed_by
        # A batch longer than the window goes out alone (a takeover is such a batch).
        alone = self._in_flight == 0 and len(appends) > 1 and self._settling is None
        if len(appends) > self.room and not alone:
            what = "settling lost answers" if self._settling else f"{self._in_flight} in flight"
            msg = f"the event store takes no commit now ({what}); try again shortly"
            raise StoreUnavailable(msg, in_flight=self._in_flight)
        limit = self._nc.max_payload - _HEADER_ROOM_BYTES
        for append in appends:
            if len(append.payload) > limit:
                size = len(append.payload)
                msg = f"a commit of {size} bytes is over the limit of {limit} bytes"
                raise TooLarge(msg, size=size, limit=limit)
        entry = Entry(self._next, appends, on_stored, on_failed)
        self._next = entry.last + 1
        self._in_flight += len(appends)
        self._pending.append(entry)
        self._by_last[entry.last] = entry
        self._outgoing.append(entry)
        self._send_outgoing()
        return entry.last

    def send_batch(
        self, appends: Sequence[Append], on_stored: OnStored, on_failed: OnFailed | None = None
    ) -> int:
        """Store one commit, or several all or none; like `submit_batch`, without a future."""
        return self._enqueue(tuple(appends), on_stored, on_failed)

    async def flush(self) -> None:
        """Wait until everything that was submitted is stored.

        Raises:
            MitosisError: The writer closed before, with the reason.
        """
        if self._closed_by is not None:
            raise self._closed_by
        if self._pending:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    async def close(self) -> None:
        """Stop. Commits that are still in flight fail with `OutcomeUnknown`; flush before."""
        error = OutcomeUnknown("the writer was closed before the answer came")
        self._shut(error, deliberately=True)
        tasks = [task for task in (*self._tasks, self._settling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._subscription is not None and not self._nc.is_closed:
            await self._subscription.unsubscribe()

    # Sending

    def _send_outgoing(self) -> None:
        """Send what is due; what the connection has no room for waits for `_pump`."""
        while self._outgoing:
            if self._nc.is_full:
                self._wake.set()
                return
            try:
                self._publish(self._outgoing.popleft())
            except (NatsError, OSError) as error:
                self._trouble(str(error) or type(error).__name__)

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing:
                await self._nc.make_room()
                self._send_outgoing()

    def _publish(self, entry: Entry) -> None:
        reply = f"{self._reply}{entry.last}"
        if len(entry.appends) == 1:
            append = entry.appends[0]
            headers = b"Nats-Expected-Last-Sequence: %d\r\n" % (entry.first - 1)
            headers += self._subject_check(append, entry.first)
            self._nc.post(append.subject, append.payload, reply, headers)
            return
        self._batches += 1
        batch = f"{self._inbox[-22:]}-{self._batches}".encode()
        seen: set[str] = set()
        last = len(entry.appends) - 1
        for index, append in enumerate(entry.appends):
            headers = b"Nats-Batch-Id: %b\r\nNats-Batch-Sequence: %d\r\n" % (batch, index + 1)
            if index == 0:
                headers += b"Nats-Expected-Last-Sequence: %d\r\n" % (entry.first - 1)
            if append.subject not in seen:
                seen.add(append.subject)
                headers += self._subject_check(append, entry.first + index)
            if index == last:
                headers += b"Nats-Batch-Commit: 1\r\n"
            self._nc.post(append.subject, append.payload, reply if index == last else "", headers)

    def _subject_check(self, append: Append, position: int) -> bytes:
        if not self._may_check(append.subject, position):
            return b""
        return b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % append.expected

    def _may_check(self, subject: str, position: int) -> bool:
        """Whether the subject's own sequence may be checked too.

        With replicas the server refuses a second check of a subject while the first write is not
        applied everywhere (10164), shortly beyond its answer even. Then the position in the whole
        stream stands alone: it implies the subject's, as nobody else has written in between.
        """
        if self._replicas == 1:
            return True
        recent = self._recent
        while recent and next(iter(recent.values())) <= position - 2 * self._window:
            recent.popitem(last=False)
        fresh = subject not in recent
        recent[subject] = position
        recent.move_to_end(subject)
        return fresh

    # Answers

    def _on_answer(self, message: Msg) -> None:
        subject = message.subject
        if not subject.startswith(self._reply) or self._settling is not None:
            return  # of an earlier epoch: settled by reading
        data = message.data
        position = int(subject[len(self._reply) :])
        if data.startswith(b'{"stream"') and _sequence(data) == position:
            self._acknowledge(position)
            return
        answer = parse_answer(data) if data else None
        if answer is None:
            self._trouble("JetStream does not answer (no responders)")
        elif answer.error is not None:
            self._trouble(answer.error.description, answer.error.err_code)
        else:
            self._trouble(f"position {position} was expected, {answer.seq} answered")

    def _acknowledge(self, position: int) -> None:
        entry = self._by_last.get(position)
        if entry is None:
            return
        entry.stored = True
        pending = self._pending
        while pending and pending[0].stored:
            self._pop_stored()

    def _pop_stored(self) -> None:
        entry = self._pending.popleft()
        del self._by_last[entry.last]
        self._in_flight -= len(entry.appends)
        self._trouble_at = 0.0
        self._rounds = 0
        self._set_fault(None)
        if not self._pending:
            self._release()
        _tell(entry.on_stored, entry.last)

    def _release(self) -> None:
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Trouble

    async def _watch(self) -> None:
        """See lost connections and lost answers."""
        loop = asyncio.get_running_loop()
        reconnects = self._nc.stats["reconnects"]
        head, since = 0, loop.time()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            lost = self._nc.stats["reconnects"] != reconnects or not self._nc.is_connected
            reconnects = self._nc.stats["reconnects"]
            if not self._pending or self._settling is not None:
                head = 0
                continue
            if lost:
                self._trouble("the connection to NATS was lost")
            elif self._pending[0].last != head:
                head, since = self._pending[0].last, loop.time()
            elif loop.time() - since > self._answer:
                self._trouble(f"JetStream did not answer within {self._answer:g} s")

    def _trouble(self, reason: str, err_code: int = 0) -> None:
        if self._settling is not None or self._closed_by is not None:
            return
        self._outgoing.clear()
        if not self._trouble_at:
            self._trouble_at = asyncio.get_running_loop().time()
        self._settling = asyncio.create_task(self._settle(reason, err_code))

    async def _settle(self, reason: str, err_code: int) -> None:
        loop = asyncio.get_running_loop()
        await self._look_for_fault()
        deadline = self._trouble_at + self._budget
        # A wrong sequence is decided at once; everything else needs a moment to heal.
        if err_code != WRONG_LAST_SEQUENCE or self._rounds:
            await asyncio.sleep(self._pause())
        while loop.time() < deadline:
            try:
                await self._reconcile(check_subject=err_code == WRONG_LAST_SEQUENCE)
            except StoreUnavailable as error:
                reason = error.message
                self._rounds += 1
                await asyncio.sleep(self._pause())
                if await self._look_for_fault():
                    deadline = loop.time() + self._budget
            except MitosisError as error:
                self._shut(error)
                return
            else:
                self._rounds += 1
                self._send_again()
                return
        self._shut(self._gave_up(reason))

    async def _look_for_fault(self) -> bool:
        """Ask for a fault; one that is known, or was until now, begins the budget anew."""
        before = self.fault
        self._set_fault(await self._why() if self._why is not None else None)
        if not (self.fault or before):
            return False
        self._trouble_at = asyncio.get_running_loop().time()
        return True

    def _set_fault(self, fault: str | None) -> None:
        if fault != self.fault:
            self.fault = fault
            log.warning("%s", fault or "the NATS server takes commits again")

    def _pause(self) -> float:
        return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(self._rounds, 10), _LONGEST_PAUSE_SECONDS)

    def _gave_up(self, reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"the event store did not take commits for {self._budget:g} s ({reason}). Commits from "
            f"position {self._pending[0].first if self._pending else self._next} on may or may not "
            "be stored; the stream tells.",
            reason=reason,
        )

    async def _reconcile(self, *, check_subject: bool) -> None:
        await settle_pending(self._nc, self._stream, self._pending, self._next, self._pop_stored)
        if check_subject and self._pending:
            await check_expectations(self._nc, self._stream, self._pending[0])

    def _send_again(self) -> None:
        self._settling = None
        self._epoch += 1
        self._reply = f"{self._inbox}.{self._epoch}."
        self._recent.clear()
        for entry in self._pending:
            entry.stored = False
        self._outgoing.extend(self._pending)
        self._wake.set()

    def _shut(self, error: MitosisError, *, deliberately: bool = False) -> None:
        if self._closed_by is not None:
            return
        self._closed_by = error
        self._outgoing.clear()
        failed, self._pending = self._pending, deque()
        self._by_last.clear()
        self._in_flight = 0
        waiters, self._idle = self._idle, []
        for entry in failed:
            if entry.on_failed is not None:
                _tell(entry.on_failed, error)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
        if self._on_closed is not None and not deliberately:
            _tell(self._on_closed, error)


def _tell(callback: Callable[[Any], None], value: Any) -> None:
    """Call an owner's callback; one that raises must not stop the writer, only be seen."""
    try:
        callback(value)
    except Exception as error:  # noqa: BLE001
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"a callback of the event writer failed: {error}", "exception": error}
        )


def _sequence(data: bytes) -> int:
    """Read `"seq":N` of an acknowledgement without parsing the rest; 0 if there is none."""
    start = data.find(b'"seq":')
    if start < 0:
        return 0
    start += 6
    end = start
    while data[end : end + 1].isdigit():
        end += 1
    return int(data[start:end] or 0)


def _resolver(future: "asyncio.Future[int]") -> OnStored:
    def resolve(position: int) -> None:
        if not future.done():
            future.set_result(position)

    return resolve


def _failer(future: "asyncio.Future[int]") -> OnFailed:
    def fail(error: MitosisError) -> None:
        if not future.done():
            future.set_exception(error)
            # Read once: whoever dropped the future learns it from `on_closed` and `closed_by`.
            future.exception()

    return fail
