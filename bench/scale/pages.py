"""Pages of `get tasks` out of the read models, by each filter, as the projector answers them.

The past that is read holds tasks that are all alike. So before, some of the rows are given labels,
tags, outcomes and exit codes of their own: one in a hundred, and one in all.
"""

import time

import psycopg

from mitosis.contract.queries import ListTasks
from mitosis.domain.task import Outcome
from mitosis.errors import ViewUnavailable
from mitosis.projections.pool import STATEMENT_SECONDS, ReadPool
from mitosis.projections.queries import Queries
from mitosis.services.projector.decoding import decode

ROUNDS = 5
VARIED = (
    "UPDATE views.tasks SET labels = '{some}', tags = '{some}', outcome = 'failed',"
    " exit = jsonb_set(exit, '{number}', '3') WHERE number % 100 = 0 AND state = 'finished'",
    "UPDATE views.tasks SET labels = '{one}', tags = '{one}' WHERE number = 1",
    "ANALYZE views.tasks",
)
NOBODY = "00000000-0000-0000-0000-000000000000"
FILTERS = {
    "no filter": ListTasks(),
    "deep in it": ListTasks(before=100),
    "a state": ListTasks(states=("finished",)),
    "a state of none": ListTasks(states=("running",)),
    "an outcome": ListTasks(outcomes=(Outcome.SUCCEEDED,)),
    "an outcome of few": ListTasks(outcomes=(Outcome.FAILED,)),
    "a label of few": ListTasks(labels=("some",)),
    "a label of one": ListTasks(labels=("one",)),
    "a label of none": ListTasks(labels=("none",)),
    "a tag of few": ListTasks(tags=("some",)),
    "a tag of none": ListTasks(tags=("none",)),
    "a creator": ListTasks(),
    "a creator of none": ListTasks(creators=("nobody",)),
    "UUIDs": ListTasks(uuids=(NOBODY,)),
    "an exit status": ListTasks(exit_status="=0"),
    "an exit status of few": ListTasks(exit_status="!=0"),
    "a priority": ListTasks(priority=">=0"),
    "a priority of none": ListTasks(priority=">5"),
}


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
