"""Read models that are built beside the live ones: to take their place, or to be compared."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import CorruptData, WrongState
from mitosis.projections.beside import History as Origin
from mitosis.projections.beside import building, rebuild
from mitosis.projections.comparison import verify
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.pool import ReadPool
from mitosis.projections.postgres import Connection
from mitosis.projections.runner import Runner
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History, campaign
from mitosis.testing.views import (
    archived,
    expected_rows,
    project,
    running,
    stored_rows,
    until_somebody_waits,
)

SPOILED = (
    "UPDATE views.tasks SET state = 'ready', reason = 'because' WHERE number = 3;"
    "DELETE FROM views.groups WHERE name = 'lab';"
    "INSERT INTO views.members VALUES ('lab', 'mallory', 3);"
    "UPDATE views.group_usage SET ready = ready + 1 WHERE group_name = 'lab'"
)
SHAPE = """
    SELECT table_name, column_name, data_type, column_default, is_nullable, ordinal_position
    FROM information_schema.columns WHERE table_schema = %s ORDER BY 1, 6
"""
INDEXES = (
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY 1, 2"
)


def origin(history: History) -> Origin:
    return Origin(MemoryCommitSource(history.commits), decode, EVENTS_STREAM)


def spoil(url: str) -> None:
    with psycopg.connect(url) as session:
        session.execute(SPOILED)


def schemas(url: str) -> set[str]:
    with psycopg.connect(url) as session:
        found = session.execute("SELECT nspname FROM pg_namespace").fetchall()
    return {name for (name,) in found} & {"views", "views_beside", "archive"}


async def test_a_rebuild_puts_right_what_differs_and_leaves_the_archive(database: str) -> None:
    history = campaign(2, 200)
    await project(database, history)
    spoil(database)
    assert stored_rows(database) != expected_rows(history)
    done = await rebuild(database, origin(history))
    assert done.position == len(history.commits)
    assert stored_rows(database) == expected_rows(history)
    assert archived(database) == history.commits
    assert schemas(database) == {"views", "archive"}


async def test_read_models_that_were_dropped_are_rebuilt_without_a_projector(database: str) -> None:
    history = campaign(3, 50)
    await project(database, history)
    with psycopg.connect(database) as session:
        session.execute("DROP SCHEMA views CASCADE")
    await rebuild(database, origin(history))
    assert stored_rows(database) == expected_rows(history)


async def test_a_rebuild_never_goes_beyond_the_archive_so_that_it_gets_no_gap(
    database: str,
) -> None:
    history = campaign(4, 60)
    known = History()
    known.commits = history.commits[:100]
    await project(database, known)
    done = await rebuild(database, origin(history))
    assert done.position == 100
    await project(database, history)
    assert archived(database) == history.commits
    assert stored_rows(database) == expected_rows(history)


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Read all the time, as queries do; yields what was seen."""
    pool, seen = ReadPool(url), list[tuple[Any, ...]]()

    async def count(connection: Connection) -> tuple[Any, ...]:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            found = await connection.execute(
                "SELECT (SELECT max(position) FROM views.position), count(*) FROM views.tasks"
            )
            row = await found.fetchone()
        assert row is not None
        return row

    async def read() -> None:
        while True:
            seen.append(await pool.read(count))
            await asyncio.sleep(0)

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await pool.close()


async def test_a_read_between_whose_tables_a_rebuild_comes_is_read_again(database: str) -> None:
    """Postgres calls it a deadlock: the read holds one table and waits for another one."""
    await project(database, campaign(5, 10))
    pool = ReadPool(database)
    begun, goes_on = asyncio.Event(), asyncio.Event()
    tries = 0

    async def count(connection: Connection) -> int:
        nonlocal tries
        tries += 1
        async with connection.transaction():
            await connection.execute("SELECT count(*) FROM tasks")
            begun.set()
            await goes_on.wait()
            found = await connection.execute("SELECT count(*) FROM users")
            row = await found.fetchone()
        return row[0] if row else 0

    async with (
        await psycopg.AsyncConnection.connect(database) as rebuild_,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as looking,
    ):
        read = asyncio.create_task(pool.read(count))
        await begun.wait()
        await rebuild_.execute("LOCK TABLE views.users")
        goes_on.set()
        await until_somebody_waits(looking)
        await rebuild_.execute("LOCK TABLE views.tasks")  # as soon as the read has given up
        await rebuild_.commit()
        assert await read > 0
    assert tries == 2
    await pool.close()


async def test_while_a_projector_writes_reads_show_the_old_rows_or_the_new_and_never_fewer(
    database: str,
) -> None:
    history = campaign(5, 400)
    half = len(history.commits) // 2
    source = MemoryCommitSource(history.commits[:half])
    runner = Runner(database, source, decode, stream=EVENTS_STREAM)
    async with running(runner), reading(database) as seen:
        assert await runner.wait_for(half, 30)
        spoil(database)
        begun = len(seen)
        rebuilding = asyncio.create_task(rebuild(database, Origin(source, decode, EVENTS_STREAM)))
        for commit in history.commits[half:]:
            source.append([commit])
            await asyncio.sleep(0)
        await rebuilding
        assert await runner.wait_for(len(history.commits), 30)
    tasks = [row[1] for row in seen[begun:]]
    assert len(tasks) > 5
    assert tasks == sorted(tasks), "for a moment there were fewer tasks"
    assert stored_rows(database) == expected_rows(history)
    assert archived(database) == history.commits


async def test_a_verification_names_every_row_that_is_not_as_the_stream_says(
    database: str,
) -> None:
    history = campaign(6, 200)
    await project(database, history)
    right = await verify(database, origin(history))
    rows = sum(map(len, expected_rows(history).values())) + 1  # and the position
    assert (right.position, right.rows, right.differing) == (len(history.commits), rows, 0)
    spoil(database)
    found = await verify(database, origin(history))
    told = {(one.table, one.what, tuple(one.columns)) for one in found.differences}
    assert (
        told
        == {
            ("groups", "missing", ()),
            ("members", "unexpected", ()),
            ("group_usage", "differs", ("ready",)),
            ("tasks", "differs", ("reason", "state")),
        }
        | {("tasks", "differs", ("reason",))} & told
    )
    assert found.differing == len(found.differences) >= 4
    assert {"name": "lab"} in [one.key for one in found.differences]
    assert schemas(database) == {"views", "archive"}
    assert stored_rows(database) != expected_rows(history), "a verification changes nothing"


async def test_a_verification_compares_at_one_position_while_the_projector_writes(
    database: str,
) -> None:
    history = campaign(7, 400)
    source = MemoryCommitSource(history.commits[:500])
    runner = Runner(database, source, decode, stream=EVENTS_STREAM)
    async with running(runner):
        assert await runner.wait_for(500, 30)
        verifying = asyncio.create_task(verify(database, Origin(source, decode, EVENTS_STREAM)))
        for commit in history.commits[500:]:
            source.append([commit])
            await asyncio.sleep(0)
        found = await verifying
        assert found.differing == 0, found.differences
        assert found.position >= 500
        assert await runner.wait_for(len(history.commits), 30)


async def test_a_commit_that_is_not_its_second_copy_stops_both_and_changes_nothing(
    database: str,
) -> None:
    history = campaign(8, 30)
    await project(database, history)
    before = stored_rows(database)
    position, subject, payload = history.commits[9]
    changed = [*history.commits]
    changed[9] = (position, subject, payload.replace(b"user:alice", b"user:mallo"))
    for work in (rebuild, verify):
        other = Origin(MemoryCommitSource(changed), decode, EVENTS_STREAM)
        with pytest.raises(CorruptData, match="position 10 "):
            await work(database, other)
        shorter = Origin(MemoryCommitSource(history.commits[:-1]), decode, EVENTS_STREAM)
        with pytest.raises(CorruptData, match="the stream has lost commits"):
            await work(database, shorter)
    assert stored_rows(database) == before
    assert schemas(database) == {"views", "archive"}


async def test_a_rebuilt_set_has_every_index_and_postgres_knows_what_its_tables_hold(
    database: str,
) -> None:
    """They are left out while it is built."""
    history = campaign(5, 300)
    await project(database, history)
    with psycopg.connect(database, autocommit=True) as session:
        before = session.execute(INDEXES, ("views",)).fetchall()
        await rebuild(database, origin(history))
        assert session.execute(INDEXES, ("views",)).fetchall() == before
        rows = session.execute("SELECT count(*) FROM views.tasks").fetchone()
        known = session.execute(
            "SELECT reltuples FROM pg_class WHERE oid = 'views.tasks'::regclass"
        ).fetchone()
        assert known == rows


async def test_two_builds_at_once_are_refused_and_what_a_killed_one_left_is_no_obstacle(
    database: str,
) -> None:
    history = campaign(9, 20)
    await project(database, history)
    with psycopg.connect(database) as session:
        session.execute("CREATE SCHEMA views_beside; CREATE TABLE views_beside.tasks (x int)")
    async with building(database, origin(history)):
        with psycopg.connect(database) as session:
            for query in (SHAPE, INDEXES):
                live = session.execute(query, ("views",)).fetchall()
                beside = session.execute(query, ("views_beside",)).fetchall()
                assert live == [tuple(_as_live(value) for value in row) for row in beside]
        with pytest.raises(WrongState, match="another rebuild or verification is under way"):
            await verify(database, origin(history))
    assert schemas(database) == {"views", "archive"}


def _as_live(value: object) -> object:
    return value.replace("views_beside", "views") if isinstance(value, str) else value
