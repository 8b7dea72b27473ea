"""Work for a platform, timed by a client: campaigns until the read model shows them, and trips."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from mitosis import MitoClient
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.contract import subjects
from mitosis.contract.queries import ListTasks, TaskPage
from mitosis.domain.task import Outcome, TaskState
from mitosis.nats.connection import Msg

SLOTS = 2
GAP_SECONDS = 0.05
LONGEST_SECONDS = 600.0
PART = 2_000
TRUE = SubmitTaskArgs(command=("/bin/true",))


class Ends:
    """Sees tasks end, live."""

    def __init__(self) -> None:
        self._ended: set[str] = set()
        self._news = asyncio.Event()

    @classmethod
    async def watch(cls, client: MitoClient) -> "Ends":
        """Begin to watch the own group."""
        ends = cls()
        connection = await client.session.open()
        group = (await client.whoami()).username
        await connection.subscribe(subjects.live(subjects.task_tail(group, ">")), ends.take)
        await connection.flush()
        return ends

    def take(self, message: Msg) -> None:
        """Note an end."""
        if b'"task.committed@1"' in message.data:
            self._ended.add(message.subject.rpartition(".")[2])
            self._news.set()

    async def of(self, tasks: list[str]) -> None:
        """Return when all these have ended."""
        while not self._ended.issuperset(tasks):
            self._news.clear()
            await self._news.wait()


async def throughput(
    client: MitoClient, count: int, task: SubmitTaskArgs = TRUE, *, into: list[str] | None = None
) -> float:
    """Return tasks per second, from the first submit until the read model shows all ended.

    UUIDs of the tasks are appended to `into`. The read model is asked seldom while much is left, so
    that asking costs nothing that counts, and often at the end.
    """
    shown_before = await finished(client)
    began = time.perf_counter()
    submitted = await client.submit_many([task] * count)
    if into is not None:
        into += [one.task for one in submitted]
    while True:
        done = await finished(client) - shown_before
        seconds = time.perf_counter() - began
        if done >= count:
            return count / seconds
        if seconds > LONGEST_SECONDS:
            raise SystemExit(f"{done} of {count} tasks had ended after {seconds:.0f} s")
        left_seconds = (count - done) * seconds / max(done, 1)
        await asyncio.sleep(min(0.25, max(0.005, left_seconds / 2)))


async def finished(client: MitoClient) -> int:
    """Return how many tasks of the own group the read model shows as finished."""
    page = await client.get_tasks(GetTasksArgs(count_only=True))
    return page.counts.get(TaskState.FINISHED.value, 0)


async def counted(client: MitoClient, wanted: ListTasks) -> TaskPage:
    """Return counts of tasks, of all that was stored before: read models may be behind."""
    return await client.session.query("task", "list", wanted, TaskPage, whole=True)


async def round_trips(
    client: MitoClient, ends: Ends, count: int, task: SubmitTaskArgs = TRUE
) -> tuple[list[str], list[float]]:
    """Return tasks, and ms from the call of submit until the end is seen live, one at a time."""
    tasks, times = [], []
    for _ in range(count):
        began = time.perf_counter()
        submitted = await client.submit_task(task)
        await ends.of([submitted.task])
        times.append((time.perf_counter() - began) * 1000)
        tasks.append(submitted.task)
        await asyncio.sleep(GAP_SECONDS)
    return tasks, times


def percentile(values: list[float], part: float) -> float:
    """Return the value below which a part (0 to 1) of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


@contextlib.asynccontextmanager
async def checked(client: MitoClient, tasks: int) -> AsyncIterator[list[str]]:
    """Yield a list for the UUIDs of so many tasks; at the end each must be shown as succeeded."""
    submitted: list[str] = []
    yield submitted
    succeeded = 0
    for begin in range(0, len(submitted), PART):
        part = tuple(submitted[begin : begin + PART])
        wanted = ListTasks(uuids=part, outcomes=(Outcome.SUCCEEDED,), count_only=True)
        succeeded += (await counted(client, wanted)).total
    if (len(set(submitted)), succeeded) != (tasks, tasks):
        raise SystemExit(
            f"wrong: {succeeded} of {len(set(submitted))} tasks succeeded, not {tasks}"
        )
