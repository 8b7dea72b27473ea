"""The indexes of a set of read models that only reads need, left out while it is built.

To make them once, of all rows, costs a fraction of keeping them up to date with each.
"""

from typing import LiteralString, cast

from psycopg import sql

from mitosis.projections.postgres import Connection

Indexes = list[LiteralString]
"""The statements that make them."""


async def drop_indexes(connection: Connection) -> Indexes:
    """Drop those of the set in use (`search_path`); return how they are made again.

    What is unique stays: it is how rows are found while the set is built.
    """
    found = await connection.execute(
        "SELECT format('%I.%I', n.nspname, c.relname), pg_get_indexdef(i.indexrelid)"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = current_schema() AND NOT i.indisunique ORDER BY 1"
    )
    indexes = cast(list[tuple[LiteralString, LiteralString]], await found.fetchall())
    for name, _ in indexes:
        await connection.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(name)))
    return [definition for _, definition in indexes]


async def make_indexes(connection: Connection, indexes: Indexes) -> None:
    """Make them again, and let Postgres count what the tables hold, or it would guess at reads."""
    for statement in indexes:
        await connection.execute(statement)
    found = await connection.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    for names in await found.fetchall():
        await connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*names)))
