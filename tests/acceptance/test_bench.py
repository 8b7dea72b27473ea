"""The benchmark runs, on a small size; what it measures is not judged here."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.timeout(330)
def test_the_benchmark_runs_and_tells_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "--quick", "true", "latency", "simulated", "submit",
            "--tasks", "50", "--rounds", "1", "--trips", "5", "--json", file,
        ],
        cwd=PROJECT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    figures = msgspec.json.decode(file.read_bytes())
    medians = {row["key"]: row["median"] for row in figures["rows"]}
    for key in (
        "true/50", "true/50/floor", "true/50/cpu/coordinator", "latency/p99", "dispatch/p50",
        "simulated/synced/1", "submit/single/synced", "submit/batch/50/synced",
    ):  # fmt: skip
        assert medians[key] > 0
    assert f"| {medians['true/50']:g} " in done.stdout
    assert figures["machine"]["cores"] >= 1
    assert all(target["met"] is None for target in figures["targets"] if target["found"] is None)
