"""The projection's side of Postgres: one session that loads rows and writes batches.

A batch is one transaction: position, read models and archive move together or not at all. All its
statements are sent at once (pipeline mode), so a batch costs two round trips: load, write.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mitosis.errors import CorruptData, Misconfigured
from mitosis.projections.archive import ADD_COMMITS
from mitosis.projections.commit import Commit
from mitosis.projections.indexes import Indexes, drop_indexes, make_indexes
from mitosis.projections.migrations import (
    VIEWS,
    check_versions,
    known_versions,
    try_projection_lock,
)
from mitosis.projections.postgres import Connection, connect, explained, fetch_value, shown
from mitosis.projections.rows import Key, Table, Tables, TaskCountRow
from mitosis.projections.statements import (
    add_commits,
    add_counts,
    add_usage,
    delete_rows,
    drop_empty_counts,
    keys_json,
    rows_json,
    select_rows,
    upsert_rows,
)

PROJECTION = "views"

_SETTINGS = {
    # Also where the database has another default: the archive counts as a copy.
    "synchronous_commit": "on",
    # Rows are looked up by their keys. Where nobody has counted them yet, as while they are built,
    # Postgres would rather read whole tables for it, at each batch.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_OF_A_BUILD = {
    # Nobody needs a part of it: it is on disk with the commit that puts it in place.
    "synchronous_commit": "off",
    "maintenance_work_mem": "256MB",  # for its indexes
}

# There may be 256,000 in a batch, where each task has 128 labels and tags of its own: 200 MB.
_COUNTERS_AT_ONCE = 5_000

_TABLES = {table.name: table for table in Tables().overwritten()}
# As bytes: psycopg would compose them anew at each use.
_SELECT = {name: select_rows(table).as_bytes() for name, table in _TABLES.items()}
_UPSERT = {name: upsert_rows(table).as_bytes() for name, table in _TABLES.items()}
_DELETE = {name: delete_rows(table).as_bytes() for name, table in _TABLES.items()}
_ADD_USAGE = add_usage(Tables().usage).as_bytes()
_ADD_COUNTS = add_counts(Tables().task_counts).as_bytes()
_DROP_EMPTY_COUNTS = drop_empty_counts(Tables().task_counts).as_bytes()
_ADD_ROWS_OF_COMMITS = add_commits().as_bytes()
_ROWS = {
    name: msgspec.json.Decoder(list[table.row])  # type: ignore[name-defined]
    for name, table in _TABLES.items()
}


class Mark(msgspec.Struct, frozen=True):
    """A place in the stream and the digest of the commit there; position 0: before the first."""

    position: int = 0
    digest: str = ""


class ViewStore:
    """One session with Postgres. Not safe for use by two tasks at once."""

    def __init__(self, connection: Connection, url: str) -> None:
        """Use `open` instead."""
        self._connection = connection
        self._url = url

    @classmethod
    async def open(cls, url: str, schema: str = VIEWS) -> "ViewStore":
        """Connect, and check that the tables are of this version.

        Args:
            url: Address of the database.
            schema: The set of read models: the live one, or one beside it.

        Raises:
            ViewUnavailable: Postgres does not answer.
            Misconfigured: No access, or tables of another version.
        """
        version = str(known_versions().views)  # 0013: of any other nothing may be written
        settings = {**_SETTINGS, "search_path": schema, "mito.views_version": version}
        if schema != VIEWS:
            settings |= _OF_A_BUILD
        connection = await connect(url, "mito-projector", settings=settings)
        try:
            await check_versions(connection, url, schema)
        except BaseException:
            await connection.close()
            raise
        return cls(connection, url)

    async def close(self) -> None:
        """End the session, and with it the lock."""
        await self._connection.close()

    async def drop_indexes(self) -> Indexes:
        """Leave out what only reads need (indexes.py), on a set that nobody reads yet."""
        with explained(self._url):
            return await drop_indexes(self._connection)

    async def make_indexes(self, indexes: Indexes) -> None:
        """Make what was left out."""
        with explained(self._url):
            await make_indexes(self._connection, indexes)

    async def try_lock(self) -> bool:
        """Become the one writer; False while another session is."""
        with explained(self._url):
            return await try_projection_lock(self._connection)

    async def claim(self, stream: str) -> Mark:
        """Return where the projection stands, and bind a new one to its stream.

        Raises:
            Misconfigured: The read models belong to another stream.
        """
        with explained(self._url):
            await self._connection.execute(
                "INSERT INTO position VALUES (%s, 0, '', %s) ON CONFLICT DO NOTHING",
                (PROJECTION, stream),
            )
            found = await self._connection.execute(
                "SELECT position, digest, stream FROM position WHERE projection = %s",
                (PROJECTION,),
            )
            position, digest, owner = await found.fetchone() or (0, "", stream)
        if owner != stream:
            raise Misconfigured(
                f"the read models in {shown(self._url)} belong to stream {owner!r}, not to "
                f"{stream!r}: use another database, or rebuild them"
            )
        return Mark(position, digest)

    async def position(self) -> int:
        """Return where the projection stands, whoever writes it."""
        with explained(self._url):
            position: int = await fetch_value(
                self._connection,
                "SELECT coalesce(max(position), 0) FROM position WHERE projection = %s",
                PROJECTION,
            )
        return position

    async def archived(self) -> Mark:
        """Return the newest commit of the archive."""
        with explained(self._url):
            found = await self._connection.execute(
                "SELECT position, digest FROM archive.commits ORDER BY position DESC LIMIT 1"
            )
            row = await found.fetchone()
        return Mark(*row) if row else Mark()

    async def check_archived(self, commits: Sequence[Commit]) -> None:
        """Compare commits, read again for a rebuild, with their second copies.

        Raises:
            CorruptData: The stream says something else than the archive.
        """
        with explained(self._url):
            found = await self._connection.execute(
                "SELECT position, digest FROM archive.commits WHERE position BETWEEN %s AND %s",
                (commits[0].position, commits[-1].position),
            )
            digests: dict[int, str] = dict(await found.fetchall())
        for commit in commits:
            if digests.get(commit.position) != commit.digest:
                raise differs(commit, digests.get(commit.position, "nothing"))

    async def load(self, needed: dict[str, set[Key]]) -> Tables:
        """Return tables that know the named rows."""
        tables = Tables()
        known: dict[str, Table[Any]] = {table.name: table for table in tables.overwritten()}
        with explained(self._url):
            async with self._connection.pipeline():
                asked = [
                    (name, await self._connection.execute(
                        _SELECT[name], (keys_json(known[name], keys),))
                    )
                    for name, keys in needed.items()
                ]  # fmt: skip
                for name, cursor in asked:
                    row = await cursor.fetchone()
                    known[name].learn(_ROWS[name].decode(row[0] if row else "[]"))
        return tables

    async def write(
        self, before: int, tables: Tables, commits: Sequence[Commit], archive: Sequence[Commit]
    ) -> None:
        """Store what a batch has changed, its raw commits and the new position, in one step.

        Args:
            before: Position at which the projection stands.
            tables: What the batch made of the rows.
            commits: The batch.
            archive: Those of its commits that the archive does not have yet.

        Raises:
            OutOfStep: The projection does not stand at `before`; nothing was written.
            ViewUnavailable: Postgres is away; whether it was written is told by `claim`.
            Misconfigured: The tables have become of another version; nothing was written.
        """
        last = commits[-1]
        with explained(self._url):
            async with self._connection.pipeline(), self._connection.transaction():
                await self._connection.execute(
                    "SELECT advance(%s, %s, %s, %s)",
                    (PROJECTION, before, last.position, last.digest),
                )
                await self._write_archive(archive)
                for table in tables.overwritten():
                    await self._write_table(table)
                if tables.commits.changed:
                    rows = rows_json(tables.commits.written())
                    await self._connection.execute(_ADD_ROWS_OF_COMMITS, (rows,))
                if tables.usage.changed:
                    await self._connection.execute(_ADD_USAGE, (rows_json(tables.usage.written()),))
                await self._write_counts(tables.task_counts)

    async def _write_archive(self, commits: Sequence[Commit]) -> None:
        if commits:
            columns = (
                [c.position for c in commits], [c.subject for c in commits],
                [c.payload for c in commits], [c.digest for c in commits],
            )  # fmt: skip
            await self._connection.execute(ADD_COMMITS, columns)

    async def _write_counts(self, table: Table[TaskCountRow]) -> None:
        if not table.changed:
            return
        rows = table.written()
        for first in range(0, len(rows), _COUNTERS_AT_ONCE):
            part = rows[first : first + _COUNTERS_AT_ONCE]
            await self._connection.execute(_ADD_COUNTS, (rows_json(part),))
            fewer = [row for row in part if row.tasks < 0]
            if fewer:  # MERGE would do both at once, but not in Postgres 14
                await self._connection.execute(_DROP_EMPTY_COUNTS, (rows_json(fewer),))

    async def _write_table(self, table: Table[Any]) -> None:
        if not table.changed:
            return
        rows, gone = table.written(), table.dropped()
        if rows:
            await self._connection.execute(_UPSERT[table.name], (rows_json(rows),))
        if gone:
            await self._connection.execute(_DELETE[table.name], (rows_json(gone),))


def differs(commit: Commit, archived: str) -> CorruptData:
    """Return the error for a stream that is not what the archive holds."""
    return CorruptData(
        f"position {commit.position} ({commit.subject}) has digest {commit.digest} in the stream "
        f"and {archived} in the archive: one of them was changed; find out by `mito events "
        "verify`, then restore it from the archive",
        position=commit.position,
        subject=commit.subject,
    )
