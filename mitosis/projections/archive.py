"""The archive, the second copy of every commit, for those who check it or fill it again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from psycopg import sql

from mitosis.errors import Misconfigured, WrongState
from mitosis.projections.commit import RawCommit
from mitosis.projections.migrations import forget_views, migrate, try_projection_lock
from mitosis.projections.postgres import Connection, connect, explained, fetch_value, shown

_READ_BYTES = 4 * 1024 * 1024
ADD_COMMITS = sql.SQL(
    "INSERT INTO archive.commits (position, subject, payload, digest)"
    " SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bytea[], %b::text[])"
)


class Archive:
    """One session with the archive. Only ever added to, here too, but for a repair."""

    def __init__(self, connection: Connection, url: str) -> None:
        """Use `open` instead."""
        self._connection, self._url = connection, url

    @classmethod
    async def look_at(cls, url: str) -> "Archive":
        """Connect to one that is there, to read; nothing is made or changed.

        Raises:
            ViewUnavailable: Postgres does not answer.
            Misconfigured: No access, or nothing of Mitosis is there.
        """
        connection = await connect(
            url, "mito-archive", settings={"default_transaction_read_only": "on"}
        )
        archive = cls(connection, url)
        with explained(url):
            if await fetch_value(connection, "SELECT to_regclass('archive.commits')") is None:
                await archive.close()
                raise Misconfigured(f"{shown(url)} has no archive of Mitosis")
        return archive

    @classmethod
    async def open(cls, url: str) -> "Archive":
        """Connect; the schema is made if it is not there.

        Raises:
            ViewUnavailable: Postgres does not answer.
            Misconfigured: No access, or a database of a newer version than this code.
        """
        await migrate(url)
        connection = await connect(url, "mito-archive", settings={"synchronous_commit": "on"})
        return cls(connection, url)

    async def close(self) -> None:
        """End the session."""
        await self._connection.close()

    async def hold(self) -> None:
        """Keep projectors from writing for as long as the session lives.

        Raises:
            WrongState: One is at work.
        """
        with explained(self._url):
            if not await try_projection_lock(self._connection):
                raise WrongState(
                    f"a projector works with {shown(self._url)}: stop the coordinators and "
                    "projectors first"
                )

    async def last_position(self) -> int:
        """Return the position of the newest commit; 0 when it is empty."""
        with explained(self._url):
            last: int = await fetch_value(
                self._connection, "SELECT coalesce(max(position), 0) FROM archive.commits"
            )
        return last

    async def digests(self, first: int, last: int) -> dict[int, str]:
        """Return the digests of the commits that it has in a range of positions."""
        with explained(self._url):
            found = await self._connection.execute(
                "SELECT position, digest FROM archive.commits WHERE position BETWEEN %s AND %s",
                (first, last),
            )
            return dict(await found.fetchall())

    async def actual_digests(self, first: int, last: int) -> dict[int, str]:
        """Return the same, but made now from what stands there: the column may tell another."""
        with explained(self._url):
            found = await self._connection.execute(
                "SELECT position,"
                " encode(sha256(convert_to(subject || E'\\n', 'UTF8') || payload), 'hex')"
                " FROM archive.commits WHERE position BETWEEN %s AND %s",
                (first, last),
            )
            return dict(await found.fetchall())

    async def read(self, first: int, last: int) -> Sequence[RawCommit]:
        """Return commits in order from `first` on: up to `last`, or as many as fit into 4 MiB."""
        with explained(self._url):
            found = await self._connection.execute(
                "SELECT position, subject, payload FROM ("
                " SELECT *, sum(length(payload)) OVER (ORDER BY position) AS size"
                " FROM archive.commits WHERE position BETWEEN %s AND %s) c"
                " WHERE size - length(payload) < %s ORDER BY position",
                (first, last, _READ_BYTES),
            )
            return [(p, s, bytes(b)) for p, s, b in await found.fetchall()]

    async def add(self, commits: Sequence[RawCommit], digests: Sequence[str]) -> None:
        """Add commits behind the newest.

        Raises:
            OutOfStep: Somebody else has added them.
        """
        columns = (
            [c[0] for c in commits], [c[1] for c in commits], [c[2] for c in commits], [*digests],
        )  # fmt: skip
        with explained(self._url):
            await self._connection.execute(ADD_COMMITS, columns)

    async def amend(self, commits: Sequence[RawCommit], digests: Sequence[str]) -> None:
        """Put other commits in the place of some: the one thing for which it is not append-only.

        Raises:
            ViewUnavailable: Postgres does not answer, or refuses: only its owner may.
        """
        with explained(self._url):
            async with self._unlocked():
                await self._connection.execute(
                    "DELETE FROM archive.commits WHERE position = ANY(%s)",
                    ([position for position, _, _ in commits],),
                )
                await self.add(commits, digests)

    async def cut(self, last: int) -> None:
        """Remove all commits behind a position: history is lost from there on.

        Raises:
            ViewUnavailable: Postgres does not answer, or refuses: only its owner may.
        """
        with explained(self._url):
            async with self._unlocked():
                await self._connection.execute(
                    "DELETE FROM archive.commits WHERE position > %s", (last,)
                )

    @asynccontextmanager
    async def _unlocked(self) -> AsyncIterator[None]:
        """One transaction in which the archive may be changed."""
        async with self._connection.transaction():
            await self._connection.execute(
                "ALTER TABLE archive.commits DISABLE TRIGGER only_append"
            )
            yield
            await self._connection.execute(
                "ALTER TABLE archive.commits ENABLE ALWAYS TRIGGER only_append"
            )

    async def forget_views(self) -> None:
        """Drop the read models: the next projector makes them anew from the stream."""
        with explained(self._url):
            async with self._connection.transaction():
                await forget_views(self._connection)
