"""The schemas: made once, by any number of processes, and never served in another version."""

import asyncio

import psycopg
import pytest

from mitosis.errors import Misconfigured, ViewUnavailable
from mitosis.projections.migrations import known_versions, migrate, numbers
from mitosis.projections.store import ViewStore
from mitosis.testing.history import campaign
from mitosis.testing.views import archived, expected_rows, project, stored_rows


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
