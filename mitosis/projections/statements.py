"""SQL for whole tables, made once from the row structs, and rows in the form that it takes.

Rows travel as one JSON parameter, however many there are: Postgres takes them apart by
`json_populate_recordset`. One statement a table is faster than one a row, and rows are typed once.
Tables are named without their schema: the session's search_path says which set of read models is
meant, the live one or one that is built beside it.
"""

from typing import Any

import msgspec
from psycopg import sql

from mitosis.projections.rows import CommitRow, Key, Table, TaskCountRow, UsageRow

_encode = msgspec.json.Encoder().encode
_NUL = b"\\u0000"


def _columns(names: tuple[str, ...], prefix: str = "") -> sql.Composed:
    made = [sql.SQL(prefix) + sql.Identifier(name) for name in names]
    return sql.SQL(", ").join(made)


def _given(table: Table[Any]) -> sql.Composed:
    return sql.SQL("json_populate_recordset(NULL::{}, %s)").format(sql.Identifier(table.name))


def select_rows(table: Table[Any]) -> sql.Composed:
    """Rows by key, as one JSON array."""
    return sql.SQL(
        "SELECT coalesce(json_agg(t), '[]')::text FROM {given} k JOIN {name} t USING ({key})"
    ).format(
        given=_given(table), name=sql.Identifier(table.name), key=_columns(table.key)
    )  # fmt: skip


def upsert_rows(table: Table[Any]) -> sql.Composed:
    """Insert rows, or replace those with the same key."""
    fields = table.row.__struct_fields__
    rest = tuple(field for field in fields if field not in table.key)
    inserted = sql.SQL(
        "INSERT INTO {name} ({columns}) SELECT {columns} FROM {given} ON CONFLICT ({key}) DO "
    ).format(
        name=sql.Identifier(table.name),
        columns=_columns(fields),
        given=_given(table),
        key=_columns(table.key),
    )
    if not rest:
        return inserted + sql.SQL("NOTHING")
    return inserted + sql.SQL("UPDATE SET ({rest}) = ROW({excluded})").format(
        rest=_columns(rest), excluded=_columns(rest, "excluded.")
    )


def delete_rows(table: Table[Any]) -> sql.Composed:
    """Delete rows by key."""
    same = [sql.SQL("t.{0} = k.{0}").format(sql.Identifier(field)) for field in table.key]
    return sql.SQL("DELETE FROM {name} t USING {given} k WHERE {same}").format(
        name=sql.Identifier(table.name), given=_given(table), same=sql.SQL(" AND ").join(same)
    )


def add_usage(table: Table[UsageRow]) -> sql.Composed:
    """Add differences to counters."""
    fields = UsageRow.__struct_fields__
    sums = [
        sql.SQL("{0} = t.{0} + excluded.{0}").format(sql.Identifier(field)) for field in fields[1:]
    ]
    return sql.SQL(
        "INSERT INTO group_usage AS t ({columns}) SELECT {columns} FROM {given}"
        " ON CONFLICT (group_name) DO UPDATE SET {sums}"
    ).format(columns=_columns(fields), given=_given(table), sums=sql.SQL(", ").join(sums))


def add_counts(table: Table[TaskCountRow]) -> sql.Composed:
    """Add differences to the counters of tasks that are alike."""
    return sql.SQL(
        "INSERT INTO task_counts AS t ({columns}) SELECT {columns} FROM {given}"
        " ON CONFLICT ({key}) DO UPDATE SET tasks = t.tasks + excluded.tasks"
    ).format(
        columns=_columns(TaskCountRow.__struct_fields__), given=_given(table),
        key=_columns(table.key),
    )  # fmt: skip


def drop_empty_counts(table: Table[TaskCountRow]) -> sql.Composed:
    """Delete those of some counters that have come to nothing."""
    return delete_rows(table) + sql.SQL(" AND t.tasks = 0")


def add_commits() -> sql.Composed:
    """Add rows of commits; they are never changed."""
    return sql.SQL(
        "INSERT INTO commits ({columns})"
        " SELECT {columns} FROM json_populate_recordset(NULL::commits, %s)"
    ).format(columns=_columns(CommitRow.__struct_fields__))


def keys_json(table: Table[Any], keys: set[Key]) -> str:
    """Return keys in the form that `select_rows` takes."""
    return rows_json([dict(zip(table.key, key, strict=True)) for key in sorted(keys)])


def rows_json(rows: list[Any]) -> str:
    """Return rows in the form that the statements take.

    Postgres cannot hold NUL in texts; the last lines of a program's output may have one, and no
    event may stop a projection for that. It becomes U+FFFD, as bytes that are no UTF-8 do.
    """
    data = _encode(rows)
    if _NUL in data:
        data = _encode(_without_nul(msgspec.json.decode(data)))
    return data.decode()


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case list():
            return [_without_nul(item) for item in value]
        case dict():
            return {_without_nul(k): _without_nul(v) for k, v in value.items()}
        case _:
            return value
