"""HyperQueue: server and worker in this process, two cores. Runs in the peers' environment.

Its client looks for the end of jobs once a second. To see the end when it happens, the wait is
begun anew every few milliseconds: the first look of each is at once.
"""

import os
import tempfile
import time
from typing import Any

from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig

from bench.peers.say import SLOTS, rate, round_trips, sizes, trips

LOOK_SECONDS = 0.005
LOOK_SECONDS_FOR_ONE = 0.0005


class _NotYet(Exception):
    """The job has not ended: look again."""


def _look(jobs: dict[int, dict[str, Any]]) -> None:
    if not all(job["completed"] for job in jobs.values()):
        raise _NotYet


class Campaigns:
    """Jobs of many tasks."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, count: int) -> None:
        """Run one job, to its end."""
        job = Job()
        for _ in range(count):
            job.program(["/bin/true"], stdout=None, stderr=None)
        submitted = self._client.submit(job)
        pause = LOOK_SECONDS_FOR_ONE if count == 1 else LOOK_SECONDS
        while True:
            try:
                failed = self._client.connection.wait_for_jobs([submitted.id], _look)
            except _NotYet:
                time.sleep(pause)
            else:
                break
        if failed:
            raise SystemExit("a task failed")


def main() -> None:
    """Start the cluster, measure, stop it."""
    with tempfile.TemporaryDirectory(prefix="bench-hq-") as folder:
        os.chdir(folder)
        with LocalCluster(worker_config=WorkerConfig(cores=SLOTS)) as cluster:
            campaigns = Campaigns(cluster.client())
            campaigns.run(50)
            for size in sizes():
                rate(size, campaigns.run)
            round_trips(trips(), lambda: campaigns.run(1))


if __name__ == "__main__":
    main()
