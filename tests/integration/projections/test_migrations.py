"""The schemas: made once, by any number of processes, and never served in another version."""

import asyncio

import psycopg
import pytest

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.errors import Misconfigured, ViewUnavailable
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.migrations import known_versions, migrate, numbers
from mitosis.projections.runner import Runner
from mitosis.projections.store import ViewStore
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import campaign
from mitosis.testing.views import (
    archived,
    expected_rows,
    project,
    stored_rows,
    until_somebody_waits,
)


async def test_many_migrations_at_once_make_one_schema(empty_database: str) -> None:
    versions = await asyncio.gather(*(migrate(empty_database) for _ in range(8)))
    assert set(versions) == {known_versions()}
    with psycopg.connect(empty_database) as connection:
        applied = connection.execute("SELECT number FROM views.schema_version").fetchall()
    assert applied == [(number,) for number in numbers("views")]


async def test_a_second_migration_changes_nothing(database: str) -> None:
    await project(database, campaign(1, 5))
    before = stored_rows(database)
    await migrate(database)
    assert stored_rows(database) == before


async def test_serving_refuses_a_database_without_schema(empty_database: str) -> None:
    with pytest.raises(Misconfigured, match=r"version 0, this program needs \d+: run the migr"):
        await ViewStore.open(empty_database)


async def test_serving_and_migrating_refuse_a_newer_schema(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO views.schema_version (number) VALUES (9999)")
    with pytest.raises(Misconfigured, match="version 9999, this program knows only"):
        await ViewStore.open(database)
    with pytest.raises(Misconfigured, match="newer version"):
        await migrate(database)


BEFORE_COUNTERS = """
    DROP TRIGGER IF EXISTS only_by_this_version ON views.position;
    DROP FUNCTION IF EXISTS views.check_writer;
    DROP TABLE views.task_counts, views.task_words;
    DROP INDEX views.tasks_by_counter;
    ALTER TABLE views.tasks DROP COLUMN priority, DROP COLUMN exit_status;
    CREATE INDEX tasks_by_state ON views.tasks (group_name, state, number);
    CREATE INDEX tasks_by_tag ON views.tasks USING gin (tags) WHERE tags <> '{}';
    CREATE INDEX tasks_by_label ON views.tasks USING gin (labels) WHERE labels <> '{}';
    DELETE FROM views.schema_version WHERE number >= 12;
"""


async def test_read_models_of_before_get_their_counters_and_words_without_a_rebuild(
    database: str,
) -> None:
    history = campaign(9, 80)
    await project(database, history)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(BEFORE_COUNTERS)
    await migrate(database)
    assert stored_rows(database) == expected_rows(history)


async def test_a_projector_of_before_ends_its_batch_and_writes_no_other_after_a_migration(
    database: str,
) -> None:
    """It would not count what it changes: totals would be wrong for good, and nobody would know."""
    history = campaign(9, 80)
    await project(database, history)
    last = len(history.commits)
    advance = "SELECT views.advance('views', %s, %s, 'x')"
    cancel = "UPDATE views.tasks SET state = 'cancelled', outcome = 'cancelled'"
    connect = psycopg.AsyncConnection.connect
    of_before = "-c search_path=views"
    async with (
        await connect(database, autocommit=True) as looking,
        await connect(database, options=of_before) as first,
        await connect(database, options=of_before) as second,
    ):
        await looking.execute(BEFORE_COUNTERS)
        await first.execute(advance, (last, last + 1))
        migration = asyncio.create_task(migrate(database))
        await until_somebody_waits(looking)
        await first.execute(cancel)
        waiting = asyncio.create_task(second.execute(advance, (last + 1, last + 2)))
        await first.commit()
        await migration
        with pytest.raises(psycopg.errors.UndefinedFunction, match="have become of version"):
            await waiting
        counted = await looking.execute("SELECT sum(tasks) FROM views.task_counts WHERE word = ''")
        by_state = await looking.execute(
            "SELECT sum(tasks) FROM views.task_counts WHERE word = '' AND state = 'cancelled'"
        )
        assert await counted.fetchone() == await by_state.fetchone() == (80,)


async def test_a_projector_under_way_ends_when_the_tables_become_of_another_version(
    database: str,
) -> None:
    history = campaign(9, 80)
    half = len(history.commits) // 2
    source = MemoryCommitSource(history.commits[:half])
    runner = Runner(database, source, decode, stream=EVENTS_STREAM)
    projecting = asyncio.create_task(runner.run())
    assert await runner.wait_for(half, 30)
    before = stored_rows(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO views.schema_version (number) VALUES (9999)")
    source.append(history.commits[half:])
    with pytest.raises(Misconfigured, match="have become of version 9999"):
        await asyncio.wait_for(projecting, 30)
    assert stored_rows(database) == before


@pytest.mark.parametrize("statement", [
    "UPDATE archive.commits SET payload = ''",
    "DELETE FROM archive.commits",
    "TRUNCATE archive.commits",
    "SET session_replication_role = replica; DELETE FROM archive.commits",
])  # fmt: skip
async def test_the_archive_refuses_every_change(database: str, statement: str) -> None:
    history = campaign(1, 5)
    await project(database, history)
    with psycopg.connect(database) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute(statement.encode())
    assert archived(database) == history.commits


async def test_a_database_that_is_away_is_named_without_its_password() -> None:
    url = "postgres://mitosis:secret-word@127.0.0.1:1/mitosis"
    with pytest.raises(ViewUnavailable) as caught:
        await ViewStore.open(url)
    assert "postgres://mitosis@127.0.0.1:1/mitosis" in str(caught.value)
    assert "secret-word" not in str(caught.value)


async def test_a_database_that_does_not_exist_is_a_wrong_setting(database: str) -> None:
    with pytest.raises(Misconfigured, match="fix db_url"):
        await ViewStore.open(database.replace("/test_", "/absent_"))
