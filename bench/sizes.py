"""How much of each workload is run: quick (for every change), usual, full (with a long history)."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.rows import Results


class Times(NamedTuple):
    """So many tasks at once, so many times."""

    tasks: int
    rounds: int


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """Of one form of the run; the tuples of `Times` are measured one after the other.

    Attributes:
        true, terminal: Tasks of one campaign.
        results: Tasks with a result of 1 MiB.
        sleeps: Tasks that sleep for 10 ms.
        trips: Round trips.
        singles: Submits one after the other.
        batch: Submits in one call.
        queued: Tasks that wait for a worker.
        simulated: Tasks of one campaign for each number of `workers` without spawning.
        engine: Tasks of the engine alone.
        peers: Tasks of each of the three distributed peers.
        locals: Tasks of the others.
        peer_trips: Round trips of each peer.
        commands: Starts of the command line.
        object_mb: Size of the file that is sent and fetched, and how often.
        history: Past tasks.
        queues: Lengths of the queue at which a task is measured.
        queue_tasks: Tasks measured at each.
        history_tasks: Tasks measured behind each past.
        rest_seconds: Before that, so long at a time, until the services do nothing else.
    """

    true: tuple[Times, ...]
    terminal: tuple[Times, ...]
    results: Times
    sleeps: Times
    trips: int
    singles: Times
    batch: Times
    queued: int
    simulated: Times
    workers: tuple[int, ...]
    engine: int
    peers: tuple[Times, ...]
    locals: Times
    peer_trips: int
    commands: int
    object_mb: Times
    history: tuple[int, ...]
    queues: tuple[int, ...]
    queue_tasks: int
    history_tasks: int
    rest_seconds: float


QUICK = Sizes(
    true=(Times(1_000, 3),),
    terminal=(Times(50, 1),),
    results=Times(10, 1),
    sleeps=Times(100, 1),
    trips=100,
    singles=Times(100, 1),
    batch=Times(1_000, 1),
    queued=2_000,
    simulated=Times(1_000, 1),
    workers=(1, 8),
    engine=1_000,
    peers=(Times(200, 1),),
    locals=Times(100, 1),
    peer_trips=20,
    commands=3,
    object_mb=Times(64, 1),
    history=(1_000, 10_000),
    queues=(100, 1_000),
    queue_tasks=300,
    history_tasks=300,
    rest_seconds=0.0,
)
USUAL = Sizes(
    true=(Times(1_000, 9), Times(10_000, 5)),
    terminal=(Times(1_000, 2),),
    results=Times(200, 1),
    sleeps=Times(500, 3),
    trips=200,
    singles=Times(500, 3),
    batch=Times(10_000, 3),
    queued=100_000,
    simulated=Times(3_000, 2),
    workers=(1, 2, 8, 64),
    engine=1_000,
    peers=(Times(1_000, 5), Times(5_000, 2)),
    locals=Times(1_000, 2),
    peer_trips=200,
    commands=11,
    object_mb=Times(1_024, 2),
    history=(1_000, 100_000),
    queues=(100, 10_000, 100_000),
    queue_tasks=2_000,
    history_tasks=7_000,
    rest_seconds=30.0,
)
FULL = msgspec.structs.replace(
    USUAL,
    terminal=(Times(1_000, 2), Times(10_000, 1)),
    history=(1_000, 10_000, 100_000, 1_000_000),
    queues=(100, 1_000, 10_000, 100_000),
)


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        sizes: How much.
        results: Where figures go.
        peers: The virtual environment of the peers; None: none are measured.
    """

    sizes: Sizes
    results: Results
    peers: Path | None = None
