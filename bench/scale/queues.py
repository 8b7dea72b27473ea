"""What a task costs out of a short queue and out of a long one: submits are not counted."""

import asyncio
import time

from bench.platform import Up, connected, platform
from bench.processes import cpu_ms_per_task, cpu_seconds
from bench.scale.history import WORKERS, add_cost
from bench.simulated import simulated_workers
from bench.sizes import Bench
from bench.work import LONGEST_SECONDS, TRUE, finished
from mitosis import MitoClient
from mitosis.config.client import GetTasksArgs
from mitosis.domain.task import Outcome, TaskState

CALL = 10_000
# Counting 100,000 rows takes Postgres as long as some ten tasks: so much longer than a look is the
# pause after it.
PAUSE = 20


def measure(bench: Bench) -> None:
    """Measure each length of the queue on one platform, the shortest first."""
    with platform(workers=0, slots=1) as up, simulated_workers(up, WORKERS):
        for length in bench.sizes.queues:
            asyncio.run(_measure(bench, up, length))


async def _measure(bench: Bench, up: Up, length: int) -> None:
    """Fill the queue while the workers pause, then let them take tasks, until enough were taken."""
    wanted, seconds = bench.sizes.queue_tasks, 0.0
    used = dict[str, float]()
    async with connected(up.config) as client:
        workers = [worker.uuid for worker in (await client.get_workers()).workers]
        taken = 0
        while taken < wanted:
            for worker in workers:
                await client.pause_worker(worker)
            await _fill(client, length)
            shown, before, began = await finished(client), cpu_seconds(up.data), time.monotonic()
            for worker in workers:
                await client.resume_worker(worker)
            part = await _take(client, shown, min(length, wanted - taken))
            seconds += time.monotonic() - began
            for name, ms in cpu_ms_per_task(before, cpu_seconds(up.data), 1).items():
                used[name] = used.get(name, 0.0) + ms
            taken += part
        await _check(client)
    a_task = {name: round(ms / taken, 3) for name, ms in used.items()}
    what = f"out of a queue of {length:,}"
    add_cost(bench.results, f"queues/cost/{length}", what, taken / seconds, a_task)


async def _check(client: MitoClient) -> None:
    """Make sure that whatever has ended has succeeded; the workers go on meanwhile."""
    others = tuple(outcome for outcome in Outcome if outcome is not Outcome.SUCCEEDED)
    wrong = await client.get_tasks(GetTasksArgs(outcomes=others, count_only=True))
    if wrong.total:
        raise SystemExit(f"wrong: {wrong.total} tasks have not succeeded")


async def _fill(client: MitoClient, length: int) -> None:
    page = await client.get_tasks(GetTasksArgs(count_only=True))
    missing = length - page.counts[TaskState.READY.value]
    while missing > 0:
        submitted = await client.submit_many([TRUE] * min(CALL, missing))
        missing -= len(submitted)
    await finished(client)  # the read models have them


async def _take(client: MitoClient, before: int, count: int) -> int:
    """Wait until so many more are shown as finished; return how many there are."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        looked = time.monotonic()
        if (done := await finished(client) - before) >= count:
            return done
        if looked > deadline:
            raise SystemExit(f"{done} of {count} tasks had ended after {LONGEST_SECONDS:g} s")
        await asyncio.sleep(max(0.02, PAUSE * (time.monotonic() - looked)))
