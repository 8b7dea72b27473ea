"""What all peers have in common: how they are timed, and how they tell what they measured.

Runs in the peers' environment, where nothing of the project is installed.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from bench.floor import measured

GAP_SECONDS = 0.05
WARM_UP = 5
SLOTS = 2
FLOOR = 1_000


def say(kind: str, tasks: int, values: list[float]) -> None:
    """Tell figures, rates of `true` or the floor, or ms of trips, in the file BENCH_SAID names."""
    with Path(os.environ["BENCH_SAID"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": kind, "tasks": tasks, "values": values}) + "\n")


def rate(tasks: int, campaign: Callable[[int], None], *, kind: str = "true") -> None:
    """Time one campaign, from its first submit until its last result, and tell tasks a second.

    The bare machine is measured right before it, as its own rate changes within a run.
    """
    say("floor", tasks, [measured(FLOOR, SLOTS)])
    began = time.perf_counter()
    campaign(tasks)
    say(kind, tasks, [tasks / (time.perf_counter() - began)])


def round_trips(count: int, trip: Callable[[], None]) -> None:
    """Time one task after the other, with a gap between them, and tell milliseconds."""
    for _ in range(WARM_UP):
        trip()
    times = []
    for _ in range(count):
        time.sleep(GAP_SECONDS)
        began = time.perf_counter()
        trip()
        times.append((time.perf_counter() - began) * 1000)
    say("trips", count, times)


def sizes() -> list[int]:
    """Return how many tasks each campaign has, from the environment: BENCH_TASKS=1000,1000,5000."""
    return [int(size) for size in os.environ["BENCH_TASKS"].split(",")]


def trips() -> int:
    """Return how many round trips are wanted."""
    return int(os.environ["BENCH_TRIPS"])
