"""Dask, two worker processes of one thread. Runs in the peers' environment."""

import subprocess

from distributed import Client, LocalCluster

from bench.peers.say import SLOTS, rate, round_trips, sizes, trips


def true(_: int) -> int:
    """Run the program and return its exit code."""
    return subprocess.run(["/bin/true"]).returncode  # noqa: PLW1510


def main() -> None:
    """Start the cluster, measure, stop it."""
    with (
        LocalCluster(
            n_workers=SLOTS, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip

        def campaign(count: int) -> None:
            if sum(client.gather(client.map(true, range(count), pure=False))):
                raise SystemExit("a task failed")

        campaign(50)
        for size in sizes():
            rate(size, campaign)
        round_trips(trips(), lambda: campaign(1))


if __name__ == "__main__":
    main()
