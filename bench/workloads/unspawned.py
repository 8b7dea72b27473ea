"""Tasks without spawning: submit, store, assign, report, store, project, with workers between."""

from bench.platform import Up, connected
from bench.processes import cpu_ms_per_task, cpu_seconds
from bench.rows import DURABLE, RELAXED
from bench.simulated import simulated_workers
from bench.sizes import Bench
from bench.work import checked, throughput

WARM_UP = 200


async def synced(bench: Bench, up: Up) -> None:
    """Measure with synced commits."""
    await _measure(bench, up, "synced", DURABLE)


async def relaxed(bench: Bench, up: Up) -> None:
    """Measure with commits that are synced later."""
    await _measure(bench, up, "relaxed", RELAXED)


async def _measure(bench: Bench, up: Up, mode: str, note: str) -> None:
    count, rounds = bench.sizes.simulated
    for workers in bench.sizes.workers:
        with simulated_workers(up, workers):
            async with connected(up.config) as client:
                await throughput(client, min(WARM_UP, count))
                before, rates = cpu_seconds(up.data), []
                for _ in range(rounds):
                    async with checked(client, count) as done:
                        rates.append(await throughput(client, count, into=done))
                used = cpu_ms_per_task(before, cpu_seconds(up.data), count * rounds)
        spent = ", ".join(f"{name} {ms:g}" for name, ms in used.items() if ms)
        bench.results.add(
            f"simulated/{mode}/{workers}", f"{count:,} tasks without spawning, {mode}", "tasks/s",
            rates, who=f"mitosis, {workers} simulated workers",
            note=f"{note}; CPU ms a task: {spent}",
        )  # fmt: skip
