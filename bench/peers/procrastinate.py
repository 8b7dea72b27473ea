"""procrastinate: jobs in Postgres, one worker process, two at once. In the peers' environment.

The address of an empty database comes in BENCH_DATABASE.
"""

import asyncio
import os
import subprocess
import sys
import time

import psycopg

from bench.peers.procrastinate_app import app, true
from bench.peers.say import SLOTS, rate, round_trips, sizes, trips

LOOK_SECONDS = 0.02
LOOK_SECONDS_FOR_ONE = 0.001
WAIT_SECONDS = 120
DATABASE = os.environ["BENCH_DATABASE"]


class Campaigns:
    """Defers jobs, and looks at their table until all have succeeded."""

    def __init__(self, runner: asyncio.Runner, looking: "psycopg.Connection[tuple[int]]") -> None:
        self._runner, self._looking, self._done = runner, looking, 0

    def run(self, count: int) -> None:
        """Run one campaign."""
        self._done += count
        self._runner.run(true.batch_defer_async(*({} for _ in range(count))))
        deadline = time.monotonic() + WAIT_SECONDS
        while self._succeeded() < self._done:
            if time.monotonic() > deadline:
                raise SystemExit("not all jobs succeeded")
            time.sleep(LOOK_SECONDS_FOR_ONE if count == 1 else LOOK_SECONDS)

    def _succeeded(self) -> int:
        found = self._looking.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
        ).fetchone()
        return found[0] if found else 0


async def _open() -> None:
    await app.open_async()
    await app.schema_manager.apply_schema_async()


def main() -> None:
    """Make the tables, start the worker, measure, stop it."""
    with asyncio.Runner() as runner, psycopg.connect(DATABASE, autocommit=True) as looking:
        runner.run(_open())
        worker = subprocess.Popen(
            [
                sys.executable, "-m", "procrastinate", "--app", "bench.peers.procrastinate_app.app",
                "worker", "--concurrency", str(SLOTS),
            ],
                    )  # fmt: skip
        try:
            campaigns = Campaigns(runner, looking)
            campaigns.run(20)
            for size in sizes():
                rate(size, campaigns.run)
            round_trips(trips(), lambda: campaigns.run(1))
        finally:
            worker.terminate()
            worker.wait()
            runner.run(app.close_async())


if __name__ == "__main__":
    main()
