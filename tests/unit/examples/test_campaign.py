"""The campaign of the demo: what it runs, and that its check accepts and refuses rightly."""

import math
import sys
from collections.abc import Iterable
from functools import cache

import pytest

from mitosis.errors import InvalidInput
from mitosis.examples import aimd, campaign
from mitosis.examples.campaign import Cell, Result


@cache
def simulated(cell: Cell, max_window: int | None = None) -> Result:
    parameters = aimd.Parameters(cell.loss, cell.rtt_ms, cell.seed, max_window=max_window)
    measured, _ = aimd.simulate(parameters)
    return campaign.decode_result(aimd.result_text(parameters, measured).encode())


def with_ratio(cells: Iterable[Cell], ratio: float) -> list[Result]:
    """Results that are a given multiple of the prediction."""
    results = []
    for cell in cells:
        rate = ratio * campaign.predicted_packets_per_second(cell.loss, cell.rtt_ms / 1000)
        results.append(
            Result(
                loss=cell.loss,
                rtt_ms=cell.rtt_ms,
                seed=cell.seed,
                duration_seconds=None,
                max_window=None,
                mss_bytes=1460,
                simulated_seconds=1.0,
                packets_sent=1,
                packets_lost=0,
                packets_delivered=1,
                loss_epochs=1,
                timeouts=0,
                goodput_packets_per_second=rate,
                goodput_bits_per_second=rate * 1460 * 8,
            )
        )
    return results


def test_the_campaign_has_enough_tasks_over_the_required_losses() -> None:
    cells = campaign.cells()
    assert len(cells) >= 24
    assert len(set(cells)) == len(cells)
    assert {min(c.loss for c in cells), max(c.loss for c in cells)} == {0.0005, 0.02}
    for loss, rtt_ms in {(c.loss, c.rtt_ms) for c in cells}:
        assert len({c.seed for c in cells if (c.loss, c.rtt_ms) == (loss, rtt_ms)}) >= 5


def test_a_command_is_what_the_program_understands() -> None:
    for cell in campaign.cells():
        python, program, *options = cell.argv(sys.executable)
        assert python == sys.executable
        assert program == str(campaign.PROGRAM)
        parsed = aimd.parser().parse_args(options)
        assert Cell(parsed.loss, parsed.rtt_ms, parsed.seed) == cell


def test_the_prediction_is_the_published_formula() -> None:
    # 1 % of loss at 100 ms: 1.2247 / (0.1 * 0.1).
    assert campaign.predicted_packets_per_second(0.01, 0.1) == pytest.approx(122.474487)
    for loss, rtt_seconds in ((0.0, 0.1), (-0.1, 0.1), (math.nan, 0.1), (0.1, 0.0)):
        with pytest.raises(ValueError, match="no prediction"):
            campaign.predicted_packets_per_second(loss, rtt_seconds)


@pytest.mark.parametrize("loss", campaign.LOSSES)
def test_simulated_means_agree_with_the_formula_with_a_margin(loss: float) -> None:
    cells = [c for c in campaign.cells() if c.loss == loss]
    rows = campaign.check([simulated(c) for c in cells], cells)
    assert [row.rtt_ms for row in rows] == list(campaign.RTTS_MS)
    for row in rows:
        assert row.agrees
        assert row.ratio == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("loss", campaign.LOSSES)
def test_a_window_capped_far_below_the_formula_fails_the_check(loss: float) -> None:
    cells = [c for c in campaign.cells() if (c.loss, c.rtt_ms) == (loss, campaign.RTTS_MS[0])]
    formulas_window = campaign.predicted_packets_per_second(loss, 1.0)
    capped = [simulated(c, max(1, int(formulas_window / 3))) for c in cells]
    rows = campaign.check(capped, cells)
    assert [row.verdict for row in rows] == ["too slow"]


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (0.0, "too slow"),
        (0.84, "too slow"),
        (0.86, "agrees"),
        (1.14, "agrees"),
        (1.16, "too fast"),
        (math.inf, "too fast"),
        (math.nan, "too slow"),
    ],
)
def test_the_verdict_follows_the_ratio(ratio: float, verdict: str) -> None:
    rows = campaign.check(with_ratio(campaign.cells(), ratio))
    assert {row.verdict for row in rows} == {verdict}


def test_the_mean_is_taken_over_the_seeds_of_one_pair_only() -> None:
    cells = [Cell(0.01, 20.0, seed) for seed in range(5)]
    others = [Cell(0.01, 80.0, seed) for seed in range(5)]
    results = [
        r for c, q in zip(cells, (0.6, 0.8, 1.0, 1.2, 1.4), strict=True) for r in with_ratio([c], q)
    ]
    rows = campaign.check([*results, *with_ratio(others, 2.0)], [*cells, *others])
    assert [(row.rtt_ms, row.verdict) for row in rows] == [(20.0, "agrees"), (80.0, "too fast")]
    assert [row.ratio for row in rows] == [pytest.approx(1.0), pytest.approx(2.0)]


def test_missing_results_are_no_agreement() -> None:
    rows = campaign.check([])
    assert len(rows) == len(campaign.LOSSES) * len(campaign.RTTS_MS)
    assert {(row.verdict, row.measured, row.seeds) for row in rows} == {("too few seeds", None, 0)}
    results = with_ratio(campaign.cells(), 1.0)
    rows = campaign.check(results[1:])
    assert [row.agrees for row in rows] == [False] + [True] * (len(rows) - 1)
    assert rows[0].seeds == 4


def test_a_result_given_twice_or_from_elsewhere_is_refused() -> None:
    results = with_ratio(campaign.cells(), 1.0)
    with pytest.raises(ValueError, match="two results of Cell"):
        campaign.check([*results, results[0]])
    with pytest.raises(ValueError, match="not part of the campaign"):
        campaign.check(with_ratio([Cell(0.1, 20.0, 1)], 1.0))


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"loss": "much"}'])
def test_bytes_that_are_no_result_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"not a result of aimd\.py"):
        campaign.decode_result(content)
