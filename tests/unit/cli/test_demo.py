"""What `mito demo` says of its results, by its table and its status; no platform is needed."""

from collections.abc import Callable
from typing import Any

import pytest

from mitosis.demo.sweep import Report
from mitosis.examples.aimd import Parameters, result_text, simulate
from mitosis.examples.campaign import Cell, check, decode_result

Here = Callable[..., Any]


def judged(max_window: int | None) -> Report:
    """The real judgement of real simulations, perhaps of a sender that is held back."""
    sweep = [Cell(0.02, 50.0, seed) for seed in range(5)]
    runs = [Parameters(c.loss, c.rtt_ms, c.seed, max_window=max_window) for c in sweep]
    results = [decode_result(result_text(run, simulate(run)[0]).encode()) for run in runs]
    rows = check(results, sweep)
    return Report(rows, 5, 1.0, [row.verdict for row in rows if not row.agrees])


@pytest.mark.parametrize(("max_window", "status"), [(None, 0), (2, 1)])
def test_the_demo_fails_when_a_result_is_not_right(
    here: Here, monkeypatch: pytest.MonkeyPatch, max_window: int | None, status: int
) -> None:
    report = judged(max_window)
    monkeypatch.setattr("mitosis.bootstrap.run_demo", lambda *_: report)
    done = here("demo")
    assert done.returncode == status
    assert ("wrong: too slow" in done.stdout) == bool(status)
    assert ("Every result is right" in done.stdout) == (not status)
