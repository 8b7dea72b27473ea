"""Numbered SQL files, applied before serving and never by it.

Two series: `NNNN_read_models.sql` makes the schema `views`, which may be dropped and built again;
`NNNN_archive.sql` makes the schema `archive`, which is only ever added to. Each file runs once,
in a transaction, under a lock: any number of processes may migrate at once.
"""

import re
from importlib.resources import files

import msgspec
from psycopg import sql

from mitosis.errors import Misconfigured, WrongState
from mitosis.projections.postgres import Connection, connect, explained, fetch_value, shown

# Any two numbers that nobody else uses for advisory locks in this database ("mito" in ASCII).
_LOCK_SPACE = 0x6D69746F
MIGRATION_LOCK = 1
PROJECTION_LOCK = 2

_FILE = re.compile(r"(\d{4})_(read_models|archive)\.sql")
_SCHEMAS = {"archive": "archive", "read_models": "views"}


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


async def rebuild(url: str) -> None:
    """Drop the read models and make them empty; the next projector fills them from the stream.

    Readers see the old tables or the new ones, never none. The archive stays as it is.

    Raises:
        WrongState: A projector is at work on them: stop it first.
        ViewUnavailable: Postgres does not answer.
    """
    connection = await connect(url, "mito-rebuild")
    async with connection:
        with explained(url):
            async with connection.transaction():
                await _lock(connection, MIGRATION_LOCK)
                if not await fetch_value(
                    connection,
                    "SELECT pg_try_advisory_xact_lock(%s, %s)",
                    _LOCK_SPACE,
                    PROJECTION_LOCK,
                ):
                    raise WrongState(f"a projector writes to {shown(url)}: stop it, then rebuild")
                await connection.execute("DROP SCHEMA IF EXISTS views CASCADE")
                await _apply(connection, url)


async def check_versions(connection: Connection, url: str) -> None:
    """Refuse to serve with tables of another version.

    Raises:
        Misconfigured: They are older or newer than this code.
    """
    with explained(url):
        found, known = await stored_versions(connection), known_versions()
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


async def stored_versions(connection: Connection) -> Versions:
    """Return the versions of the schemas in the database."""
    return Versions(
        archive=await _version(connection, "archive"), views=await _version(connection, "views")
    )


async def try_projection_lock(connection: Connection) -> bool:
    """Become the one writer of the read models for as long as this session lives."""
    return bool(
        await fetch_value(
            connection, "SELECT pg_try_advisory_lock(%s, %s)", _LOCK_SPACE, PROJECTION_LOCK
        )
    )


async def _lock(connection: Connection, number: int) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK_SPACE, number))


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


async def _apply(connection: Connection, url: str) -> None:
    found, known = await stored_versions(connection), known_versions()
    if found.archive > known.archive or found.views > known.views:
        raise Misconfigured(
            f"the tables in {shown(url)} are of a newer version of Mitosis: use that version"
        )
    applied = {schema: await _applied(connection, schema) for schema in _SCHEMAS.values()}
    for schema, number, text in _files():
        if number in applied[schema]:
            continue
        name = sql.Identifier(schema)
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
        await connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {}.schema_version"
                " (number integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            ).format(name)
        )
        await connection.execute(text)
        await connection.execute(
            sql.SQL("INSERT INTO {}.schema_version (number) VALUES (%s)").format(name), (number,)
        )
