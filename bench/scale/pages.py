"""Pages of `get tasks` out of the read models, by each filter, as the projector answers them.

`python -m bench.scale.pages [ROWS]` measures them alone, on rows that are copies of one ended task.

The past that is read holds tasks that are all alike. So before, some of the rows are given labels,
tags, outcomes, priorities and exit codes of their own: one in a hundred, the oldest of all, and one
in all; and one in a hundred has a priority that no other has, so that there are many counters. Then
counters and words are made again of the rows.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
from psycopg import sql

from mitosis.contract.queries import ListTasks
from mitosis.domain.task import Outcome
from mitosis.errors import ViewUnavailable
from mitosis.projections.migrations import migrate
from mitosis.projections.pool import STATEMENT_SECONDS, ReadPool
from mitosis.projections.queries import Queries
from mitosis.projections.rows import TaskRow
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History
from mitosis.testing.past import past_tasks
from mitosis.testing.views import project

ROUNDS = 5
ROWS = 1_000_000
USER = "root"
VARIED = (
    "UPDATE views.tasks SET labels = '{some}', tags = '{some}', outcome = 'failed', priority = 5,"
    " exit = jsonb_set(exit, '{number}', '3'), exit_status = 3"
    " WHERE number % 100 = 0 AND state = 'finished'",
    "UPDATE views.tasks SET labels = '{one}', tags = '{one}' WHERE number = 1",
    "UPDATE views.tasks SET labels = '{old}', priority = -5, creator = 'former'"
    " WHERE number BETWEEN 2 AND (SELECT max(number) / 100 FROM views.tasks) AND number % 100 <> 0",
    "UPDATE views.tasks SET priority = 1000 + number / 100 WHERE number % 100 = 50",
    "TRUNCATE views.task_counts, views.task_words",
    "INSERT INTO views.task_words SELECT group_name, 'label ' || label, number"
    " FROM views.tasks, unnest(labels) label"
    " UNION ALL SELECT group_name, 'tag ' || tag, number FROM views.tasks, unnest(tags) tag",
    "INSERT INTO views.task_counts SELECT group_name, word, creator, state,"
    " coalesce(outcome, ''), exit_status, priority, count(*)"
    " FROM views.tasks JOIN (SELECT * FROM views.task_words"
    "  UNION ALL SELECT group_name, '', number FROM views.tasks) w USING (group_name, number)"
    " GROUP BY 1, 2, 3, 4, 5, 6, 7",
    "ANALYZE views.tasks",
    "ANALYZE views.task_counts",
    "ANALYZE views.task_words",
)
NOBODY = "00000000-0000-0000-0000-000000000000"
FAILED, SUCCEEDED = (Outcome.FAILED,), (Outcome.SUCCEEDED,)
FILTERS = {
    "no filter": ListTasks(),
    "deep in it": ListTasks(before=100),
    "a state": ListTasks(states=("finished",)),
    "a state of none": ListTasks(states=("running",)),
    "several states": ListTasks(states=("finished", "running", "cancelled")),
    "an outcome": ListTasks(outcomes=SUCCEEDED),
    "an outcome of few": ListTasks(outcomes=FAILED),
    "an outcome of few, deep in it": ListTasks(outcomes=FAILED, before=10_000),
    "a label of few": ListTasks(labels=("some",)),
    "a label of the oldest": ListTasks(labels=("old",)),
    "a label of one": ListTasks(labels=("one",)),
    "a label of none": ListTasks(labels=("none",)),
    "a tag of few": ListTasks(tags=("some",)),
    "a tag of none": ListTasks(tags=("none",)),
    "a creator": ListTasks(creators=(USER,)),
    "a creator of the oldest": ListTasks(creators=("former",)),
    "a creator of none": ListTasks(creators=("nobody",)),
    "UUIDs": ListTasks(uuids=(NOBODY,)),
    "an exit status": ListTasks(exit_status="=0"),
    "an exit status of few": ListTasks(exit_status="!=0"),
    "a priority": ListTasks(priority=">=0"),
    "a priority of few": ListTasks(priority="5"),
    "any of many priorities": ListTasks(priority=">5"),
    "a priority of the oldest": ListTasks(priority="<0"),
    "a priority of none": ListTasks(priority="=3"),
    "a label and an outcome": ListTasks(labels=("some",), outcomes=FAILED),
    "a label and an outcome of none": ListTasks(labels=("old",), outcomes=FAILED),
    "a label and a priority": ListTasks(labels=("old",), priority="<0"),
    "a label and a tag": ListTasks(labels=("some",), tags=("some",)),
    "a label and a tag of none": ListTasks(labels=("old",), tags=("some",)),
    "a label, a tag and an outcome": ListTasks(labels=("some",), tags=("some",), outcomes=FAILED),
    "a creator and an outcome of few": ListTasks(creators=(USER,), outcomes=FAILED),
    "a creator and a priority of the oldest": ListTasks(creators=("former",), priority="<0"),
    "a state and an exit status of few": ListTasks(states=("finished",), exit_status=">0"),
}  # fmt: skip


async def measure(url: str, user: str) -> dict[str, list[float]]:
    """Return, by filter, how many ms a page took: whole answers, on one warm connection."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in VARIED:
            await connection.execute(statement)
    found: dict[str, list[float]] = {}
    pool = ReadPool(url, size=1)
    queries = Queries(pool, decode)
    try:
        for name, wanted in FILTERS.items():
            asked = ListTasks(creators=(user,)) if name == "a creator" else wanted
            found[name] = await _times(queries, user, asked)
    finally:
        await pool.close()
    return found


async def _times(queries: Queries, user: str, asked: ListTasks) -> list[float]:
    """Return ms of some answers after the first; of one that Postgres broke off, its bound."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        try:
            await queries.list_tasks(user, asked)
        except ViewUnavailable:
            return [STATEMENT_SECONDS * 1000]
        times.append((time.perf_counter() - began) * 1000)
    return times[1:]


async def fill(url: str, rows: int) -> None:
    """Fill new read models with copies of one ended task, as the projector has made it."""
    history = History()
    history.add_user(USER, admin=True)
    known = len(history.commits)
    history.commits += [(known + at, subject, body) for at, subject, body in past_tasks(1)]
    await project(url, history)
    own = {"uuid": "gen_random_uuid()", "number": "n", "created_position": "n * 3"}
    columns = TaskRow.__struct_fields__
    values = sql.SQL(", ").join(
        sql.SQL(own[column]) if column in own else sql.Identifier("t", column)  # type: ignore[arg-type]
        for column in columns
    )
    copied = sql.SQL(
        "INSERT INTO views.tasks ({}) SELECT {} FROM views.tasks t, generate_series(2, {}) n"
    ).format(sql.SQL(", ").join(map(sql.Identifier, columns)), values, rows)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(copied)
        await connection.execute(
            "INSERT INTO views.task_specs SELECT t.uuid, s.spec FROM views.tasks t,"
            " views.task_specs s WHERE t.number > 1"
        )
        await connection.execute("UPDATE views.group_usage SET finished = %s", (rows,))
        await connection.execute("VACUUM ANALYZE")


async def main(rows: int) -> None:
    """Measure and print, the slowest first."""
    with tempfile.TemporaryDirectory(prefix="mito-bench-") as folder:
        async with EmbeddedPostgres(Path(folder) / "pg") as postgres:
            await migrate(postgres.url)
            await fill(postgres.url, rows)
            found = await measure(postgres.url, USER)
    print(f"{rows:,} rows: ms for a page (median, most)")
    for name, times in sorted(found.items(), key=lambda item: -statistics.median(item[1])):
        print(f"{statistics.median(times):9.2f} {max(times):9.2f}  {name}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))
