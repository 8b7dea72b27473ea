"""What the library's cases do not ask: lost answers, metadata, time travel, ciphers."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from eventsourcing.application import Application
from eventsourcing.cryptography import AESCipher
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
)

from mitosis.domain.group import Group, GroupCreated, MemberRemoved, MemberRoleSet
from mitosis.domain.roles import Role
from mitosis.errors import Misconfigured
from mitosis.events.catalogue import encode_event
from mitosis.events.envelope import Commit, decode_commit, digest, encode_commit
from mitosis.events.jetstream import JetStreamFactory
from mitosis.events.loop_thread import EventLoopThread
from mitosis.events.mapper import RecordedEvent, project
from mitosis.events.messages import last_message, subject_messages
from mitosis.events.reader import EventReader
from mitosis.events.recorders import JetStreamApplicationRecorder, notification_id, position_of
from mitosis.events.store import CommitStore, commit_context
from mitosis.events.streams import StreamDefinition
from mitosis.events.verify import ChainVerifier
from mitosis.events.writer import PipelinedWriter
from mitosis.nats.store_client import StoreClient

from .conftest import Server

MakeFactory = Callable[..., JetStreamFactory]


def environment(server: Server, name: str) -> dict[str, str]:
    return {
        "PERSISTENCE_MODULE": "mitosis.events.jetstream",
        "JETSTREAM_URL": server.url,
        "JETSTREAM_STREAM": name.upper(),
        "JETSTREAM_SUBJECT_PREFIX": f"{name}.events",
    }


@pytest.fixture
def name() -> str:
    return f"r{uuid4().hex[:12]}"


@pytest.fixture
def factory(name: str) -> Iterator[MakeFactory]:
    made: list[JetStreamFactory] = []

    def make(server: Server, **more: str) -> JetStreamFactory:
        made.append(JetStreamFactory(environment(server, name) | more))
        return made[-1]

    yield make
    for each in made:
        each.close()


def event(originator: str, version: int, state: bytes = b"{}") -> StoredEvent:
    return StoredEvent(originator, version, "topic", state)


async def test_the_context_says_who_committed_and_when(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    recorder = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    at = datetime(2026, 11, 25, 17, 21, 12, 5, tzinfo=UTC)

    await recorder.ainsert_events([event("a", 1)])
    with commit_context(actor="user:alice", command="c-7", now=at):
        await recorder.ainsert_events([event("a", 2), event("a", 3)])

    messages = [m async for m in subject_messages(nc, stream.name, f"{stream.prefix}.a")]
    plain, told = [decode_commit(m.subject, m.payload) for m in messages]
    assert (plain.actor, plain.command) == ("system:library", "")
    assert (told.actor, told.command, told.time, told.version) == ("user:alice", "c-7", at, 2)
    assert told.previous == digest(messages[0].subject, messages[0].payload)


async def test_the_chains_of_the_library_can_be_verified(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    recorder = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    fresh = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)

    await recorder.ainsert_events([event("a", 1), event("b", 1), event("a", 2)])
    await fresh.ainsert_events([event("a", 3), event("b", 2)])

    verifier = ChainVerifier(stream.prefix)
    async for batch in EventReader(nc, stream.name, stream.prefix).batches(follow=False):
        verifier.check(batch)
    assert {tail: link.version for tail, link in verifier.chains.items()} == {"a": 3, "b": 2}


async def test_a_recorder_with_an_old_head_conflicts_once_and_then_goes_on(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    one = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    other = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    await one.ainsert_events([event("a", 1)])
    await other.ainsert_events([event("a", 2)])

    with pytest.raises(IntegrityError, match="somebody else wrote"):
        await one.ainsert_events([event("a", 2)])

    assert await one.ainsert_events([event("a", 3)]) == [notification_id(3, 0)]


async def test_a_batch_with_one_conflict_stores_nothing(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    one = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    other = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    await one.ainsert_events([event("a", 1)])
    await other.ainsert_events([event("a", 2)])

    with pytest.raises(IntegrityError):
        await one.ainsert_events([event("b", 1), event("a", 2)])

    assert await one.aselect_events("b") == []


async def test_a_version_that_would_leave_a_gap_is_refused(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    recorder = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)
    await recorder.ainsert_events([event("a", 1)])

    with pytest.raises(IntegrityError, match="would leave a gap"):
        await recorder.ainsert_events([event("a", 3)])


async def test_a_state_over_the_limit_is_refused(nc: StoreClient, stream: StreamDefinition) -> None:
    recorder = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)

    with pytest.raises(DataError, match="over the limit"):
        await recorder.ainsert_events([event("a", 1, b"x" * nc.max_payload)])


async def test_a_lost_answer_is_settled_by_what_is_stored(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    """The commit is stored, its answer lost, and somebody else has written behind it."""
    subject = f"{stream.prefix}.a"
    store = CommitStore(nc, stream.name)
    ours = Commit("c" * 32, "", "user:a", datetime.now(UTC), 1, "", [("t@1", b"{}")])
    payload = encode_commit(ours)
    await nc.jetstream().publish(subject, payload)
    await nc.jetstream().publish(subject, b"{}")

    # `_settled` is handed the same message again, as after a time-out.
    assert await store._settled([(subject, payload)], {subject: 0}) == 1
    assert len([m async for m in subject_messages(nc, stream.name, subject)]) == 2


def test_appends_go_on_over_a_killed_server(own_server: Server, factory: MakeFactory) -> None:
    recorder = factory(own_server).application_recorder()
    restarted = threading.Event()

    def restart() -> None:
        own_server.kill()
        own_server.start()
        restarted.set()

    recorder.insert_events([event("a", 1)])
    thread = threading.Thread(target=restart)
    thread.start()
    ids = [notification_id(1, 0)]
    version = 1
    while not restarted.is_set() or version < 20:
        version += 1
        ids += recorder.insert_events([event("a", version)]) or ()
    thread.join()

    assert [e.originator_version for e in recorder.select_events("a")] == list(
        range(1, version + 1)
    )
    assert [position_of(i) for i in ids] == list(range(1, version + 1))


def test_a_closed_store_says_so(server: Server, factory: MakeFactory) -> None:
    made = factory(server)
    recorder = made.application_recorder()
    made.close()

    with pytest.raises(OperationalError, match="closed"):
        recorder.max_notification_id()


async def test_a_recorder_without_loop_points_to_its_async_methods(
    nc: StoreClient, stream: StreamDefinition
) -> None:
    recorder = JetStreamApplicationRecorder(CommitStore(nc, stream.name), stream.prefix)

    with pytest.raises(ProgrammingError, match="async methods"):
        recorder.select_events("a")


def test_wrong_replicas_are_misconfigured(server: Server, factory: MakeFactory) -> None:
    with pytest.raises(Misconfigured, match="JETSTREAM_REPLICAS='2'"):
        factory(server, JETSTREAM_REPLICAS="2").application_recorder()


def test_a_stopped_subscription_ends_also_while_it_waits(
    server: Server, factory: MakeFactory
) -> None:
    recorder = factory(server).application_recorder()
    recorder.insert_events([event("a", 1)])
    got_first, ended = threading.Event(), threading.Event()
    subscription = recorder.subscribe()

    def consume() -> None:
        for _ in subscription:
            got_first.set()
        ended.set()

    thread = threading.Thread(target=consume)
    thread.start()
    assert got_first.wait(10)
    subscription.stop()

    assert ended.wait(10)
    thread.join()


def test_a_ciphered_application_round_trips(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment(server, name).items():
        monkeypatch.setenv(key, value)
    env = {
        "CIPHER_TOPIC": "eventsourcing.cryptography:AESCipher",
        "CIPHER_KEY": AESCipher.create_key(32),
    }
    with Application(env=env) as app:
        aggregate = Aggregate()
        app.save(aggregate)

        assert app.repository.get(aggregate.id) == aggregate
    assert os.environ["JETSTREAM_STREAM"] == name.upper()


async def test_time_travel_through_what_the_coordinator_wrote(
    nc: StoreClient, stream: StreamDefinition, server: Server
) -> None:
    tail = "group.lab"
    subject = f"{stream.prefix}.{tail}"
    writer = await PipelinedWriter.open(nc, stream.name)
    bodies = [
        [GroupCreated("lab", "alice"), MemberRoleSet("bob", Role.WRITE)],
        [MemberRoleSet("carol", Role.READ)],
        [MemberRemoved("bob")],
    ]
    previous, position, version = "", 0, 1
    for events in bodies:
        stored = [encode_event(body) for body in events]
        commit = Commit(uuid4().hex, "", "user:alice", datetime.now(UTC), version, previous, stored)
        payload = encode_commit(commit)
        previous, version = digest(subject, payload), commit.last_version + 1
        position, _ = writer.submit(subject, payload, position)
    await writer.flush()
    await writer.close()

    def read_with_the_library() -> tuple[list[set[str]], list[int]]:
        env = environment(server, "x") | {
            "JETSTREAM_STREAM": stream.name,
            "JETSTREAM_SUBJECT_PREFIX": stream.prefix,
            "CREATE_TABLE": "no",
            "MAPPER_TOPIC": "mitosis.events.mapper:CatalogueMapper",
        }
        with Application[str](env=env) as app:
            then = [
                app.repository.get(tail, version=number, projector_func=project)
                for number in (1, 2, 3, 4)
            ]
            app.save(RecordedEvent(tail, 5, MemberRoleSet("dave", Role.READ)))
            then.append(app.repository.get(tail, projector_func=project))
            log = [n.id for n in app.notification_log.select(start=1, limit=10)]
        assert all(isinstance(state, Group) for state in then)
        return [set(state.members) for state in then], log

    members, log = await asyncio.to_thread(read_with_the_library)

    assert members == [
        {"alice"},
        {"alice", "bob"},
        {"alice", "bob", "carol"},
        {"alice", "carol"},
        {"alice", "carol", "dave"},
    ]
    assert [(position_of(i), i & 1023) for i in log] == [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0)]
    last = await last_message(nc, stream.name, subject)
    assert last is not None
    assert decode_commit(last.subject, last.payload).previous == previous


def test_the_loop_of_the_recorders_can_be_closed_twice() -> None:
    runner = EventLoopThread()
    runner.close()
    runner.close()
