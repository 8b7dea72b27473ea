"""Campaigns of `true`, really spawned, beside the floor in the same minute; CPU by process."""

from bench.floor import measured, xargs_rate
from bench.platform import Up, connected
from bench.processes import cpu_ms_per_task, cpu_seconds
from bench.rows import DURABLE
from bench.sizes import Bench
from bench.work import SLOTS, checked, throughput

WARM_UP = 50
FLOOR = 1_000


async def measure(bench: Bench, up: Up) -> None:
    """Measure each size, and the floors before each round."""
    results = bench.results
    async with connected(up.config) as client:
        await throughput(client, WARM_UP)  # everything is loaded and warm
        for count, rounds in bench.sizes.true:
            rates, floors, serial, xargs = [], [], [], []
            used = dict[str, float]()
            for _ in range(rounds):
                floors.append(measured(FLOOR, SLOTS))
                serial.append(measured(FLOOR, 1))
                xargs.append(xargs_rate(FLOOR, SLOTS))
                before = cpu_seconds(up.data)
                async with checked(client, count) as done:
                    rates.append(await throughput(client, count, into=done))
                one = cpu_ms_per_task(before, cpu_seconds(up.data), count)
                used = {name: used.get(name, 0.0) + ms / rounds for name, ms in one.items()}
            key, what = f"true/{count}", f"{count:,} x true"
            results.add(key, what, "tasks/s", rates, note=DURABLE)
            results.add(f"{key}/floor", what, "tasks/s", floors, who="posix_spawn, 2 in flight")
            results.add(f"{key}/floor1", what, "tasks/s", serial, who="posix_spawn, 1 in flight")
            results.add(f"{key}/xargs", what, "tasks/s", xargs, who="xargs -P2")
            for name, ms in sorted(used.items(), key=lambda item: -item[1]):
                results.add(f"{key}/cpu/{name}", f"CPU per task, {count:,} x true", "ms", ms,
                            who=name)  # fmt: skip
