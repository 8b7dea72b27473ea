"""task-spooler, two slots; its rate is that of starting its client once for each task."""

import os
import subprocess
import tempfile

from bench.peers.say import SLOTS, rate, round_trips, sizes, trips


def tsp(*arguments: str) -> str:
    """Run the client."""
    done = subprocess.run(["tsp", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def campaign(count: int) -> None:
    """Queue all, and wait until the list shows all as finished with exit code 0."""
    for _ in range(count):
        tsp("-n", "/bin/true")
    tsp("-w")  # for the last one; the other slot may be one behind
    while len(ended := [line for line in tsp("-l").splitlines() if " finished " in line]) < count:
        pass
    if any(line.split()[3] != "0" for line in ended):
        raise SystemExit("a task failed")
    tsp("-C")


def main() -> None:
    """Start the server, measure, stop it."""
    with tempfile.TemporaryDirectory(prefix="bench-tsp-") as folder:
        os.environ["TS_SOCKET"] = f"{folder}/socket"
        os.environ["TS_MAXFINISHED"] = str(max(sizes()) + 1)
        tsp("-S", str(SLOTS))
        try:
            campaign(10)
            for size in sizes():
                rate(size, campaign)
            round_trips(trips(), lambda: (tsp("-nf", "/bin/true"), None)[1])
        finally:
            tsp("-K")


if __name__ == "__main__":
    main()
