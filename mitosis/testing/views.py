"""Comparing read models in Postgres with a fold of the same history in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.projections.commit import Commit
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.plan import fold_all
from mitosis.projections.rows import Tables
from mitosis.projections.runner import Runner
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History, Stored

Rows = dict[str, Any]


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[Runner]:
    """Run the loop beside the test; its failure becomes the test's."""
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def project(url: str, history: History) -> None:
    """Bring the tables up to the end of a history."""
    source = MemoryCommitSource(history.commits)
    async with running(Runner(url, source, decode, stream=EVENTS_STREAM)) as runner:
        if not await runner.wait_for(len(history.commits), 30):
            raise AssertionError(f"only {runner.applied_position} of {len(history.commits)}")


def expected_rows(history: History) -> Rows:
    """Fold a whole history in memory."""
    return folded_rows(decode(*raw) for raw in history.commits)


def folded_rows(commits: Iterable[Commit]) -> Rows:
    """Fold a stream in memory."""
    tables = fold_all(Tables(), commits)
    return {
        table.name: msgspec.to_builtins([table.rows[key] for key in sorted(table.rows)])
        for table in tables.every()
    }


def stored_rows(url: str) -> Rows:
    """Read all tables, in the same form and order."""
    found: Rows = {}
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        for table in Tables().every():
            query = sql.SQL("SELECT coalesce(json_agg(t), '[]')::text FROM views.{} t")
            name = sql.Identifier(table.name)
            ((text,),) = connection.execute(query.format(name)).fetchall()
            decoded = msgspec.json.decode(text, type=list[table.row])  # type: ignore[name-defined]
            found[table.name] = msgspec.to_builtins(sorted(decoded, key=table.key_of))
    return found


def archived(url: str) -> list[Stored]:
    """Read the whole archive."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT position, subject, payload FROM archive.commits ORDER BY position"
        ).fetchall()


async def until_somebody_waits(looking: psycopg.AsyncConnection[Any]) -> None:
    """Wait until a session of the database waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            found = await looking.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
            if await found.fetchone():
                return
            await asyncio.sleep(0.01)
