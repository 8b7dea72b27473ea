"""Numbered SQL files, applied before serving and never by it.

Two series: `NNNN_read_models.sql` makes the schema `views`, which may be dropped and built again;
`NNNN_archive.sql` makes the schema `archive`, which is only ever added to. Each file runs once,
in a transaction, under a lock: any number of processes may migrate at once.
"""

import re
from importlib.resources import files

import msgspec
from psycopg import sql

from mitosis.errors import Misconfigured
from mitosis.projections.postgres import Connection, connect, explained, fetch_value, shown

# Any two numbers that nobody else uses for advisory locks in this database ("mito" in ASCII).
_LOCK_SPACE = 0x6D69746F
MIGRATION_LOCK = 1
PROJECTION_LOCK = 2
REBUILD_LOCK = 3

_FILE = re.compile(r"(\d{4})_(read_models|archive)\.sql")
VIEWS = "views"
BESIDE = "views_beside"
"""A second set of read models, while it is built and compared."""
_SCHEMAS = {"archive": "archive", "read_models": VIEWS}
_OF_VIEWS = re.compile(r"\bviews\.")  # how the files name what they make


class Versions(msgspec.Struct, frozen=True):
    """Number of the newest file of each series; 0: the schema is not there."""

    archive: int
    views: int


def known_versions() -> Versions:
    """Return the versions that this code works with."""
    newest = dict.fromkeys(_SCHEMAS.values(), 0)
    for schema, number, _ in _files():
        newest[schema] = max(newest[schema], number)
    return Versions(**newest)


def numbers(schema: str) -> list[int]:
    """Return the numbers of the files of a schema; there may be gaps."""
    return [number for name, number, _ in _files() if name == schema]


def _files() -> list[tuple[str, int, str]]:
    """Return (schema, number, text) of all files, in the order of their numbers."""
    found = []
    for entry in files("mitosis.projections").joinpath("schema").iterdir():
        match = _FILE.fullmatch(entry.name)
        if match:
            found.append((_SCHEMAS[match[2]], int(match[1]), entry.read_text("utf-8")))
    return sorted(found)


async def migrate(url: str) -> Versions:
    """Bring both schemas to the newest version; nothing happens if they are.

    Raises:
        ViewUnavailable: Postgres does not answer.
        Misconfigured: No access, or the database is of a newer version than this code.
    """
    connection = await connect(url, "mito-migrate")
    async with connection:
        with explained(url):
            async with connection.transaction():
                await _lock(connection, MIGRATION_LOCK)
                await _apply(connection, url)
    return known_versions()


async def make_beside(connection: Connection, url: str) -> None:
    """Make an empty set of read models beside the live one; what is left of an earlier one goes.

    Raises:
        Misconfigured: The database is of a newer version than this code.
    """
    with explained(url):
        async with connection.transaction():
            await _lock(connection, MIGRATION_LOCK)
            await drop_beside(connection)
            await _apply(connection, url, BESIDE)


async def drop_beside(connection: Connection) -> None:
    """Drop the set of read models beside the live one, if there is one."""
    await connection.execute("DROP SCHEMA IF EXISTS views_beside CASCADE")


async def forget_views(connection: Connection) -> None:
    """Drop the live read models; they are made anew by the next migration and projector."""
    await connection.execute("DROP SCHEMA IF EXISTS views CASCADE")


async def put_in_place(connection: Connection, url: str, wait_seconds: float) -> None:
    """Let the set of read models beside the live one take its place, in one step.

    Readers see the old tables or the new ones, never none.

    Raises:
        ViewUnavailable: Another session has held the old tables for longer than `wait_seconds`.
    """
    with explained(url):
        async with connection.transaction():
            await _lock(connection, MIGRATION_LOCK)
            await connection.execute(
                "SELECT set_config('lock_timeout', %s, true)", (f"{wait_seconds:g}s",)
            )
            await connection.execute("DROP SCHEMA IF EXISTS views CASCADE")
            await connection.execute("ALTER SCHEMA views_beside RENAME TO views")


async def check_versions(connection: Connection, url: str, views: str = VIEWS) -> None:
    """Refuse to serve with tables of another version; `views` is the set of read models meant.

    Raises:
        Misconfigured: They are older or newer than this code.
    """
    with explained(url):
        found, known = await stored_versions(connection, views), known_versions()
    for schema in ("views", "archive"):
        have, want = getattr(found, schema), getattr(known, schema)
        if have < want:
            raise Misconfigured(
                f"schema {schema!r} in {shown(url)} has version {have}, this program needs "
                f"{want}: run the migrations first"
            )
        if have > want:
            raise Misconfigured(
                f"schema {schema!r} in {shown(url)} has version {have}, this program knows only "
                f"{want}: use the version of Mitosis that made it, or a newer one"
            )


async def stored_versions(connection: Connection, views: str = VIEWS) -> Versions:
    """Return the versions of the schemas in the database."""
    return Versions(
        archive=await _version(connection, "archive"), views=await _version(connection, views)
    )


async def try_projection_lock(connection: Connection) -> bool:
    """Become the one writer of the read models for as long as this session lives."""
    return await _try_lock(connection, PROJECTION_LOCK)


async def try_rebuild_lock(connection: Connection) -> bool:
    """Become the one who may build read models beside the live ones, in this session."""
    return await _try_lock(connection, REBUILD_LOCK)


async def wait_for_projection_lock(connection: Connection) -> None:
    """Become the one writer: whoever waits is before those who only try."""
    await connection.execute("SELECT pg_advisory_lock(%s, %s)", (_LOCK_SPACE, PROJECTION_LOCK))


async def give_projection_lock_back(connection: Connection) -> None:
    """Let another session become the one writer."""
    await connection.execute("SELECT pg_advisory_unlock(%s, %s)", (_LOCK_SPACE, PROJECTION_LOCK))


async def end_projection(connection: Connection, successor: Connection) -> None:
    """End the session that writes the read models; its projector connects anew by itself.

    `successor` is spared: it waits for the lock, or has it already. (To wait until the projector
    gives the lock back would not do: it keeps it for as long as it lives.)
    """
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = %s AND objid = %s AND objsubid = 2 AND pid <> %s",
        (_LOCK_SPACE, PROJECTION_LOCK, successor.info.backend_pid),
    )


async def _try_lock(connection: Connection, number: int) -> bool:
    return bool(
        await fetch_value(connection, "SELECT pg_try_advisory_lock(%s, %s)", _LOCK_SPACE, number)
    )


async def _lock(connection: Connection, number: int) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK_SPACE, number))


async def _hold_writers(connection: Connection, views: str) -> None:
    """Let the batch of a projector that is under way end, and the next one begin behind us.

    Before anything else is locked: whoever writes has moved the position first.
    """
    position = sql.Identifier(views, "position")
    await connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(position))


async def _version(connection: Connection, schema: str) -> int:
    if not await fetch_value(connection, "SELECT to_regclass(%s)", f"{schema}.schema_version"):
        return 0
    query = sql.SQL("SELECT max(number) FROM {}.schema_version").format(sql.Identifier(schema))
    row = await (await connection.execute(query)).fetchone()
    return (row and row[0]) or 0


async def _applied(connection: Connection, schema: str) -> set[int]:
    if not await _version(connection, schema):
        return set()
    query = sql.SQL("SELECT number FROM {}.schema_version").format(sql.Identifier(schema))
    return {number for (number,) in await (await connection.execute(query)).fetchall()}


async def _apply(connection: Connection, url: str, views: str = VIEWS) -> None:
    found, known = await stored_versions(connection, views), known_versions()
    if found.archive > known.archive or found.views > known.views:
        raise Misconfigured(
            f"the tables in {shown(url)} are of a newer version of Mitosis: use that version"
        )
    places = {"archive": "archive", VIEWS: views}
    applied = {schema: await _applied(connection, place) for schema, place in places.items()}
    if 0 < found.views < known.views:
        await _hold_writers(connection, views)
    for schema, number, text in _files():
        if number in applied[schema]:
            continue
        name = sql.Identifier(places[schema])
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        await connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {}.schema_version"
                " (number integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            ).format(name)
        )
        await connection.execute(_OF_VIEWS.sub(f"{views}.", text).encode())
        await connection.execute(
            sql.SQL("INSERT INTO {}.schema_version (number) VALUES (%s)").format(name), (number,)
        )
