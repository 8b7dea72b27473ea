"""The loop against a real Postgres, with the stream in memory: what it refuses and survives."""

import asyncio

import psycopg
import pytest

from mitosis.contract import subjects
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.domain.task import (
    AssignTask,
    Exit,
    ExitKind,
    ReportExit,
    TaskReady,
)
from mitosis.errors import CorruptData, Misconfigured
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.migrations import migrate
from mitosis.projections.plan import fold_all, needed_rows
from mitosis.projections.postgres import OutOfStep
from mitosis.projections.runner import Runner
from mitosis.projections.store import ViewStore
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History, campaign
from mitosis.testing.views import archived, expected_rows, project, running, stored_rows


def runner_of(url: str, source: MemoryCommitSource) -> Runner:
    return Runner(url, source, decode, stream=EVENTS_STREAM)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_tables_are_what_a_fold_in_memory_gives_whatever_the_batches(
    database: str, size: int
) -> None:
    history = campaign(3, 60)
    source = MemoryCommitSource(batch=size)
    async with running(runner_of(database, source)) as runner:
        for at in range(0, len(history.commits), size):
            source.append(history.commits[at : at + size])
            assert await runner.wait_for(min(at + size, len(history.commits)), 10)
    assert stored_rows(database) == expected_rows(history)
    assert archived(database) == history.commits


async def test_who_is_far_behind_makes_no_pause_between_full_batches(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pause of a quarter of a second a batch kept it to 4,000 commits a second."""
    monkeypatch.setattr("mitosis.projections.runner.LINGER_SECONDS", 3_600.0)
    monkeypatch.setattr("mitosis.projections.runner.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("mitosis.projections.feed.MAX_BATCH_COMMITS", 20)
    history = campaign(6, 60)
    source = MemoryCommitSource(history.commits, batch=20)
    full_batches = len(history.commits) // 20
    assert full_batches > 3
    async with running(runner_of(database, source)) as runner:
        # Nobody waits for a position here: that would end the pauses.
        async with asyncio.timeout(30):
            while runner.applied_position < 20 * (full_batches - 1):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_batch_that_overlaps_is_refused_without_the_lock(database: str) -> None:
    history = campaign(4, 30)
    commits = [decode(*raw) for raw in history.commits]
    first, second = await ViewStore.open(database), await ViewStore.open(database)
    for store in (first, second):
        await store.claim(EVENTS_STREAM)

    async def write(store: ViewStore, before: int, last: int) -> None:
        batch = commits[before:last]
        tables = fold_all(await store.load(needed_rows(batch)), batch)
        await store.write(before, tables, batch, batch)

    await write(first, 0, 30)
    with pytest.raises(OutOfStep):
        await write(second, 0, 50)  # overlaps
    await write(second, 30, 40)
    with pytest.raises(OutOfStep):
        await write(first, 30, 35)  # lies inside
    with pytest.raises(OutOfStep):
        await write(first, 45, 50)  # leaves a gap
    await write(first, 40, len(commits))
    assert stored_rows(database) == expected_rows(history)
    assert archived(database) == history.commits
    await first.close()
    await second.close()


async def test_of_two_projectors_one_writes_and_the_other_takes_over(database: str) -> None:
    history = campaign(5, 100)
    half = len(history.commits) // 2
    source = MemoryCommitSource(history.commits[:half])
    standby = runner_of(database, source)
    async with running(runner_of(database, source)) as active:
        assert await active.wait_for(half, 10)
        async with running(standby):
            assert await standby.wait_for(half, 10)  # it knows what the other has done
            assert (active.active, standby.active) == (True, False)
            await stop_session(database)
            source.append(history.commits[half:])
            assert await standby.wait_for(len(history.commits), 10)
            assert await active.wait_for(len(history.commits), 10)
            assert active.active != standby.active
    assert stored_rows(database) == expected_rows(history)


async def stop_session(url: str) -> None:
    """End the session of the active projector, as an administrator or a broken line would."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )


async def test_an_unreadable_commit_stops_the_projection_and_is_never_skipped(
    database: str,
) -> None:
    history = campaign(6, 5)
    bad = len(history.commits) + 1
    source = MemoryCommitSource(history.commits)
    runner = runner_of(database, source)
    task = asyncio.create_task(runner.run())
    assert await runner.wait_for(bad - 1, 10)
    source.append([(bad, "mito.events.user.alice", b'{"schema":1,"what":"is this"}')])
    source.append([(bad + 1, *history.commits[-1][1:])])
    with pytest.raises(CorruptData) as caught:
        await asyncio.wait_for(task, 10)
    assert caught.value.details["position"] == bad
    assert runner.applied_position == bad - 1
    assert stored_rows(database) == expected_rows(history)


async def test_an_event_without_its_beginning_stops_the_projection(database: str) -> None:
    history = History()
    tail = subjects.task_tail("lab", "0" * 8 + "-0000-8000-8000-" + "0" * 12)
    source = MemoryCommitSource([raw_commit(history, tail)])
    with pytest.raises(CorruptData, match="does not follow"):
        await asyncio.wait_for(runner_of(database, source).run(), 10)


def raw_commit(history: History, tail: str) -> tuple[int, str, bytes]:
    other = history.submit("lab", "alice")
    history.states[tail] = history.states[subjects.task_tail("lab", other)]
    _, subject, payload = history.store(tail, [TaskReady()])
    return 1, subject, payload


@pytest.mark.parity("F-29")
async def test_a_gap_in_the_stream_stops_the_projection(database: str) -> None:
    history = campaign(6, 5)
    source = MemoryCommitSource([*history.commits[:10], *history.commits[11:]])
    with pytest.raises(CorruptData, match="goes on at position 12, but 11 is the next"):
        await asyncio.wait_for(runner_of(database, source).run(), 10)


async def test_a_stream_shorter_than_the_archive_is_refused_with_the_way_out(
    database: str,
) -> None:
    history = campaign(7, 20)
    await project(database, history)
    source = MemoryCommitSource(history.commits[:-3])
    with pytest.raises(CorruptData, match="archive") as caught:
        await asyncio.wait_for(runner_of(database, source).run(), 10)
    newest = len(history.commits)
    assert (caught.value.details["position"], caught.value.details["archived"]) == (
        newest - 3,
        newest,
    )


async def test_a_stream_with_another_commit_at_the_archived_position_is_refused(
    database: str,
) -> None:
    await project(database, campaign(7, 20))
    other = campaign(8, 30)
    with pytest.raises(CorruptData, match="in the archive"):
        await asyncio.wait_for(runner_of(database, MemoryCommitSource(other.commits)).run(), 10)


async def test_dropped_read_models_are_built_anew_and_each_commit_compared_with_its_second_copy(
    database: str,
) -> None:
    history = campaign(9, 20)
    await project(database, history)
    with psycopg.connect(database) as session:
        session.execute("DROP SCHEMA views CASCADE")
    await migrate(database)
    position, subject, payload = history.commits[9]
    changed = [*history.commits]
    changed[9] = (position, subject, payload.replace(b"user:alice", b"user:mallo"))
    with pytest.raises(CorruptData, match="position 10 "):
        await asyncio.wait_for(runner_of(database, MemoryCommitSource(changed)).run(), 10)


async def test_read_models_of_another_stream_are_refused(database: str) -> None:
    history = campaign(7, 5)
    await project(database, history)
    other = Runner(database, MemoryCommitSource(history.commits), decode, stream="OTHER")
    with pytest.raises(Misconfigured, match="belong to stream 'MITO_EVENTS', not to 'OTHER'"):
        await asyncio.wait_for(other.run(), 10)


async def test_output_with_a_nul_byte_does_not_stop_the_projection(database: str) -> None:
    history = History()
    history.add_user("alice")
    uuid = history.submit("alice", "alice")
    tail = subjects.task_tail("alice", uuid)
    history.decide(tail, AssignTask("w", 60.0))
    end = Exit(ExitKind.CODE, 0, stdout_tail="a\0b \\u0000")
    history.decide(tail, ReportExit("w", 1, end))
    changed = [*history.commits]
    # a worker id has to be a UUID in the tables
    changed = [(p, s, d.replace(b'"worker":"w"', b'"worker":"%s"' % uuid.encode()))
               for p, s, d in changed]  # fmt: skip
    source = MemoryCommitSource(changed)
    async with running(runner_of(database, source)) as runner:
        assert await runner.wait_for(len(changed), 10)
    (task,) = stored_rows(database)["tasks"]
    assert task["exit"]["stdout_tail"] == "a\ufffdb \\u0000"


async def test_postgres_may_be_killed_at_any_moment(own_postgres: EmbeddedPostgres) -> None:
    history = campaign(10, 300)
    source = MemoryCommitSource(batch=50)
    url = own_postgres.url
    async with running(runner_of(url, source)) as runner:
        for number, at in enumerate(range(0, len(history.commits), 100)):
            source.append(history.commits[at : at + 100])
            if number % 5 == 2:
                await own_postgres.stop(fast=number % 2 == 0)
                await own_postgres.start()
        assert await runner.wait_for(len(history.commits), 20)
    assert stored_rows(url) == expected_rows(history)
    assert archived(url) == history.commits
