"""The persistence module of the `eventsourcing` library on JetStream.

    PERSISTENCE_MODULE=mitosis.events.jetstream
    JETSTREAM_URL=nats://127.0.0.1:4222     JETSTREAM_STREAM=MITO_EVENTS
    JETSTREAM_SUBJECT_PREFIX=mito.events    JETSTREAM_LIVE_PREFIX=  (empty: not republished)
    JETSTREAM_REPLICAS=1                    CREATE_TABLE=yes

The same stored form as the coordinator's (envelope.py): what one writes the other reads. A
notification id is `position << 10 | index in the commit`: unique and growing, with gaps. The
recorders are synchronous, as the library wants them, over one event loop in a thread; on an own
loop use their `async` methods (`ainsert_events`, `aselect_events`, `aselect_notifications`).

Exactly one factory may be visible in this module: the library looks for it.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import nats
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    IntegrityError,
    Notification,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, resolve_topic, strtobool
from nats.aio.client import Client

from mitosis.contract import subjects
from mitosis.errors import Misconfigured, MitosisError, TooLarge, VersionConflict
from mitosis.events.envelope import Commit, decode_commit
from mitosis.events.messages import (
    StoredMessage,
    direct_page,
    last_message,
    stream_state,
    subject_messages,
)
from mitosis.events.originators import escape, from_tail, to_tail
from mitosis.events.reader import EventReader
from mitosis.events.store import (
    EVENTS_PER_COMMIT,
    Change,
    CommitContext,
    CommitStore,
    current_context,
)
from mitosis.events.streams import StreamDefinition, ensure_stream

INDEX_BITS = 10
TRACKING_TOPIC = "tracking@1"
_CALL_SECONDS = 60.0
_PAGE = 256

T = TypeVar("T")


def notification_id(position: int, index: int) -> int:
    """Return the library's id of an event: its commit's position and its place in the commit."""
    return position << INDEX_BITS | index


def position_of(notification: int) -> int:
    """Return the position of the commit that a notification id belongs to."""
    return notification >> INDEX_BITS


class EventLoopThread:
    """An event loop in a daemon thread, for the synchronous recorders."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(
            target=self.loop.run_forever, name="mitosis-events", daemon=True
        )
        self._thread.start()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it.

        Raises:
            OperationalError: It took longer than a minute.
        """
        future = self.start(work)
        try:
            return future.result(_CALL_SECONDS)
        except CancelledError as error:
            msg = "the event store was closed meanwhile"
            raise OperationalError(msg) from error
        except TimeoutError as error:
            future.cancel()
            msg = f"the event store did not answer within {_CALL_SECONDS:g} s"
            raise OperationalError(msg) from error

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine on the loop.

        Raises:
            OperationalError: The loop is closed.
        """
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self.loop)
        work.close()
        msg = "the event store is closed"
        raise OperationalError(msg)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and its thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            ended = asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop)
        ended.result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


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


class _TrackingBody(msgspec.Struct):
    application: str
    notification_id: int


class JetStreamTrackingRecorder(TrackingRecorder):
    """How far an application has processed another, as an aggregate of its own.

    Args:
        store: Where commits go.
        tracking_prefix: Subject before the names of applications.
        runner: The loop of `store`.
    """

    def __init__(
        self, store: CommitStore, tracking_prefix: str, runner: EventLoopThread | None = None
    ) -> None:
        self._track_store = store
        self._track_prefix = tracking_prefix
        self._track_runner = runner

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record a position.

        Raises:
            IntegrityError: It is not above what was recorded before.
        """
        self._track_call(self.ainsert_tracking(tracking, current_context()))

    async def ainsert_tracking(self, tracking: Tracking, context: CommitContext) -> None:
        """Record a position, on the loop of the store; errors as above."""
        try:
            await self._track_store.append([await self._tracking_change(tracking)], context)
        except VersionConflict as error:
            raise IntegrityError(error.message) from error
        except MitosisError as error:
            raise OperationalError(error.message) from error

    def max_tracking_id(self, application_name: str) -> int | None:
        """Return the last recorded position of an application, or None."""
        return self._track_call(self._max_tracking(application_name))

    def _track_call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._track_runner is None:
            work.close()
            msg = "this recorder has no loop of its own: use its async methods"
            raise ProgrammingError(msg)
        return self._track_runner.call(work)

    async def _tracking_change(self, tracking: Tracking) -> Change:
        subject = f"{self._track_prefix}.{escape(tracking.application_name)}"
        last, version = await self._last_tracking(subject)
        if last is not None and last >= tracking.notification_id:
            msg = (
                f"{tracking.notification_id} of {tracking.application_name} is not above {last}, "
                "which was recorded before"
            )
            raise IntegrityError(msg)
        body = _TrackingBody(tracking.application_name, tracking.notification_id)
        return Change(subject, version + 1, [(TRACKING_TOPIC, msgspec.json.encode(body))])

    async def _max_tracking(self, application_name: str) -> int | None:
        subject = f"{self._track_prefix}.{escape(application_name)}"
        return (await self._last_tracking(subject))[0]

    async def _last_tracking(self, subject: str) -> tuple[int | None, int]:
        found = await last_message(self._track_store.nc, self._track_store.stream, subject)
        if found is None:
            return None, 0
        commit = decode_commit(found.subject, found.payload, found.position)
        body = msgspec.json.decode(commit.events[-1][1], type=_TrackingBody)
        return body.notification_id, commit.last_version


class JetStreamProcessRecorder(
    JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder
):
    """Events and tracking in one atomic batch."""

    def __init__(
        self,
        store: CommitStore,
        prefix: str,
        tracking_prefix: str,
        runner: EventLoopThread | None = None,
    ) -> None:
        JetStreamTrackingRecorder.__init__(self, store, tracking_prefix, runner)
        JetStreamApplicationRecorder.__init__(self, store, prefix, runner)


class JetStreamFactory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """Builds the recorders from environment variables (see the module)."""

    JETSTREAM_URL = "JETSTREAM_URL"
    JETSTREAM_STREAM = "JETSTREAM_STREAM"
    JETSTREAM_SUBJECT_PREFIX = "JETSTREAM_SUBJECT_PREFIX"
    JETSTREAM_LIVE_PREFIX = "JETSTREAM_LIVE_PREFIX"
    JETSTREAM_REPLICAS = "JETSTREAM_REPLICAS"
    CREATE_TABLE = "CREATE_TABLE"

    def __init__(self, env: Environment | dict[str, str] | None) -> None:
        super().__init__(env)
        self._prefix = self._get(self.JETSTREAM_SUBJECT_PREFIX, subjects.EVENTS)
        self._stream = self._get(self.JETSTREAM_STREAM, subjects.EVENTS_STREAM)
        self._lock = threading.Lock()
        self._runner: EventLoopThread | None = None
        self._nc: Client | None = None
        self._stores: dict[str, CommitStore] = {}

    def _get(self, key: str, default: str) -> str:
        found = self.env.get(key)
        return default if found is None else found

    def _replicas(self) -> int:
        text = self._get(self.JETSTREAM_REPLICAS, "1")
        if text not in {"1", "3", "5"}:
            msg = f"{self.JETSTREAM_REPLICAS}={text!r} must be 1, 3 or 5"
            raise Misconfigured(msg, key=self.JETSTREAM_REPLICAS, value=text)
        return int(text)

    @property
    def _tracking_prefix(self) -> str:
        return f"{self._prefix}-tracking"

    def _events(self) -> StreamDefinition:
        # Our own stream holds domain events only; tracking of a process manager needs another.
        ours = self._stream == subjects.EVENTS_STREAM
        return StreamDefinition(
            name=self._stream,
            prefix=self._prefix,
            live=self._get(self.JETSTREAM_LIVE_PREFIX, subjects.LIVE if ours else ""),
            replicas=self._replicas(),
            extra_subjects=() if ours else (f"{self._tracking_prefix}.>",),
        )

    def _snapshots(self) -> StreamDefinition:
        return StreamDefinition(
            name=f"{self._stream}_SNAPSHOTS",
            prefix=f"{self._prefix}-snapshots",
            live="",
            replicas=self._replicas(),
        )

    def _open(self, definition: StreamDefinition) -> tuple[CommitStore, EventLoopThread]:
        with self._lock:
            if self._runner is None:
                self._runner = EventLoopThread()
            runner = self._runner
            if definition.name not in self._stores:
                create = strtobool(self._get(self.CREATE_TABLE, "yes"))
                self._stores[definition.name] = runner.call(self._connect(definition, create))
            return self._stores[definition.name], runner

    async def _connect(self, definition: StreamDefinition, create: bool) -> CommitStore:
        if self._nc is None:
            url = self._get(self.JETSTREAM_URL, "nats://127.0.0.1:4222")
            self._nc = await nats.connect(
                url, error_cb=_report, max_reconnect_attempts=-1, name="mitosis-events"
            )
        if create:
            await ensure_stream(self._nc, definition)
        else:
            await stream_state(self._nc, definition.name)
        return CommitStore(self._nc, definition.name)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Build a recorder of events or, in a stream of their own, of snapshots."""
        snapshots = purpose != "events"
        definition = self._snapshots() if snapshots else self._events()
        store, runner = self._open(definition)
        return JetStreamAggregateRecorder(store, definition.prefix, runner, gaps=snapshots)

    def application_recorder(self) -> ApplicationRecorder:
        """Build a recorder with notification ids."""
        topic = self.env.get(self.APPLICATION_RECORDER_TOPIC)
        recorder_class = resolve_topic(topic) if topic else JetStreamApplicationRecorder
        store, runner = self._open(self._events())
        recorder: ApplicationRecorder = recorder_class(store, self._prefix, runner)
        return recorder

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        """Build a recorder of positions."""
        if tracking_recorder_class is None:
            topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
            tracking_recorder_class = resolve_topic(topic) if topic else JetStreamTrackingRecorder
        store, runner = self._open(self._events())
        return tracking_recorder_class(store, self._tracking_prefix, runner)

    def process_recorder(self) -> ProcessRecorder:
        """Build a recorder of events together with positions."""
        topic = self.env.get(self.PROCESS_RECORDER_TOPIC)
        recorder_class = resolve_topic(topic) if topic else JetStreamProcessRecorder
        store, runner = self._open(self._events())
        recorder: ProcessRecorder = recorder_class(
            store, self._prefix, self._tracking_prefix, runner
        )
        return recorder

    def close(self) -> None:
        """Close the connection and stop the loop."""
        with self._lock:
            runner, self._runner = self._runner, None
            nc, self._nc = self._nc, None
            self._stores.clear()
        if runner is None:
            return
        try:
            if nc is not None:
                runner.call(nc.close())
        finally:
            runner.close()


Factory = JetStreamFactory


async def _report(error: Exception) -> None:
    logging.getLogger(__name__).warning("NATS reported: %s", error)
