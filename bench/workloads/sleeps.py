"""Tasks that take 10 ms: what scheduling adds to the ideal."""

from bench.floor import measured
from bench.platform import Up, connected
from bench.rows import DURABLE
from bench.sizes import Bench
from bench.work import SLOTS, checked, throughput
from mitosis.config.client import SubmitTaskArgs

SECONDS = 0.01
PROGRAM = ("/bin/sleep", f"{SECONDS:g}")


async def measure(bench: Bench, up: Up) -> None:
    """Measure the campaign, and the same by a loop of posix_spawn."""
    count, rounds = bench.sizes.sleeps
    task = SubmitTaskArgs(command=PROGRAM)
    ideal_ms = SECONDS * 1000 / SLOTS
    ours, bare = [], []
    async with connected(up.config) as client:
        for _ in range(rounds):
            bare.append(1000 / measured(count, SLOTS, *PROGRAM) - ideal_ms)
            async with checked(client, count) as done:
                ours.append(1000 / await throughput(client, count, task, into=done) - ideal_ms)
    what = f"{count:,} x sleep 10 ms: over the ideal of {ideal_ms:g} ms a task"
    bench.results.add("sleeps", what, "ms", ours, note=DURABLE)
    bench.results.add("sleeps/floor", what, "ms", bare, who="posix_spawn, 2 in flight")
