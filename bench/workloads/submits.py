"""Submits, accepted and on disk, with no worker there; and what a long queue costs in memory."""

import time

from bench.platform import Up, connected
from bench.processes import memory_mb
from bench.rows import DURABLE, RELAXED
from bench.sizes import Bench
from bench.work import TRUE, counted
from mitosis import MitoClient
from mitosis.contract.queries import ListTasks
from mitosis.domain.task import TaskState

CALL = 10_000


async def synced(bench: Bench, up: Up) -> None:
    """Measure with synced commits."""
    await _measure(bench, up, "synced", DURABLE)


async def relaxed(bench: Bench, up: Up) -> None:
    """Measure with commits that are synced later."""
    await _measure(bench, up, "relaxed", RELAXED)


async def _measure(bench: Bench, up: Up, mode: str, note: str) -> None:
    count, rounds = bench.sizes.singles
    async with connected(up.config) as client:
        sent = await _ready(client)
        singles = [await _singles(client, count) for _ in range(rounds)]
        bench.results.add(f"submit/single/{mode}", f"{count} submits, one after the other",
                          "tasks/s", singles, note=note)  # fmt: skip
        sent += count * rounds
        count, rounds = bench.sizes.batch
        batches = []
        for _ in range(rounds):
            batches.append(await _batch(client, count))
            sent += count
            await _expect_ready(client, sent)
        bench.results.add(f"submit/batch/{count}/{mode}", f"batch submit of {count:,}", "tasks/s",
                          batches, note=note)  # fmt: skip


async def queued(bench: Bench, up: Up) -> None:
    """Measure how fast a long queue comes to be, and what the coordinator needs for it."""
    wanted = bench.sizes.queued
    async with connected(up.config) as client:
        before, _ = memory_mb(up.data, "coordinator")
        there, seconds = await _ready(client), 0.0
        for begin in range(there, wanted, CALL):
            part = min(CALL, wanted - begin)
            seconds += part / await _batch(client, part)
        await _expect_ready(client, max(there, wanted))
    after, peak = memory_mb(up.data, "coordinator")
    what = f"{wanted:,} tasks queued"
    rate = (wanted - there) / seconds
    bench.results.add("queued/rate", what, "tasks/s", rate, note=f"from {there:,} on; {DURABLE}")
    note = f"now {after:.0f} MB; {before:.0f} MB with {there:,}"
    bench.results.add("queued/memory", f"{what}: coordinator, at most", "MB", peak, note=note)


async def _singles(client: MitoClient, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await client.submit_task(TRUE)
    return count / (time.perf_counter() - began)


async def _batch(client: MitoClient, count: int) -> float:
    began = time.perf_counter()
    submitted = await client.submit_many([TRUE] * count)
    seconds = time.perf_counter() - began
    if len({one.task for one in submitted}) != count:
        raise SystemExit(f"wrong: {count} tasks were submitted, {len(submitted)} accepted")
    return count / seconds


async def _ready(client: MitoClient) -> int:
    page = await counted(client, ListTasks(count_only=True))
    return page.counts[TaskState.READY.value]


async def _expect_ready(client: MitoClient, count: int) -> None:
    found = await _ready(client)
    if found != count:
        raise SystemExit(f"wrong: {found} tasks are ready, {count} were submitted")
