"""What is read off the rows of a benchmark."""

import os
import re
from pathlib import Path

import msgspec
import pytest

import mitosis.services.worker
from bench.__main__ import _parser, _wanted
from bench.instant import InstantEngine
from bench.machine import this_machine
from bench.output import as_json, tables
from bench.page import BEGIN, END, Run, with_results
from bench.peers.run import PEERS, _missing
from bench.processes import cpu_ms_per_task, cpu_of, memory_of
from bench.rows import Results
from bench.sections import SECTIONS
from bench.targets import Verdict, missed_rows, verdicts
from bench.work import percentile


def measured() -> Results:
    results = Results()
    results.add("true/1000", "1,000 x true", "tasks/s", [800, 900, 1_000])
    results.add("true/1000/floor", "1,000 x true", "tasks/s", [2_000], who="posix_spawn")
    results.add("peers/true/celery/5000", "5,000 x true", "tasks/s", [500.0], who="Celery")
    results.add("peers/true/celery-always/5000", "5,000 x true", "tasks/s", [100.0], who="Celery")
    results.add("peers/true/task-spooler/1000", "1,000 x true", "tasks/s", [950.0], who="tsp")
    results.fail("peers/true/dask", "true", "it is not installed", who="Dask")
    return results


def test_a_target_is_the_ratio_of_medians_within_the_run() -> None:
    judged = {one.what: one for one in verdicts(measured())}
    floor = judged["1,000 x true / posix_spawn with 2 in flight (aim 0.5)"]
    assert (floor.found, floor.met) == (0.45, True)
    spooler = judged["1,000 x true / task-spooler"]
    assert (round(spooler.found or 0, 2), spooler.met) == (0.95, False)


def test_the_fastest_distributed_peer_is_what_counts() -> None:
    judged = {one.what: one for one in verdicts(measured())}
    peers = judged["1,000 x true / fastest of HyperQueue, Dask, Celery"]
    assert (peers.found, peers.met) == (1.8, True)


def test_a_peer_is_compared_by_what_the_machine_could_do_beside_it() -> None:
    """The machine was twice as slow when Celery ran: the same rate is worth twice as much."""
    results, beside = measured(), "1,000 x true / fastest of HyperQueue, Dask, Celery, each beside"
    results.add("peers/floor/celery/5000", "5,000 x true", "tasks/s", [1_000.0], who="posix_spawn")
    (peers,) = [one for one in verdicts(results) if one.what.startswith(beside)]
    assert (peers.found, peers.met) == (0.9, False)
    assert missed_rows([peers]) == ["true beside the fastest peer"]


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    judged = {one.what: one for one in verdicts(measured())}
    assert judged["batch submit of 10,000"].met is None


def test_the_cost_of_a_task_is_flat_when_the_most_is_near_the_least_of_all_sizes() -> None:
    flat = "cost of a task, out of any queue: most / least"

    def judged(*costs: float) -> Verdict:
        results = measured()
        for size, cost in zip(("10000", "100", "1000"), costs, strict=False):
            results.add(f"queues/cost/{size}", f"out of a queue of {size}", "ms", cost)
        return {one.what: one for one in verdicts(results)}[flat]

    assert judged(1.0).met is None
    assert judged(1.1, 1.0, 1.2).met is True
    for missed in (judged(1.0, 1.5, 1.0), judged(1.5, 1.0, 1.0)):
        assert (missed.found, missed.met) == (1.5, False)


def test_two_sizes_of_one_target_are_one_row_and_a_relaxed_sync_is_none() -> None:
    results = Results()
    for size in ("1000", "10000"):
        results.add(f"true/{size}", "true", "tasks/s", [100.0])
        results.add(f"true/{size}/floor", "true", "tasks/s", [1_000.0])
    results.add("simulated/relaxed/1", "without spawning", "tasks/s", [10.0])
    judged = verdicts(results)
    assert len([one for one in judged if one.met is False]) == 3
    assert missed_rows(judged) == ["true beside posix_spawn"]
    assert "1 of 13 rows missed: true beside posix_spawn." in tables(
        this_machine(), results, judged
    )


def test_the_table_shows_medians_and_failures_and_the_json_all_values() -> None:
    results = measured()
    judged, machine = verdicts(results), this_machine()
    shown = tables(machine, results, judged)
    assert "| 900    | 800 | 1000 | tasks/s" in shown
    assert "it is not installed" in shown
    assert "met" in shown
    written = as_json(machine, {"quick": True}, results, judged)
    assert b'"values": [' in written
    assert b'"failed": "it is not installed"' in written


def test_figures_are_put_into_the_page_between_its_marks_and_later_ones_count() -> None:
    machine, again = this_machine(), Results()
    again.add("true/1000", "1,000 x true", "tasks/s", [1_200.0])
    files = [as_json(machine, {}, results, []) for results in (measured(), again)]
    runs = [msgspec.json.decode(file, type=Run) for file in files]
    page = with_results(f"before\n{BEGIN}\nold\n{END}\nafter\n", runs)
    assert page.startswith(f"before\n{BEGIN}\n")
    assert page.endswith(f"{END}\nafter\n")
    assert "| 1,000 x true | mitosis | 1200 |" in page
    assert "old" not in page
    assert with_results(page, runs) == page


def test_a_simulated_worker_finds_all_that_a_worker_asks_of_its_engine(tmp_path: Path) -> None:
    worker = Path(mitosis.services.worker.__file__).parent
    text = "".join((worker / f"{part}.py").read_text() for part in ("effects", "service"))
    used = set(re.findall(r"\bself\._engine\.(\w+)|\bengine\.(\w+)", text))
    names = {name for pair in used for name in pair if name} - {"start", "begin_anew"}
    assert "start_task" in names
    engine = InstantEngine(2, tmp_path)
    assert [name for name in sorted(names) if not hasattr(engine, name)] == []


def test_the_required_peers_are_the_three_distributed_ones() -> None:
    assert {peer.key.partition("-")[0] for peer in PEERS if peer.required} == {
        "hyperqueue", "dask", "celery",
    }  # fmt: skip
    for peer in PEERS:
        assert peer.durability
        if peer.required:
            assert "--peers" in _missing(peer, None) or "not installed" in _missing(peer, None)


@pytest.mark.parametrize(
    ("given", "there", "absent"),
    [
        (["--quick"], "true engine simulated", "peers history"),
        (["--quick", "--peers", "x"], "true peers", "history"),
        (["--quick", "history"], "history", "true"),
        ([], "true history", "peers"),
        (["--peers", "x"], "true peers history", ""),
        (["--full"], "true peers history", ""),
        (["true", "latency"], "true latency", "engine peers"),
    ],
)
def test_sections_are_chosen_by_name_and_by_form(given: list[str], there: str, absent: str) -> None:
    chosen = {section.name for section in _wanted(_parser().parse_args(given))}
    assert chosen >= set(there.split())
    assert not chosen & set(absent.split())


def test_every_section_of_the_issue_is_there() -> None:
    assert {section.name for section in SECTIONS} >= {
        "true", "terminal", "results", "sleeps", "latency", "queued", "submit", "simulated",
        "peers", "objects", "client", "history", "queues",
    }  # fmt: skip


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (51.0, 100.0)


def test_cpu_is_told_for_a_task_and_a_process_that_came_meanwhile_counts() -> None:
    used = cpu_ms_per_task({"nats": 1.0}, {"nats": 1.5, "worker": 0.25}, 1_000)
    assert used == {"nats": 0.5, "worker": 0.25}


@pytest.mark.parametrize("field", ["VmRSS", "VmHWM"])
def test_memory_and_cpu_of_this_process_are_seen(field: str) -> None:
    assert memory_of(os.getpid(), field) > 5
    assert cpu_of(os.getpid()) > 0
