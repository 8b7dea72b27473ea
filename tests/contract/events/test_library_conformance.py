"""The library's own cases for persistence modules, run against a real nats-server.

Two cases cannot pass as they are: `ApplicationRecorderTestCase.test_insert_select` writes down the
ids 1, 2 and 3, and `ApplicationTestCase.test_save_returns_recording_event` 1 to 4, while an id here
is `position << 10 | index in the commit` (ids may have gaps, as the library allows with
EXPECT_CONTIGUOUS_NOTIFICATION_IDS). Each is replaced by the same promises with our ids.
`TaggedDecisionCountersProjectionTestCase` is about another kind of store (DCB).
"""

from collections.abc import Iterator
from typing import Any, ClassVar
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    AggregateRecorder,
    InfrastructureFactory,
    IntegrityError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.tests import application as application_cases
from eventsourcing.tests import persistence as cases
from eventsourcing.tests import projection as projection_cases
from eventsourcing.utils import Environment

from mitosis.events.jetstream import JetStreamFactory
from mitosis.events.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    notification_id,
)
from mitosis.events.tracking import JetStreamProcessRecorder, JetStreamTrackingRecorder

from .conftest import Server


def environment(server: Server) -> dict[str, str]:
    name = f"l{uuid4().hex[:12]}"
    return {
        "PERSISTENCE_MODULE": "mitosis.events.jetstream",
        "JETSTREAM_URL": server.url,
        "JETSTREAM_STREAM": name.upper(),
        "JETSTREAM_SUBJECT_PREFIX": f"{name}.events",
    }


class OnJetStream(TestCase):
    """Gives every test a stream of its own, and the environment that leads to it."""

    variables: dict[str, str]
    made: JetStreamFactory

    @pytest.fixture(autouse=True)
    def _own_stream(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.variables = environment(server)
        for key, value in self.variables.items():
            monkeypatch.setenv(key, value)
        self.env: Any = Environment(env=dict(self.variables))
        self.made = JetStreamFactory(dict(self.variables))
        yield
        self.made.close()


class TestAggregateRecorder(OnJetStream, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.made.aggregate_recorder()


class TestSnapshotRecorder(OnJetStream, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.made.aggregate_recorder(purpose="snapshots")


class TestApplicationRecorder(
    OnJetStream, cases.ApplicationRecorderTestCase[JetStreamApplicationRecorder]
):
    EXPECT_CONTIGUOUS_NOTIFICATION_IDS = False

    def create_recorder(self) -> JetStreamApplicationRecorder:
        recorder = self.made.application_recorder()
        assert isinstance(recorder, JetStreamApplicationRecorder)
        return recorder

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()

    def test_insert_select(self) -> None:
        """The library's case of this name, with ids of ours in place of 1, 2 and 3."""
        recorder = self.create_recorder()
        assert recorder.select_notifications(start=None, limit=3) == []
        assert recorder.select_notifications(start=None, limit=3, topics=["topic1"]) == []
        assert recorder.max_notification_id() is None
        id1, id2 = self.new_originator_id(), self.new_originator_id()
        events = [
            StoredEvent(id1, 1, "topic1", b"state1"),
            StoredEvent(id1, 2, "topic2", b"state2"),
            StoredEvent(id2, 1, "topic3", b"state3"),
        ]

        first = recorder.insert_events(events[:2])
        second = recorder.insert_events(events[2:])

        a, b, c = ids = [*(first or ()), *(second or ())]
        assert ids == [notification_id(1, 0), notification_id(1, 1), notification_id(2, 0)]
        assert recorder.select_events(id1) == events[:2]
        assert recorder.select_events(id2) == events[2:]
        with pytest.raises(IntegrityError):
            recorder.insert_events(events[2:])

        def select(*args: Any, **kwargs: Any) -> list[int]:
            found = recorder.select_notifications(*args, **kwargs)
            for n in found:
                event = events[ids.index(n.id)]
                assert (n.originator_id, n.originator_version, n.topic, n.state) == (
                    event.originator_id,
                    event.originator_version,
                    event.topic,
                    event.state,
                )
            return [n.id for n in found]

        assert select(None, 10) == [a, b, c]
        assert select(a, 10) == [a, b, c]
        assert select(None, 10, stop=b) == [a, b]
        assert select(a, 10, inclusive_of_start=False) == [b, c]
        assert select(b, 10, inclusive_of_start=False) == [c]
        assert select(None, 10, topics=["topic1", "topic2", "topic3"]) == [a, b, c]
        assert select(None, 10, topics=["topic1"]) == [a]
        assert select(a, 3, topics=["topic3"]) == [c]
        assert select(a, 3, topics=["topic1", "topic3"]) == [a, c]
        assert recorder.max_notification_id() == c
        assert select(None, 1) == [a]
        assert select(b, 1) == [b]
        assert select(a, 1, inclusive_of_start=False) == [b]
        assert select(b, 2) == [b, c]
        assert select(c, 1) == [c]
        assert select(c, 1, inclusive_of_start=False) == []
        assert select(start=b, limit=10, stop=b) == [b]
        assert select(start=a, limit=10, stop=b) == [a, b]
        assert select(start=a, limit=10, stop=b, inclusive_of_start=False) == [b]


class TestNonInterleavingNotificationIds(OnJetStream, cases.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> JetStreamApplicationRecorder:
        recorder = self.made.application_recorder()
        assert isinstance(recorder, JetStreamApplicationRecorder)
        return recorder


class TestTrackingRecorder(OnJetStream, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.made.tracking_recorder()


class TestProcessRecorder(OnJetStream, cases.ProcessRecorderTestCase):
    def create_recorder(self) -> Any:
        return self.made.process_recorder()


class SpecialTrackingRecorder(JetStreamTrackingRecorder):
    """Named in the environment by the library's case."""


class TestInfrastructureFactory(OnJetStream, cases.InfrastructureFactoryTestCase[JetStreamFactory]):
    def expected_factory_class(self) -> type[JetStreamFactory]:
        return JetStreamFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[JetStreamApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return JetStreamTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return SpecialTrackingRecorder

    def expected_process_recorder_class(self) -> type[JetStreamProcessRecorder]:
        return JetStreamProcessRecorder


class TestExampleApplication(OnJetStream, application_cases.ExampleApplicationTestCase):
    expected_factory_topic = "mitosis.events.jetstream:JetStreamFactory"


class TestApplication(OnJetStream, application_cases.ApplicationTestCase):
    @pytest.mark.filterwarnings("default")
    def test_application_log(self) -> None:
        """The case itself records the warning that our settings would turn into an error."""
        super().test_application_log()

    def test_save_returns_recording_event(self) -> None:
        """The library's case of this name, with ids of ours in place of 1 to 4."""
        with Application[UUID]() as app:
            assert app.save() == []
            assert app.save(None) == []
            ids = [
                [recording.notification.id for recording in app.save(*aggregates)]
                for aggregates in ([Aggregate()], [Aggregate()], [Aggregate(), Aggregate()])
            ]

        assert ids == [
            [notification_id(1, 0)],
            [notification_id(2, 0)],
            [notification_id(3, 0), notification_id(4, 0)],
        ]


class TestEventSourcedProjection(OnJetStream, projection_cases.EventSourcedProjectionTestCase):
    @pytest.fixture(autouse=True)
    def _stream_of_the_projection(self, _own_stream: None, monkeypatch: pytest.MonkeyPatch) -> None:
        # On the application's own stream it would process what it writes, for ever.
        prefix = self.variables["JETSTREAM_SUBJECT_PREFIX"]
        monkeypatch.setenv("COUNTERS_JETSTREAM_STREAM", self.variables["JETSTREAM_STREAM"] + "_C")
        monkeypatch.setenv("COUNTERS_JETSTREAM_SUBJECT_PREFIX", f"{prefix}-counters")


class CountersInMemory(POPOTrackingRecorder, projection_cases.EventCountersView):
    """The view of the library's case; only the application's events are on JetStream."""

    def __init__(self) -> None:
        super().__init__()
        self._created = 0
        self._subsequent = 0

    def get_created_event_counter(self) -> int:
        return self._created

    def get_subsequent_event_counter(self) -> int:
        return self._subsequent

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self._created += 1

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self._subsequent += 1


class TestAggregateEventCountersProjection(
    OnJetStream, projection_cases.AggregateEventCountersProjectionTestCase
):
    view_class = CountersInMemory
    env: ClassVar[dict[str, str]] = {"EVENTCOUNTERS_PERSISTENCE_MODULE": "eventsourcing.popo"}

    @pytest.fixture(autouse=True)
    def _view_in_memory(self, _own_stream: None) -> None:
        self.env = dict(type(self).env)  # type: ignore[misc]


def test_the_library_finds_exactly_one_factory(server: Server) -> None:
    factory = InfrastructureFactory.construct(Environment(env=environment(server)))

    assert type(factory) is JetStreamFactory
    factory.close()
