"""The read models as they were at a position, for the same statements that read those of now.

The statements name tables without their schema. Here a WITH clause stands before each of them, in
which these names are the rows of the past: those that have not changed since are taken as they
are, the few others are folded again from their commits in the archive, by the folds that have made
the read models. The session's search_path is empty meanwhile, so a table that nobody has prepared
is an error and not the present. Decision: docs/decisions/0034-as-of.md.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

from mitosis.domain.moments import checked_moment
from mitosis.errors import InvalidInput, LimitReached, NotFound
from mitosis.projections import sketch
from mitosis.projections.commit import Decode
from mitosis.projections.event_reads import position_at
from mitosis.projections.plan import fold_all
from mitosis.projections.postgres import Connection, Cursor, fetch_value
from mitosis.projections.rows import Tables
from mitosis.projections.statements import rows_json

# Of what has changed since: about 0.2 ms each, folding, sending and reading; also on a busy machine
# this stays below the bound of a read.
MAX_FOLDED_COMMITS = 20_000
MAX_FOLDED_BYTES = 64 * 1024 * 1024
MAX_SKETCHED_TASKS = 1_000_000
READ_SECONDS = 20.0  # for one answer; what is read of now has less
WORK_MEMORY = "64MB"  # of Postgres for a sort; two such questions are answered at once
_CLOCKS_DIFFER = timedelta(minutes=5)  # of whoever asks and of Postgres
_AT_ONCE = 200  # commits between two moments at which others may run

# Settings of the transaction carry the values, so the clause is the same text for every statement.
_POSITION: LiteralString = "(SELECT current_setting('mito.position')::bigint)"
_CHANGED: LiteralString = "(SELECT unnest(current_setting('mito.changed')::text[]))"
_FOLDED: LiteralString = "(SELECT unnest(current_setting('mito.folded')::uuid[]))"
_UNTOUCHED: LiteralString = (
    "EXISTS (SELECT FROM views.tasks u WHERE u.uuid = x.task"
    f" AND u.changed_position <= {_POSITION})"
)
# Which rows of a table are as they were.
_SAME: dict[str, LiteralString] = {
    "tasks": f"x.changed_position <= {_POSITION}",
    "task_specs": f"x.task NOT IN {_FOLDED}",  # cheaper, and enough beside the right tasks
    "artifacts": _UNTOUCHED,
    "workers": f"'worker ' || x.uuid NOT IN {_CHANGED}",
    "worker_roles": f"'worker ' || x.worker NOT IN {_CHANGED}",
    "groups": f"'group ' || x.name NOT IN {_CHANGED}",
    "members": f"'group ' || x.group_name NOT IN {_CHANGED}",
    "attachments": f"'attachment ' || x.key NOT IN {_CHANGED}",
}
# What never changes of things: enough to find them by name.
_NAMED: dict[str, LiteralString] = {
    "tasks": f"SELECT * FROM views.tasks WHERE created_position <= {_POSITION}",
    "groups": "SELECT x.* FROM views.groups x WHERE EXISTS (SELECT FROM views.commits c"
    f" WHERE c.kind = 'group' AND c.name = x.name AND c.position <= {_POSITION})",
}
_COUNTS: LiteralString = (
    "count(*) FILTER (WHERE state = 'pending') AS pending,"
    " count(*) FILTER (WHERE state = 'ready') AS ready,"
    " count(*) FILTER (WHERE state = 'running') AS running,"
    " count(*) FILTER (WHERE state = 'finished') AS finished,"
    " count(*) FILTER (WHERE state = 'cancelled') AS cancelled"
)
_COUNTED: LiteralString = f"SELECT group_name, {_COUNTS} FROM tasks GROUP BY group_name"
_STORED: LiteralString = (
    f"SELECT t.group_name, {_COUNTS}, (coalesce((SELECT sum(a.size_bytes) FROM artifacts a"
    "  JOIN tasks o ON o.uuid = a.task WHERE o.group_name = t.group_name), 0)"
    " + coalesce((SELECT sum(f.size_bytes) FROM attachments f"
    "  WHERE f.group_name = t.group_name), 0))::bigint AS storage_used_bytes"
    " FROM (SELECT name AS group_name, tasks.uuid, tasks.state FROM groups"
    "  LEFT JOIN tasks ON tasks.group_name = groups.name) t GROUP BY t.group_name"
)


class Past:
    """What was at a position; reads take it in the place of a connection. For one transaction.

    Attributes:
        position: The newest commit that is included.
    """

    def __init__(self, connection: Connection, decode: Decode, position: int) -> None:
        """Use `begin` instead."""
        self._connection, self._decode = connection, decode
        self.position = position
        self._clauses: dict[str, LiteralString] = {}
        self._folded = Tables()
        self._changed: list[str] = []
        self._sketched = False

    @classmethod
    async def begin(cls, connection: Connection, decode: Decode, as_of: datetime | int) -> "Past":
        """Look at a moment, in a transaction that has begun.

        Raises:
            InvalidInput: It is still to come.
        """
        past = cls(connection, decode, await _position(connection, as_of))
        await past._set("statement_timeout", f"{READ_SECONDS + 1.0:g}s")
        await past._set("search_path", "")
        await past._set("max_parallel_workers_per_gather", "0")  # a page is sorted faster alone
        await past._set("work_mem", WORK_MEMORY)
        await past._set("mito.position", str(past.position))
        return past

    async def execute(
        self, query: LiteralString, params: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> Cursor:
        """Run a SELECT on the tables that were prepared."""
        # As if they stood in the place of the tables: with their indexes.
        clauses = ", ".join(
            f"{table} AS NOT MATERIALIZED ({rows})" for table, rows in self._clauses.items()
        )
        return await self._connection.execute(f"WITH {clauses} {query}", params)

    def name(self, *tables: str) -> None:
        """Prepare tables for what never changes of their rows: names, numbers and order."""
        self._clauses |= {table: _NAMED[table] for table in tables}

    async def show(self, *tables: str) -> None:
        """Prepare tables; what has changed since must have been recalled before."""
        known = {table.name: table for table in self._folded.overwritten()}
        await self._set("mito.changed", self._changed)
        await self._set("mito.folded", [uuid for (uuid,) in self._folded.tasks.rows])
        for name in tables:
            await self._set(f"mito.{name}", rows_json(known[name].written()))
            sketched = self._sketched and name == "tasks"
            columns = sketch.COLUMNS if sketched else "x.*"
            self._clauses[name] = (
                f"SELECT {columns} FROM views.{name} x WHERE {_SAME[name]}"
                + (f" UNION ALL {sketch.SKETCHED} WHERE x.uuid NOT IN {_FOLDED}" * sketched)
                + f" UNION ALL SELECT {columns} FROM json_populate_recordset(NULL::views.{name},"
                f" current_setting('mito.{name}')::json) x"
            )

    def count(self, *, stored: bool) -> None:
        """Prepare the counters of groups, with the bytes that they store or without."""
        self._clauses["group_usage"] = _STORED if stored else _COUNTED

    async def require_group(self, group: str) -> None:
        """Prepare the names of groups, and check that there was one.

        Raises:
            NotFound: It was made later, or never.
        """
        self.name("groups")
        if not await fetch_value(self, "SELECT 1 FROM groups WHERE name = %s", group):
            raise NotFound(f"there was no group {group!r} at position {self.position}", group=group)

    async def sketch_tasks(self, group: str) -> list[str]:
        """Let `show` have the tasks of a group by what filters and counts look at.

        Returns:
            Those that must be recalled for that.

        Raises:
            LimitReached: Too many have changed since.
        """
        args = {"group": group, "position": self.position}
        found = await self._connection.execute(sketch.COUNT, args)
        (changed,) = await found.fetchone() or (0,)
        if changed > MAX_SKETCHED_TASKS:
            raise self._too_much(f"{changed} tasks", f"{MAX_SKETCHED_TASKS}")
        found = await self._connection.execute(sketch.SKETCH, {**args, **sketch.ARGUMENTS})
        *_, unclear = await found.fetchone() or ([],)
        self._sketched = True
        return list(unclear)

    async def changed_tasks(self, which: LiteralString, **args: Any) -> list[str]:
        """Return the tasks that were there and have changed since; `which` is a condition on t."""
        found = await self._connection.execute(
            "SELECT t.uuid::text FROM views.tasks t WHERE t.created_position <= %(position)s"
            f" AND t.changed_position > %(position)s AND {which} LIMIT %(limit)s",
            {"position": self.position, "limit": MAX_FOLDED_COMMITS + 1, **args},
        )
        return [row[0] for row in await found.fetchall()]

    async def recall_changed(
        self, kind: str, group: str | None = None, names: Sequence[str] | None = None
    ) -> None:
        """Recall all small things of a kind that have changed since, or those of some names."""
        found = await self._connection.execute(
            "SELECT DISTINCT c.name FROM views.commits c WHERE c.kind = %(kind)s"
            " AND c.position > %(position)s"
            " AND (%(group)s::text IS NULL OR c.group_name = %(group)s)"
            " AND (%(names)s::text[] IS NULL OR c.name = ANY(%(names)s)) LIMIT %(limit)s",
            {
                "kind": kind, "position": self.position, "group": group, "names": names,
                "limit": MAX_FOLDED_COMMITS + 1,
            },
        )  # fmt: skip
        changed = [row[0] for row in await found.fetchall()]
        self._changed += [f"{kind} {name}" for name in changed]
        await self.recall(kind, changed, group)

    async def recall(self, kind: str, names: Sequence[str], group: str | None = None) -> None:
        """Fold things as they were from their commits up to the position.

        Raises:
            LimitReached: These are too many.
        """
        if not names:
            return
        where: LiteralString = (
            "FROM views.commits c JOIN archive.commits a USING (position) WHERE c.kind = %(kind)s"
            " AND c.name = ANY(%(names)s) AND position <= %(position)s"
            " AND (%(group)s::text IS NULL OR c.group_name = %(group)s)"
        )
        args = {"kind": kind, "names": names, "position": self.position, "group": group}
        sized = await self._connection.execute(
            f"SELECT count(*), coalesce(sum(length(a.payload)), 0) {where}", args
        )
        commits, size = await sized.fetchone() or (0, 0)
        if len(names) > MAX_FOLDED_COMMITS or commits > MAX_FOLDED_COMMITS:
            raise self._too_much(f"at least {commits} commits", f"{MAX_FOLDED_COMMITS}")
        if size > MAX_FOLDED_BYTES:
            raise self._too_much(f"{size} bytes of commits", f"{MAX_FOLDED_BYTES} bytes")
        found = await self._connection.execute(
            f"SELECT position, a.subject, a.payload {where} ORDER BY position", args
        )
        while rows := await found.fetchmany(_AT_ONCE):
            fold_all(self._folded, [self._decode(p, s, bytes(body)) for p, s, body in rows])
            await asyncio.sleep(0)

    def _too_much(self, found: str, limit: str) -> LimitReached:
        return self.refused(f"{found} would have to be read again, at most {limit} are")

    def refused(self, why: str) -> LimitReached:
        """Return the error that says why there is no answer, and what to do."""
        return LimitReached(
            f"since position {self.position} too much has changed to answer from the live read "
            f"models: {why}. Ask for less (one task, another group, a later moment), or have an "
            "operator build the read models of that moment: `mito events replay --to "
            f"{self.position} --into DATABASE`",
            position=self.position,
        )

    async def _set(self, name: str, value: str | list[str]) -> None:
        kind: LiteralString = "%s::text" if isinstance(value, str) else "%s::text[]::text"
        await self._connection.execute(f"SELECT set_config(%s, {kind}, true)", (name, value))


async def _position(connection: Connection, as_of: datetime | int) -> int:
    head: int
    found = await connection.execute("SELECT coalesce(max(position), 0), now() FROM views.position")
    head, now = await found.fetchone() or (0, None)
    checked_moment(as_of)
    if isinstance(as_of, int):
        if as_of > head:
            raise InvalidInput(
                f"position {as_of} is still to come: the newest one is {head}", position=head
            )
        return as_of
    if now is not None and as_of > now + _CLOCKS_DIFFER:
        raise InvalidInput(f"{as_of.isoformat()} is still to come", position=head)
    return min(await position_at(connection, as_of), head)
