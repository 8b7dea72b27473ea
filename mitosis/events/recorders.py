"""Recorders of events for the `eventsourcing` library: one aggregate, and all in one sequence.

A notification id is `position << 10 | index in the commit`: unique and growing, with gaps. The
methods that the library calls are synchronous; on an own loop use those that begin with `a`.
"""

import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    IntegrityError,
    Notification,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Subscription,
    Tracking,
)

from mitosis.errors import MitosisError, TooLarge, VersionConflict
from mitosis.events.envelope import Commit, decode_commit
from mitosis.events.loop_thread import EventLoopThread
from mitosis.events.messages import StoredMessage, direct_page, last_message, subject_messages
from mitosis.events.originators import from_tail, to_tail
from mitosis.events.reader import EventReader
from mitosis.events.store import (
    EVENTS_PER_COMMIT,
    Change,
    CommitContext,
    CommitStore,
    current_context,
)

INDEX_BITS = 10
_PAGE = 256

T = TypeVar("T")


def notification_id(position: int, index: int) -> int:
    """Return the library's id of an event: its commit's position and its place in the commit."""
    return position << INDEX_BITS | index


def position_of(notification: int) -> int:
    """Return the position of the commit that a notification id belongs to."""
    return notification >> INDEX_BITS


class JetStreamAggregateRecorder(AggregateRecorder):
    """Stored events of aggregates, without notification ids.

    Args:
        store: Where commits go.
        prefix: Subject before the tails of aggregates.
        runner: The loop of `store`, for the synchronous methods; None if only the asynchronous
            ones are used, on the loop of the store.
        gaps: Versions may skip numbers (snapshots).
    """

    def __init__(
        self,
        store: CommitStore,
        prefix: str,
        runner: EventLoopThread | None = None,
        *,
        gaps: bool = False,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._runner = runner
        self._gaps = gaps

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._runner is None:
            work.close()
            msg = "this recorder has no loop of its own: use its async methods"
            raise ProgrammingError(msg)
        return self._runner.call(work)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Store events, all or none.

        Raises:
            IntegrityError: A version is taken.
            OperationalError: The outcome could not be found out; read again.
        """
        tracking: Tracking | None = kwargs.get("tracking")
        self._call(self._insert(stored_events, current_context(), tracking))
        return None

    async def ainsert_events(
        self, stored_events: Sequence[StoredEvent], tracking: Tracking | None = None
    ) -> Sequence[int]:
        """Store events, all or none, on the loop of the store; return their notification ids."""
        return await self._insert(stored_events, current_context(), tracking)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Read events of one aggregate."""
        return self._call(
            self.aselect_events(originator_id, gt=gt, lte=lte, desc=desc, limit=limit)
        )

    async def aselect_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Read events of one aggregate, on the loop of the store."""
        subject = self._subject(originator_id)
        found: list[StoredEvent] = []
        async for commit in self._commits(subject, only_last=desc and limit == 1 and lte is None):
            found += [
                StoredEvent(originator_id, commit.version + index, topic, bytes(body))
                for index, (topic, body) in enumerate(commit.events)
                if (gt is None or commit.version + index > gt)
                and (lte is None or commit.version + index <= lte)
            ]
            if not desc and limit is not None and len(found) >= limit:
                break
        if desc:
            found.reverse()
        return found if limit is None else found[:limit]

    async def _commits(self, subject: str, *, only_last: bool) -> AsyncIterator[Commit]:
        nc, stream = self._store.nc, self._store.stream
        if only_last:
            last = await last_message(nc, stream, subject)
            if last is not None:
                yield decode_commit(last.subject, last.payload, last.position)
            return
        async for message in subject_messages(nc, stream, subject):
            yield decode_commit(message.subject, message.payload, message.position)

    def _subject(self, originator_id: UUID | str) -> str:
        return f"{self._prefix}.{to_tail(originator_id)}"

    async def _insert(
        self,
        stored_events: Sequence[StoredEvent],
        context: CommitContext,
        tracking: Tracking | None,
    ) -> list[int]:
        changes, sizes = self._changes(stored_events)
        if tracking is not None:
            changes.insert(0, await self._tracking_change(tracking))
            sizes.insert(0, 0)
        if not changes:
            return []
        try:
            positions = await self._store.append(changes, context, gaps=self._gaps)
        except VersionConflict as error:
            raise IntegrityError(error.message) from error
        except TooLarge as error:
            raise DataError(error.message) from error
        except MitosisError as error:
            raise OperationalError(error.message) from error
        return [
            notification_id(position, index)
            for position, size in zip(positions, sizes, strict=True)
            for index in range(size)
        ]

    async def _tracking_change(self, tracking: Tracking) -> Change:
        msg = f"{type(self).__name__} does not record tracking of {tracking.application_name}"
        raise ProgrammingError(msg)

    def _changes(self, stored_events: Sequence[StoredEvent]) -> tuple[list[Change], list[int]]:
        """Group neighbouring events of one aggregate into commits, keeping the order."""
        changes: list[Change] = []
        events: list[tuple[str, bytes]] = []
        for event in stored_events:
            subject = self._subject(event.originator_id)
            last = changes[-1] if changes else None
            if (
                last is None
                or last.subject != subject
                or event.originator_version != last.version + len(last.events)
                or len(last.events) == EVENTS_PER_COMMIT
            ):
                events = []
                changes.append(Change(subject, event.originator_version, events))
            events.append((event.topic, event.state))
        return changes, [len(change.events) for change in changes]


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, ApplicationRecorder):
    """Stored events in one sequence for all aggregates of a stream."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Store events, all or none, and return their notification ids; errors as above."""
        tracking: Tracking | None = kwargs.get("tracking")
        return self._call(self._insert(stored_events, current_context(), tracking))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Read events in the order in which they were stored."""
        return self._call(
            self.aselect_notifications(
                start, limit, stop, topics, inclusive_of_start=inclusive_of_start
            )
        )

    async def aselect_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Read events in the order in which they were stored, on the loop of the store."""
        lowest = 0 if start is None else start if inclusive_of_start else start + 1
        position = max(position_of(lowest), 1)
        found: list[Notification] = []
        while len(found) < limit:
            body = {
                "seq": position,
                "next_by_subj": f"{self._prefix}.>",
                "batch": min(_PAGE, limit),
            }
            page, more = await direct_page(self._store.nc, self._store.stream, body)
            for message in page:
                if stop is not None and message.position > position_of(stop):
                    return found[:limit]
                found += [
                    n
                    for n in self.notifications(message, topics)
                    if n.id >= lowest and (stop is None or n.id <= stop)
                ]
            if not more or not page:
                break
            position = page[-1].position + 1
        return found[:limit]

    def notifications(
        self, message: StoredMessage, topics: Sequence[str] = ()
    ) -> list[Notification]:
        """Return the events of a stored message as the library knows them."""
        commit = decode_commit(message.subject, message.payload, message.position)
        originator_id = from_tail(message.subject[len(self._prefix) + 1 :])
        return [
            Notification(
                originator_id=originator_id,
                originator_version=commit.version + index,
                topic=topic,
                state=bytes(body),
                id=notification_id(message.position, index),
            )
            for index, (topic, body) in enumerate(commit.events)
            if not topics or topic in topics
        ]

    def max_notification_id(self) -> int | None:
        """Return the id of the last event, or None."""
        return self._call(self._max_notification_id())

    async def _max_notification_id(self) -> int | None:
        nc, stream = self._store.nc, self._store.stream
        message = await last_message(nc, stream, f"{self._prefix}.>")
        if message is None:
            return None
        commit = decode_commit(message.subject, message.payload, message.position)
        return notification_id(message.position, max(len(commit.events), 1) - 1)

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Follow the events with ids above `gt`."""
        return JetStreamSubscription(recorder=self, gt=gt, topics=topics)

    def reader(self) -> EventReader:
        """Return a reader of the stream of this recorder."""
        return EventReader(self._store.nc, self._store.stream, self._prefix)

    def batches(self, gt: int | None) -> AsyncIterator[list[StoredMessage]]:
        """Read stored messages from the commit of an id on; for subscriptions."""
        start = 1 if gt is None else max(position_of(gt), 1)
        return self.reader().batches(start, filters=[f"{self._prefix}.>"])

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine on the loop of the store and return its concurrent future."""
        if self._runner is None:
            work.close()
            msg = "this recorder has no loop of its own: use `batches`"
            raise ProgrammingError(msg)
        return self._runner.start(work)


class JetStreamSubscription(Subscription[JetStreamApplicationRecorder]):
    """Notifications one after another, live; waits for the next in the caller's thread."""

    def __init__(
        self,
        recorder: JetStreamApplicationRecorder,
        gt: int | None = None,
        topics: Sequence[str] = (),
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._lock = threading.Lock()
        self._batches = recorder.batches(gt)
        self._ready: list[Notification] = []
        self._waiting: Any = None

    def __next__(self) -> Notification:
        """Return the next notification.

        Raises:
            StopIteration: The subscription was stopped.
            OperationalError: The stream cannot be read any more.
        """
        while not self._ready:
            with self._lock:
                if self._has_been_stopped:
                    raise StopIteration
                self._waiting = self._recorder.start(self._next_batch())
            try:
                messages = self._waiting.result()
            except CancelledError:
                raise StopIteration from None
            except MitosisError as error:
                raise OperationalError(error.message) from error
            last = self._last_notification_id or 0
            self._ready = [
                n
                for message in messages
                for n in self._recorder.notifications(message, self._topics)
                if n.id > last
            ][::-1]
        if self._has_been_stopped:
            raise StopIteration
        notification = self._ready.pop()
        self._last_notification_id = notification.id
        return notification

    async def _next_batch(self) -> list[StoredMessage]:
        return await anext(self._batches)

    def stop(self) -> None:
        """End the iteration, also one that waits in another thread."""
        with self._lock:
            if self._has_been_stopped:
                return
            super().stop()
            if self._waiting is not None:
                self._waiting.cancel()
        self._recorder.start(self._finish())

    async def _finish(self) -> None:
        await self._batches.aclose()  # type: ignore[attr-defined]
