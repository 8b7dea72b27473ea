"""Round trips on an idle platform, and of those the time until the program started."""

from bench.platform import Up, connected
from bench.rows import DURABLE
from bench.sizes import Bench
from bench.work import GAP_SECONDS, Ends, checked, percentile, round_trips
from mitosis import MitoClient

WARM_UP = 10


async def measure(bench: Bench, up: Up) -> None:
    """Measure one task after the other, with a gap between them."""
    count = bench.sizes.trips
    async with connected(up.config) as client:
        ends = await Ends.watch(client)
        await round_trips(client, ends, WARM_UP)
        async with checked(client, count) as done:
            tasks, times = await round_trips(client, ends, count)
            done.extend(tasks)
        waits = [await _until_started(client, task) for task in tasks]
    what = f"idle round trip, {GAP_SECONDS * 1000:g} ms apart"
    until = "submit decided until started, on an idle platform, by the events' times"
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        bench.results.add(f"latency/{name}", f"{what}, {name}", "ms", percentile(times, part),
                          note=DURABLE)  # fmt: skip
        bench.results.add(f"dispatch/{name}", f"{until}, {name}", "ms", percentile(waits, part))


async def _until_started(client: MitoClient, task: str) -> float:
    view = await client.get_task(task)
    if view.started_at is None:
        raise SystemExit(f"wrong: task {task} has ended and was never started")
    return (view.started_at - view.created_at).total_seconds() * 1000
