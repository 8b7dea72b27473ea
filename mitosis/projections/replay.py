"""Read models of a moment of the past, in a database of their own.

They are bound to their moment: a projector does not go on from them, and another replay into the
same database is refused unless it is for the same moment, and then goes on where a broken one was.
Decision: docs/decisions/0034-as-of.md.
"""

from datetime import datetime

import msgspec
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mitosis.errors import InvalidInput, WrongState
from mitosis.projections.beside import Builder, History, Progress
from mitosis.projections.event_reads import position_at
from mitosis.projections.feed import Feed
from mitosis.projections.migrations import migrate
from mitosis.projections.postgres import Connection, connect, explained, fetch_value, shown
from mitosis.projections.store import ViewStore

MAX_NAME_BYTES = 63  # Postgres cuts longer ones


class Replayed(msgspec.Struct, frozen=True):
    """Read models of the past are there.

    Attributes:
        position: The newest commit that they include.
        database: Where, without its password.
    """

    position: int
    database: str


async def replay(
    live: str,
    history: History,
    moment: datetime | int,
    into: str,
    progress: Progress = lambda *_: None,
) -> Replayed:
    """Build the read models of a moment in another database, while the platform runs.

    Args:
        live: Address of the platform's own database.
        history: The stream.
        moment: A time or a position.
        into: Name of a database on the same server, made if it is not there; or the address of one.
        progress: Told how far it is.

    Raises:
        InvalidInput: The moment is still to come, or nothing was stored before it; no such name.
        WrongState: The database holds something else, or another replay is at work there.
        CorruptData: The stream cannot be read.
        Unavailable: Postgres or NATS is away. Misconfigured: No access, or no such database.
    """
    position = await _position(live, history, moment)
    url = into if "://" in into or "=" in into else await _beside(live, into)
    name = f"{history.stream} up to {position}"
    await _check_target(url, name)
    await migrate(url)
    store = await ViewStore.open(url)
    try:
        if not await store.try_lock():
            raise WrongState(f"another replay is under way in {shown(url)}: wait for its end")
        done = await store.claim(name)
        async with Feed(history.source, done.position + 1) as feed:
            builder = Builder(store, feed, history, progress, archived=False)
            builder.done = done
            await builder.build_to(position)
    finally:
        await store.close()
    return Replayed(position, shown(url))


async def _position(live: str, history: History, moment: datetime | int) -> int:
    head = await history.source.last_position()
    if isinstance(moment, datetime):
        async with await connect(live, "mito-replay") as connection:
            with explained(live):
                position = await position_at(connection, moment)
        if not position:
            raise InvalidInput(f"nothing was stored before {moment.isoformat()}")
        return position
    if not 1 <= moment <= head:
        raise InvalidInput(
            f"there is no position {moment} yet: give one from 1 to {head}", position=head
        )
    return moment


async def _beside(live: str, name: str) -> str:
    """Return the address of a database on the server of the live one; it is made if need be."""
    if not name.isprintable() or not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise InvalidInput(f"{name[:80]!r} is no name of a database: give 1 to 63 bytes")
    async with await connect(live, "mito-replay") as connection:
        with explained(live):
            found = await fetch_value(
                connection, "SELECT 1 FROM pg_database WHERE datname = %s", name
            )
            if not found:
                await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return make_conninfo(live, dbname=name)


async def _check_target(url: str, name: str) -> None:
    async with await connect(url, "mito-replay") as connection:
        with explained(url):
            owner = await _owner(connection)
    if owner not in {"", name}:
        raise WrongState(
            f"{shown(url)} holds {owner}, not {name}: give another database, or drop this one"
        )


async def _owner(connection: Connection) -> str:
    """Return what the database holds; empty: nothing."""
    if await fetch_value(connection, "SELECT to_regclass('views.position')"):
        stream = await fetch_value(connection, "SELECT max(stream) FROM views.position")
        if stream:
            return str(stream)
    if await fetch_value(connection, "SELECT to_regclass('archive.commits')"):
        last = await fetch_value(connection, "SELECT max(position) FROM archive.commits")
        if last:
            return f"an archive up to {last}"
    return ""
