"""What `/metrics` says, in the form of Prometheus: counted elsewhere, and read here."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mitosis._version import __version__
from mitosis.domain.worker import WorkerPhase
from mitosis.services.coordinator.core import Core
from mitosis.services.coordinator.readiness import Lag
from mitosis.services.coordinator.tally import BOUNDS_SECONDS, Latency, Tally

MAX_GROUPS = 200
OTHERS = "(others)"
WORKER_STATES = ("idle", "busy", "paused", "draining", "unreachable")


class Family(NamedTuple):
    """One metric: `labels` by which it is split, `text` for the reader."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


FAMILIES = {
    one.name: one
    for one in (
        Family("mitosis_build_info", "gauge", ("version",), "1; the version is the label"),
        Family("mitosis_active", "gauge", (), "1 while this coordinator holds the term"),
        Family("mitosis_term", "gauge", (), "number of the term"),
        Family("mitosis_position", "gauge", (), "position of the newest commit"),
        Family(
            "mitosis_commands_total", "counter", ("verb", "result"),
            "commands of users and reports of workers that were answered; the result is `ok`, "
            "`repeated` (the first answer was given again) or the code of the error; the verb is "
            "`any` for commands that were turned away unread (`unavailable.overloaded`)",
        ),
        Family(
            "mitosis_command_seconds", "histogram", ("verb",),
            "from the arrival of a command to its answer, which is sent when it is on disk",
        ),
        Family(
            "mitosis_tasks_ready", "gauge", ("group",),
            f"tasks that wait for a worker; beyond {MAX_GROUPS} groups the rest is `{OTHERS}`",
        ),
        Family("mitosis_tasks_running", "gauge", (), "tasks that a worker holds"),
        Family(
            "mitosis_tasks_waiting_for_retry", "gauge", (),
            "failed tasks that wait for their next attempt",
        ),
        Family(
            "mitosis_workers", "gauge", ("state",), f"workers: {', '.join(WORKER_STATES)}"
        ),
        Family(
            "mitosis_projection_lag_commits", "gauge", (),
            "commits that the read models do not have yet",
        ),
        Family(
            "mitosis_projection_lag_seconds", "gauge", (),
            "age of the oldest commit that the read models do not have yet, to a second",
        ),
        Family(
            "mitosis_nats_reconnects_total", "counter", ("connection",),
            "returns of a connection to NATS: `commands`, `workers`, `system`, `store`",
        ),
    )
}  # fmt: skip


class Source(NamedTuple):
    """Where the numbers are.

    Attributes:
        core: Of the term; None while there is none.
        tally: Answers.
        lag: Of the read models.
        reconnects: Number of returns by connection.
    """

    core: Callable[[], Core | None]
    tally: Tally
    lag: Lag
    reconnects: Callable[[], dict[str, int]]


def registry(source: Source) -> CollectorRegistry:
    """Return what makes the page, with memory, CPU and open files of the process."""
    made = CollectorRegistry()
    made.register(_Numbers(source))
    ProcessCollector(registry=made)
    return made


class _Numbers(Collector):
    """Reads all numbers when somebody asks."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        """Return nothing: whoever registers this must not make it read."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield one family after the other."""
        source, core = self._source, self._source.core()
        yield _gauge("mitosis_build_info", {(__version__,): 1})
        yield _gauge("mitosis_active", {(): int(core is not None)})
        yield _counter("mitosis_commands_total", source.tally.results)
        yield _histogram(source.tally.latencies)
        yield _counter(
            "mitosis_nats_reconnects_total", {(k,): n for k, n in source.reconnects().items()}
        )
        if core is not None:
            yield from _of_term(core, source.lag)


def _of_term(core: Core, lag: Lag) -> Iterator[Metric]:
    world, position = core.world, core.journal.position
    yield _gauge("mitosis_term", {(): world.platform.term})
    yield _gauge("mitosis_position", {(): position})
    yield _gauge("mitosis_tasks_ready", _by_group(core))
    running = sum(len(tasks) for tasks in world.attempts.values())
    yield _gauge("mitosis_tasks_running", {(): running})
    yield _gauge("mitosis_tasks_waiting_for_retry", {(): core.retries.waiting()})
    states = Counter(_state(core, name) for name in world.workers)
    yield _gauge("mitosis_workers", {(state,): states[state] for state in WORKER_STATES})
    yield _gauge("mitosis_projection_lag_commits", {(): max(0, position - lag.applied)})
    yield _gauge("mitosis_projection_lag_seconds", {(): lag.seconds(time.monotonic())})


def _by_group(core: Core) -> dict[tuple[str, ...], float]:
    largest = core.dispatcher.waiting_by_group().most_common()
    found: dict[tuple[str, ...], float] = {(group,): n for group, n in largest[:MAX_GROUPS]}
    if len(largest) > MAX_GROUPS:
        found[OTHERS,] = sum(n for _, n in largest[MAX_GROUPS:])
    return found


def _state(core: Core, name: str) -> str:
    worker = core.world.workers[name]
    if name in core.dispatcher.unreachable:
        return "unreachable"
    if worker.phase is not WorkerPhase.NORMAL:
        return worker.phase.value
    return "busy" if core.world.attempts.get(name) else "idle"


def _gauge(name: str, values: dict[tuple[str, ...], float]) -> Metric:
    family = FAMILIES[name]
    metric = GaugeMetricFamily(name, family.text, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, float(value))
    return metric


def _counter(name: str, values: Mapping[Any, int]) -> Metric:
    family = FAMILIES[name]
    metric = CounterMetricFamily(name, family.text, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, float(value))
    return metric


def _histogram(latencies: dict[str, Latency]) -> Metric:
    family = FAMILIES["mitosis_command_seconds"]
    metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    bounds = [*(f"{bound:g}" for bound in BOUNDS_SECONDS), "+Inf"]
    for verb, latency in latencies.items():
        counts = zip(bounds, accumulate(latency.buckets), strict=True)
        metric.add_metric((verb,), [(b, float(n)) for b, n in counts], latency.total_seconds)
    return metric
