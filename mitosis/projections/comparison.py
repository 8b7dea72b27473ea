"""Comparing the live read models, row by row, with a set that was built from the stream.

At one position: the projector waits while the last commits are applied beside and a snapshot of
both is taken; the comparison itself reads from the snapshot, and the projector goes on.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from psycopg import sql

from mitosis.projections.beside import (
    LOCK_WAIT_SECONDS,
    Builder,
    History,
    Progress,
    build_near,
    building,
)
from mitosis.projections.postgres import Connection, connect, explained, fetch_value
from mitosis.projections.rows import Tables
from mitosis.projections.store import ViewStore

SHOWN_DIFFERENCES = 100


class Difference(msgspec.Struct, frozen=True):
    """One row that is not as the stream says.

    Attributes:
        table: Its table.
        key: Its primary key, by column.
        what: `missing` (the stream has it), `unexpected` (the stream does not), or `differs`.
        columns: Which columns differ. Values are not shown: they may be secrets of users.
    """

    table: str
    key: dict[str, Any]
    what: str
    columns: list[str] = []


class Compared(msgspec.Struct, frozen=True):
    """What a verification of the read models has found.

    Attributes:
        position: Both sets of rows include the commits up to here.
        rows: How many rows the stream makes.
        differing: How many rows are not as the stream says; 0: all is right.
        differences: The first of them, at most 100.
    """

    position: int
    rows: int
    differing: int
    differences: list[Difference]


async def verify(url: str, history: History, progress: Progress = lambda *_: None) -> Compared:
    """Build the read models anew beside the live ones and compare every row at one position.

    Nothing is changed. Every commit is compared with its second copy in the archive too.

    Raises:
        CorruptData: The stream cannot be read, or differs from its archive.
        Unavailable: Postgres or NATS is away.
        WrongState: Another rebuild or verification is under way.
        Misconfigured: No access, or tables of another version.
    """
    live = await ViewStore.open(url)
    try:
        async with building(url, history, progress) as builder:
            await builder.leave_indexes_out()
            await build_near(builder, live)
            async with _snapshot(url, builder, live) as connection:
                return await _compare(connection, url, builder.done.position)
    finally:
        await live.close()


@asynccontextmanager
async def _snapshot(url: str, builder: Builder, live: ViewStore) -> AsyncIterator[Connection]:
    """Give a transaction that sees both sets at one position."""
    async with await connect(url, "mito-verify") as reader:
        with explained(url):
            async with await connect(url, "mito-verify-lock") as holder, holder.transaction():
                await holder.execute(
                    "SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_WAIT_SECONDS:g}s",)
                )
                # Whoever wants to move the position waits; reads go on.
                await holder.execute("LOCK TABLE views.position IN EXCLUSIVE MODE")
                await builder.build_to(await live.position())
                await reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                await fetch_value(reader, "SELECT position FROM views.position")  # taken here
        yield reader


async def _compare(connection: Connection, url: str, position: int) -> Compared:
    rows = differing = 0
    shown: list[Difference] = []
    with explained(url):
        for name, key in _tables():
            counted = await connection.execute(_count(name, key))
            here, wrong = await counted.fetchone() or (0, 0)
            rows, differing = rows + here, differing + wrong
            room = SHOWN_DIFFERENCES - len(shown)
            if wrong and room:
                found = await connection.execute(_differences(name, key), (room,))
                shown.extend(Difference(name, *row) for row in await found.fetchall())
    return Compared(position, rows, differing, shown)


def _tables() -> list[tuple[str, tuple[str, ...]]]:
    tables = Tables()
    made = [(table.name, table.key) for table in tables.every()]
    return [("position", ("projection",)), *made]


_BOTH = "FROM views.{name} v FULL JOIN views_beside.{name} c USING ({key})"
_DIFFER = "to_jsonb(v) IS DISTINCT FROM to_jsonb(c)"


def _count(name: str, key: tuple[str, ...]) -> sql.Composed:
    """How many rows the stream makes, and how many are not as it says."""
    return sql.SQL(f"SELECT count(c.{{first}}), count(*) FILTER (WHERE {_DIFFER}) {_BOTH}").format(
        **_names(name, key)
    )


def _differences(name: str, key: tuple[str, ...]) -> sql.Composed:
    shown = sql.SQL(", ").join(
        sql.SQL("{}, {}").format(sql.Literal(column), sql.Identifier(column)) for column in key
    )
    return sql.SQL(
        "SELECT jsonb_build_object({shown}), CASE WHEN v.{first} IS NULL THEN 'missing'"  # noqa: S608
        " WHEN c.{first} IS NULL THEN 'unexpected' ELSE 'differs' END,"
        " ARRAY(SELECT key FROM jsonb_each(to_jsonb(v)) a JOIN jsonb_each(to_jsonb(c)) b"
        " USING (key) WHERE a.value IS DISTINCT FROM b.value ORDER BY key)"
        f" {_BOTH} WHERE {_DIFFER} ORDER BY {{key}} LIMIT %s"
    ).format(shown=shown, **_names(name, key))


def _names(name: str, key: tuple[str, ...]) -> dict[str, sql.Composable]:
    columns = [sql.Identifier(column) for column in key]
    return {"name": sql.Identifier(name), "first": columns[0], "key": sql.SQL(", ").join(columns)}
