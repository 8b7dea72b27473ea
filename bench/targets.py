"""What the platform has to reach, as ratios within one run where there is something beside it."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from bench.rows import Results

DISTRIBUTED = ("hyperqueue", "dask", "celery")
SIZES = (1_000, 10_000)


class Target(NamedTuple):
    """A bound: `at_least` or at most `wanted`; `measure` finds the value, None: not measured.

    `row`: bounds of one row of the table of targets count as one, by default each for itself; None:
    a figure beside the one that counts, as that of a relaxed sync is.
    """

    what: str
    wanted: float
    at_least: bool
    unit: str
    measure: Callable[[Results], float | None]
    row: str | None = ""


class Verdict(msgspec.Struct):
    """What was reached. `met` is None when something that it needs was not measured."""

    what: str
    wanted: str
    found: float | None
    unit: str
    met: bool | None
    row: str | None


def missed_rows(judged: Iterable[Verdict]) -> list[str]:
    """Return the rows of the table of targets that were missed."""
    return list(dict.fromkeys(v.row for v in judged if v.met is False and v.row is not None))


def verdicts(results: Results) -> list[Verdict]:
    """Judge a run."""
    return [_judge(target, results) for target in TARGETS]


def _judge(target: Target, results: Results) -> Verdict:
    found = target.measure(results)
    wanted = f"{'at least' if target.at_least else 'at most'} {target.wanted:g}"
    met = None
    if found is not None:
        met = found >= target.wanted if target.at_least else found <= target.wanted
    row = target.what if target.row == "" else target.row
    return Verdict(target.what, wanted, found, target.unit, met, row)


def _ratio(upper: float | None, lower: float | None) -> float | None:
    return None if upper is None or not lower else upper / lower


def _beside(size: int, *peers: str) -> Callable[[Results], float | None]:
    """Return what compares with the fastest of some peers, each as a part of the floor beside it.

    Between a peer and ours lie minutes, in which the machine itself becomes faster or slower.
    """

    def measure(results: Results) -> float | None:
        floors = results.medians("peers/floor/")
        rates = _rates(results, peers)
        parts = [rate / floors[key] for key, rate in rates.items() if key in floors]
        ours = _ratio(results.median(f"true/{size}"), results.median(f"true/{size}/floor"))
        return _ratio(ours, max(parts, default=None))

    return measure


def _as_it_was(size: int, *peers: str) -> Callable[[Results], float | None]:
    """Return what compares with the fastest of some peers, whatever the machine did between."""

    def measure(results: Results) -> float | None:
        fastest = max(_rates(results, peers).values(), default=None)
        return _ratio(results.median(f"true/{size}"), fastest)

    return measure


def _rates(results: Results, peers: tuple[str, ...]) -> dict[str, float]:
    rates = results.medians("peers/true/")
    return {key: rate for key, rate in rates.items() if key.startswith(peers)}


def _of(upper: str, lower: str) -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.median(upper), results.median(lower))


def _least(begin: str) -> Callable[[Results], float | None]:
    """Return the least of several ways to do the same: the bound holds for each."""
    return lambda results: min(results.medians(begin).values(), default=None)


def _of_largest(begin: str) -> Callable[[Results], float | None]:
    """Return the figure of the largest size: with 1,000 tasks the start is most of a rebuild."""

    def measure(results: Results) -> float | None:
        found = results.medians(begin)
        return found[max(found, key=int)] if found else None

    return measure


def _spread(begin: str) -> Callable[[Results], float | None]:
    """Return the most over the least of all sizes; None when there are not two."""

    def measure(results: Results) -> float | None:
        costs = results.medians(begin).values()
        return max(costs) / min(costs) if len(costs) > 1 and min(costs) else None

    return measure


def _value(key: str) -> Callable[[Results], float | None]:
    return lambda results: results.median(key)


TARGETS = (
    *(
        Target(
            f"{size:,} x true / fastest of HyperQueue, Dask, Celery, each beside its floor", 1.5,
            True, "", _beside(size, *DISTRIBUTED), "true beside the fastest peer",
        )
        for size in SIZES
    ),
    *(
        Target(f"{size:,} x true / fastest of HyperQueue, Dask, Celery", 1.5, True, "",
               _as_it_was(size, *DISTRIBUTED), None)
        for size in SIZES
    ),
    *(
        Target(
            f"{size:,} x true / posix_spawn with 2 in flight (aim 0.5)", 0.35, True, "",
            _of(f"true/{size}", f"true/{size}/floor"), "true beside posix_spawn",
        )
        for size in SIZES
    ),
    Target("1,000 x true / task-spooler, each beside its floor", 1, True, "",
           _beside(1_000, "task-spooler"), "true beside task-spooler"),
    Target("1,000 x true / task-spooler", 1, True, "", _as_it_was(1_000, "task-spooler"), None),
    Target("idle round trip p50 / Celery's", 0.8, False, "",
           _of("latency/p50", "peers/latency/celery/p50"), "idle round trip"),
    Target("idle round trip p99 / Celery's", 0.8, False, "",
           _of("latency/p99", "peers/latency/celery/p99"), "idle round trip"),
    Target("without spawning, synced", 1_500, True, "tasks/s", _least("simulated/synced/")),
    Target("without spawning, relaxed", 3_000, True, "tasks/s", _least("simulated/relaxed/"), None),
    Target("batch submit of 10,000", 10_000, True, "tasks/s", _value("submit/batch/10000/synced")),
    Target("coordinator memory, 100,000 queued", 300, False, "MB", _value("queued/memory")),
    Target("coordinator start, 1,000,000 past tasks", 5, False, "s",
           _value("history/1000000/start/snapshot")),
    Target("read models rebuilt", 25_000, True, "events/s", _of_largest("history/rebuild/")),
    # One sentence of what is wanted, hence one row: flat with any past and out of any queue.
    Target("cost of a task, with any history: most / least", 1.2, False, "",
           _spread("history/cost/"), "cost of a task with any history, out of any queue"),
    Target("cost of a task, out of any queue: most / least", 1.2, False, "",
           _spread("queues/cost/"), "cost of a task with any history, out of any queue"),
    Target("get tasks page, 1,000,000 rows, slowest filter", 20, False, "ms",
           _value("pages/1000000/slowest")),
    Target("upload of 1 GiB / the S3 server's rate", 0.8, True, "",
           _of("objects/upload", "objects/upload/raw"), "transfer of 1 GiB"),
    Target("download of 1 GiB / the S3 server's rate", 0.8, True, "",
           _of("objects/download", "objects/download/raw"), "transfer of 1 GiB"),
    Target("mito client get task, over python -c pass (aim 120)", 220, False, "ms",
           _value("client/get/more")),
)  # fmt: skip
