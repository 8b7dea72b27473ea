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

import logging
import threading

import nats
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
)
from eventsourcing.utils import Environment, resolve_topic, strtobool
from nats.aio.client import Client

from mitosis.contract import subjects
from mitosis.errors import Misconfigured
from mitosis.events.loop_thread import EventLoopThread
from mitosis.events.messages import stream_state
from mitosis.events.recorders import JetStreamAggregateRecorder, JetStreamApplicationRecorder
from mitosis.events.store import CommitStore
from mitosis.events.streams import StreamDefinition, ensure_stream
from mitosis.events.tracking import JetStreamProcessRecorder, JetStreamTrackingRecorder


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
