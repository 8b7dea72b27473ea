"""The simulator as a program: bytes, files, bad input, and what its source must not contain."""

import ast
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mitosis.examples import aimd, campaign

PROGRAM = campaign.PROGRAM
PINNED_RESULT = """\
{
  "duration_seconds": null,
  "goodput_bits_per_second": 1194337.254902,
  "goodput_packets_per_second": 102.254902,
  "loss": 0.02,
  "loss_epochs": 1633,
  "max_window": null,
  "mss_bytes": 1460,
  "packets_delivered": 98042,
  "packets_lost": 1962,
  "packets_sent": 100004,
  "rtt_ms": 80.0,
  "seed": 1,
  "simulated_seconds": 958.800000,
  "timeouts": 0
}
"""

CELL = ("--loss", "0.01", "--rtt-ms", "50", "--seed", "3")


def run(
    *arguments: str, cwd: Path, result_dir: Path | None = None, hash_seed: str = "0"
) -> subprocess.CompletedProcess[str]:
    """Run the program isolated from the package and the environment, as a worker would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MITO_", "PYTHON"))}
    environment["PYTHONHASHSEED"] = hash_seed
    if result_dir is not None:
        environment["MITO_RESULT_DIR"] = str(result_dir)
    return subprocess.run(
        [sys.executable, "-S", str(PROGRAM), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def result_of(folder: Path) -> campaign.Result:
    return campaign.decode_result((folder / "result.json").read_bytes())


def test_equal_parameters_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, hash_seed in ((first, "1"), (second, "4242")):
        run_ = run(*CELL, cwd=tmp_path, result_dir=folder, hash_seed=hash_seed)
        assert (run_.returncode, run_.stdout, run_.stderr) == (0, "", "")
    for name in (campaign.RESULT_FILE, campaign.SERIES_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert sorted(p.name for p in first.iterdir()) == ["cwnd.csv", "result.json"]


def test_another_seed_gives_another_result() -> None:
    totals = {aimd.simulate(aimd.Parameters(0.02, 50.0, seed))[0] for seed in range(5)}
    assert len(totals) == 5


def test_the_bytes_of_a_known_cell_never_change(tmp_path: Path) -> None:
    """Results of different machines and Python versions are compared, so the bytes are pinned."""
    assert run("--loss", "0.02", "--rtt-ms", "80", "--seed", "1", cwd=tmp_path).returncode == 0
    assert (tmp_path / "result.json").read_text() == PINNED_RESULT
    lines = (tmp_path / "cwnd.csv").read_text().splitlines()
    assert lines[:2] == ["seconds,cwnd_packets", "0.000000,10.000000"]


def test_the_option_out_wins_over_the_result_folder(tmp_path: Path) -> None:
    run_ = run(*CELL, "--out", "chosen/deep", cwd=tmp_path, result_dir=tmp_path / "other")
    assert run_.returncode == 0
    assert (tmp_path / "chosen" / "deep" / "result.json").is_file()
    assert not (tmp_path / "other").exists()


def test_the_result_is_sorted_json_whose_numbers_fit_together(tmp_path: Path) -> None:
    assert run(*CELL, cwd=tmp_path).returncode == 0
    keys = list(json.loads((tmp_path / "result.json").read_text()))
    assert keys == sorted(keys)
    result = result_of(tmp_path)
    assert result.cell == campaign.Cell(0.01, 50.0, 3)
    assert result.packets_sent == result.packets_delivered + result.packets_lost
    assert result.loss_epochs >= aimd.MEASURED_EPOCHS
    assert result.packets_sent >= aimd.MEASURED_PACKETS
    # Several losses in one window are one epoch, so there are at least as many losses.
    assert result.loss_epochs <= result.packets_lost
    assert result.packets_lost / result.packets_sent == pytest.approx(0.01, rel=0.2)
    rate = result.packets_delivered / result.simulated_seconds
    assert result.goodput_packets_per_second == pytest.approx(rate, rel=1e-6)
    assert result.goodput_bits_per_second == pytest.approx(rate * 1460 * 8, rel=1e-6)


@pytest.mark.parametrize(("loss", "seconds"), [("0.02", "1"), ("0.001", "100")])
def test_a_duration_bounds_the_simulated_time(tmp_path: Path, loss: str, seconds: str) -> None:
    options = ("--loss", loss, "--rtt-ms", "50", "--seed", "1", "--duration", seconds)
    assert run(*options, cwd=tmp_path).returncode == 0
    asked = float(seconds)
    # It ends with a round trip, or at worst with a timeout.
    assert asked <= result_of(tmp_path).simulated_seconds <= asked + 1.1


@pytest.mark.parametrize("loss", [0.0005, 0.02])
def test_the_time_series_has_bounded_rows_over_the_whole_run(loss: float) -> None:
    measured, series = aimd.simulate(aimd.Parameters(loss, 50.0, 1))
    times = [seconds for seconds, _ in series.rows]
    assert aimd.SERIES_ROWS // 2 <= len(times) <= aimd.SERIES_ROWS
    assert times == sorted(set(times))
    assert times[0] == 0.0
    assert times[-1] >= 0.99 * measured.seconds
    assert min(window for _, window in series.rows) >= 1.0


def test_the_window_grows_by_one_packet_per_round_trip_and_is_halved_by_a_loss() -> None:
    flow = aimd.Flow(aimd.Parameters(0.5, 50.0, 1), fates(lost=(3,)))
    flow.round_trip()
    # Slow start gave 3 packets before the loss of packet 3 was seen; then half of 13.
    assert flow.window == 6.5
    assert flow.totals().loss_epochs == 1
    recovered = []
    for _ in range(6):
        flow.round_trip()
        recovered.append(flow.window)
    assert recovered[0] == 6.5, "no growth while what was sent before the loss is in flight"
    steps = [after - before for before, after in itertools.pairwise(recovered)]
    assert all(0.8 < step <= 1.0 for step in steps[1:]), steps


def test_several_losses_in_one_window_halve_it_once() -> None:
    flow = aimd.Flow(aimd.Parameters(0.5, 50.0, 1), fates(lost=(2, 4, 7)))
    flow.round_trip()
    flow.round_trip()
    assert flow.totals().packets_lost == 3
    assert flow.totals().loss_epochs == 1


def test_a_window_lost_as_a_whole_costs_a_timeout_that_doubles() -> None:
    flow = aimd.Flow(aimd.Parameters(0.5, 50.0, 1), fates(lost=range(11)))
    flow.round_trip()
    assert (flow.window, flow.totals().seconds) == (1.0, 1.0)
    flow.round_trip()
    assert flow.totals().seconds == pytest.approx(1.0 + 2.0)
    flow.round_trip()
    assert flow.totals().timeouts == 2
    assert flow.totals().seconds == pytest.approx(3.05)
    assert flow.window == 2.0


def test_the_limit_of_the_window_is_never_exceeded() -> None:
    for limit in (1, 2, 7):
        flow = aimd.Flow(aimd.Parameters(0.02, 50.0, 1, max_window=limit), fates(lost=()))
        settled = 0
        for _ in range(50):
            flow.round_trip()
            now = flow.totals().packets_sent
            assert now - settled <= limit
            settled = now
        assert settled == 50 * limit


def fates(lost: range | tuple[int, ...]) -> "Fates":
    return Fates(frozenset(lost))


class Fates:
    """A source of draws that decides by the number of the packet."""

    def __init__(self, lost: frozenset[int]) -> None:
        self.lost = lost
        self.packet = -1

    def __call__(self) -> float:
        self.packet += 1
        return 0.0 if self.packet in self.lost else 0.99


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--loss", "1.5", "--rtt-ms", "50", "--seed", "3"), "--loss: '1.5'"),
        (("--loss", "0", "--rtt-ms", "50", "--seed", "3"), "--loss: '0'"),
        (("--loss", "nan", "--rtt-ms", "50", "--seed", "3"), "--loss: 'nan'"),
        (("--loss", "0.01", "--rtt-ms", "-50", "--seed", "3"), "--rtt-ms"),
        (("--loss", "0.01", "--rtt-ms", "inf", "--seed", "3"), "--rtt-ms: 'inf'"),
        (("--loss", "0.01", "--rtt-ms", "50", "--seed", "x"), "--seed: 'x'"),
        (("--loss", "0.01", "--rtt-ms", "50"), "--seed"),
        ((*CELL, "--duration", "0"), "--duration: '0'"),
        ((*CELL, "--max-window", "0"), "--max-window: '0'"),
        ((*CELL, "--bandwidth", "7"), "--bandwidth"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line_and_status_2(
    tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    run_ = run(*arguments, cwd=tmp_path)
    assert run_.returncode == 2
    assert run_.stdout == ""
    assert len(run_.stderr.splitlines()) == 1
    assert named in run_.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run_ = run(*CELL, "--out", "file/results", cwd=tmp_path)
    assert run_.returncode == 1
    assert len(run_.stderr.splitlines()) == 1
    assert "file/results" in run_.stderr


def test_the_simulator_does_not_contain_the_formula_that_judges_it() -> None:
    source = PROGRAM.read_text()
    for word in ("sqrt", "Mathis", "campaign", "1.22", "1.31"):
        assert word not in source
    for node in ast.walk(ast.parse(source)):
        assert not (isinstance(node, ast.Name | ast.Attribute) and name(node) in ROOTS)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            assert ast.unparse(node) == "2 ** 63"


ROOTS = {"pow", "exp", "log", "hypot", "isqrt", "dist"}


def name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def test_the_simulator_needs_only_the_standard_library() -> None:
    imported = {
        module.partition(".")[0]
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported
    assert imported <= sys.stdlib_module_names
