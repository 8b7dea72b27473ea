"""The projector as its clients see it: requests over NATS, answered from what was stored."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from mitosis.contract import subjects
from mitosis.contract.queries import (
    ArtifactLink,
    GetArtifact,
    GetGroup,
    GetTask,
    ListTasks,
    TaskPage,
    TaskView,
    WhoAmI,
)
from mitosis.contract.wire import Nothing
from mitosis.domain import task
from mitosis.domain.task import ArtifactKind
from mitosis.errors import CorruptData, InvalidInput, NotFound, Unavailable, ViewUnavailable
from mitosis.events.messages import request as jetstream_request
from mitosis.events.messages import stream_state
from mitosis.events.streams import ensure_stream
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.projector.handlers import Links
from mitosis.services.projector.service import ProjectorService
from mitosis.testing.history import History
from mitosis.testing.views import expected_rows, stored_rows


def presign(object_name: str, filename: str) -> str:
    return f"https://s3.invalid/{object_name}?name={filename}"


@pytest.fixture
async def service(connection: Connection, database: str) -> AsyncIterator[ProjectorService]:
    started = ProjectorService(connection, database, Links(presign, presign))
    await started.start()
    yield started
    await started.stop()


class Answer(NamedTuple):
    """What `call` gives, with a result that is there."""

    result: Any
    position: int
    stale: bool


class Writer:
    """Decides commands and stores what they make true, one acknowledged commit at a time."""

    def __init__(self, connection: Connection) -> None:
        self.history = History()
        self._connection = connection
        self._stored = 0

    async def store(self) -> int:
        """Store what is new in the history; the last position is acknowledged."""
        for _, subject, payload in self.history.commits[self._stored :]:
            await self._connection.jetstream.publish(subject, payload)
        self._stored = len(self.history.commits)
        return self._stored


@pytest.fixture
async def writer(connection: Connection) -> Writer:
    made = Writer(connection)
    made.history.add_user("alice")
    await made.store()
    return made


async def ask(
    connection: Connection, verb: str, body: Any, result: type[Any], user: str = "alice"
) -> Answer:
    subject = subjects.query(user, *verb.split("."))
    reply = await call(connection, subject, body, result, timeout_seconds=10)
    return Answer(reply.result, reply.position, reply.stale)


async def test_a_read_shows_everything_that_was_stored_before_it(
    connection: Connection, service: ProjectorService, writer: Writer
) -> None:
    for _ in range(50):
        uuid = writer.history.submit("alice", "alice")
        position = await writer.store()
        reply = await ask(connection, "task.get", GetTask("last"), TaskView)
        assert reply.result.uuid == uuid
        assert (reply.stale, reply.position) == (False, position)


async def test_many_reads_at_once_are_all_fresh(
    connection: Connection, service: ProjectorService, writer: Writer
) -> None:
    async def submit_and_read(number: int) -> bool:
        uuid = writer.history.submit("alice", "alice")
        await connection.jetstream.publish(*writer.history.commits[-1][1:])
        reply = await ask(connection, "task.get", GetTask(uuid), TaskView)
        return bool(reply.result.uuid == uuid and not reply.stale)

    assert all(await asyncio.gather(*(submit_and_read(n) for n in range(60))))


async def test_every_answer_is_typed_and_every_error_has_its_code(
    connection: Connection, service: ProjectorService, writer: Writer
) -> None:
    uuid = writer.history.submit("alice", "alice")
    tail = subjects.task_tail("alice", uuid)

    stored = task.Artifact(ArtifactKind.RESULT, "the/object", 5, "0" * 64)
    writer.history.decide(tail, task.StoreArtifact("", 0, stored))
    await writer.store()
    assert (await ask(connection, "user.whoami", Nothing(), WhoAmI)).result.username == "alice"
    page = (await ask(connection, "task.list", ListTasks(), TaskPage)).result
    assert [shown.uuid for shown in page.tasks] == [uuid]
    link = (
        await ask(connection, "artifact.get", GetArtifact(uuid, ArtifactKind.RESULT), ArtifactLink)
    ).result
    assert link.url == "https://s3.invalid/the/object?name=result.tar.gz"
    with pytest.raises(NotFound):
        await ask(connection, "task.get", GetTask("alice#77"), TaskView)
    with pytest.raises(InvalidInput):
        await ask(connection, "task.get", GetTask("x"), TaskView)
    with pytest.raises(InvalidInput, match=r"there is no 'task\.nonsense'"):
        await ask(connection, "task.nonsense", Nothing(), Nothing)


async def test_a_standby_answers_too(
    connection: Connection, other_connection: Connection, database: str, writer: Writer
) -> None:
    first = ProjectorService(connection, database, Links(presign, presign))
    await first.start()
    assert await first.runner.wait_for(2, 10)
    second = ProjectorService(other_connection, database, Links(presign, presign))
    await second.start()
    for _ in range(20):  # the queue group spreads them over both
        uuid = writer.history.submit("alice", "alice")
        await writer.store()
        reply = await ask(connection, "task.get", GetTask("last"), TaskView)
        assert (reply.result.uuid, reply.stale) == (uuid, False)
    assert (first.status().active, second.status().active) == (True, False)
    await first.stop()
    uuid = writer.history.submit("alice", "alice")
    position = await writer.store()
    assert await second.runner.wait_for(position, 10)
    assert second.status().active
    await second.stop()
    await second.stop()


async def test_answers_are_marked_stale_and_no_refusal_is_believed_when_it_cannot_follow(
    connection: Connection, service: ProjectorService, writer: Writer
) -> None:
    await ask(connection, "user.whoami", Nothing(), WhoAmI)
    writer.history.add_user("bob")
    await writer.store()
    await ask(connection, "user.whoami", Nothing(), WhoAmI, user="bob")
    await connection.jetstream.publish("mito.events.user.alice", b"not a commit")
    reply = await ask(connection, "user.whoami", Nothing(), WhoAmI)
    assert (reply.result.username, reply.stale) == ("alice", True)
    assert reply.position == len(writer.history.commits)
    for verb, body in (("task.get", GetTask("alice#1")), ("group.get", GetGroup("lab"))):
        with pytest.raises(ViewUnavailable, match="is not certain: "):  # it may be there by now
            await ask(connection, verb, body, TaskView)
    with pytest.raises(ViewUnavailable):
        await ask(connection, "user.whoami", Nothing(), WhoAmI, user="new")
    with pytest.raises(InvalidInput):
        await ask(connection, "task.get", GetTask("x"), TaskView)
    with pytest.raises(CorruptData):
        await asyncio.wait_for(service.wait(), 10)


async def test_without_postgres_reads_fail_in_time_and_come_back(
    connection: Connection, writer: Writer, own_postgres: EmbeddedPostgres
) -> None:
    service = ProjectorService(connection, own_postgres.url, Links(presign, presign))
    await service.start()
    await ask(connection, "user.whoami", Nothing(), WhoAmI)
    await own_postgres.stop(fast=True)
    uuid = writer.history.submit("alice", "alice")
    await writer.store()
    with pytest.raises(ViewUnavailable):
        await ask(connection, "task.get", GetTask("last"), TaskView)
    await own_postgres.start()
    assert await service.runner.wait_for(len(writer.history.commits), 10)
    reply = await ask(connection, "task.get", GetTask("last"), TaskView)
    assert (reply.result.uuid, reply.stale) == (uuid, False)
    await service.stop()


async def back(connection: Connection, stored: int) -> None:
    """Wait until the stream answers on a new link."""
    for _ in range(1_000):
        try:
            if (await stream_state(connection.raw, "MITO_EVENTS")).last_seq == stored:
                return
        except Unavailable as error:
            last = error
        await asyncio.sleep(0.02)
    raise last


async def test_nats_may_restart_and_nothing_is_lost(
    own_nats: EmbeddedNats,
    connection: Connection,
    service: ProjectorService,
    writer: Writer,
    database: str,
) -> None:
    for _ in range(2):
        writer.history.submit("alice", "alice")
        position = await writer.store()
        assert await service.runner.wait_for(position, 10)
        await own_nats.stop(fast=True)
        await own_nats.start()
        await back(connection, position)
        writer.history.submit("alice", "alice")
        position = await writer.store()
        assert await service.runner.wait_for(position, 20)
    assert stored_rows(database) == expected_rows(writer.history)


async def test_a_stream_that_was_emptied_is_refused(
    connection: Connection, database: str, writer: Writer
) -> None:
    service = ProjectorService(connection, database, Links(presign, presign))
    await service.start()
    assert await service.runner.wait_for(len(writer.history.commits), 10)
    await service.stop()
    await jetstream_request(connection.raw, "$JS.API.STREAM.DELETE.MITO_EVENTS")

    await ensure_stream(connection.raw)
    again = ProjectorService(connection, database, Links(presign, presign))
    await again.start()
    with pytest.raises(CorruptData, match="archive"):
        await asyncio.wait_for(again.wait(), 10)
    await again.stop()


async def test_postgres_down_at_the_start_is_said(connection: Connection) -> None:
    url = "postgres://mitosis:secret-word@127.0.0.1:1/mitosis"
    service = ProjectorService(connection, url, Links(presign, presign))
    with pytest.raises(ViewUnavailable, match=r"mitosis@127\.0\.0\.1:1") as caught:
        await service.start()
    assert "secret-word" not in str(caught.value)
    await service.stop()
