"""The table must not say that something is proven when it is not."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mitosis.testing.parity import PAGE, rows_of, stand, summary

ROOT = Path(__file__).parents[3]
TABLE = """
| id | what | syntax, values | how it is checked |
|---|---|---|---|
| S-001 | First promise | `a` | so |
| S-002 | Second promise | `b` | so |
| V-001 | Third promise | `c` | so |
"""


def test_the_page_has_all_rows_of_the_seed() -> None:
    rows = rows_of((ROOT / PAGE).read_text(encoding="utf-8"))
    assert [name for name in rows if name[0] == "S"] == [f"S-{n:03}" for n in range(1, 232)]
    assert [name for name in rows if name[0] == "V"] == [f"V-{n:03}" for n in range(1, 50)]
    assert all(rows.values())


def test_a_row_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="S-001"):
        rows_of(TABLE + "| S-001 | Again | `a` | so |\n")


def test_a_row_passes_only_by_all_of_its_tests() -> None:
    rows = stand(
        {"S-001": "a", "S-002": "b", "S-003": "c", "S-004": "d", "S-005": "e"},
        {
            "good": (["S-001", "S-002", "R-26"], "passed"),
            "bad": (["S-002"], "failed"),
            "skipped": (["S-003"], "skipped"),
            "unprepared": (["S-005"], "broken"),
        },
    )
    assert {row.id: row.state for row in rows} == {
        "S-001": "pass", "S-002": "fail", "S-003": "missing", "S-004": "missing", "S-005": "fail",
        "R-26": "pass",
    }  # fmt: skip
    assert summary(rows) == "1 of 5: 2 failed, 2 missing"
    assert summary(rows[:1]) == "1 of 1"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with three rows and tests for some."""
    pytester.makeini(
        "[pytest]\nmarkers = parity(*ids)\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.mkdir("docs").joinpath("parity.md").write_text(TABLE)
    pytester.makeconftest('pytest_plugins = ["mitosis.testing.parity"]')
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.parity("S-001")
        def test_good(): pass

        @pytest.mark.parity("S-002", "F-07")
        def test_bad(): assert False

        def test_of_no_row(): pass
        """
    )
    return pytester


def rows_after(project: pytest.Pytester, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = project.runpytest(*arguments, "--parity-report", "table.json")
    rows = json.loads(project.path.joinpath("table.json").read_bytes())
    return int(done.ret), {row["id"]: row["state"] for row in rows}, done.stdout.str()


def test_the_run_ends_with_the_table(project: pytest.Pytester) -> None:
    status, rows, out = rows_after(project, "--parity")
    assert rows == {"S-001": "pass", "S-002": "fail", "V-001": "missing", "F-07": "fail"}
    assert status == 1
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "S-001 pass First promise" in lines
    assert "S-002 fail Second promise test_it.py::test_bad" in lines
    assert "V-001 missing Third promise" in lines
    assert "F-07 fail 1 tests test_it.py::test_bad" in lines
    assert "1 of 3: 1 failed, 1 missing" in lines


def test_only_the_strict_run_fails_for_a_missing_row(project: pytest.Pytester) -> None:
    assert rows_after(project, "--parity", "--parity-rows", "S-001")[0] == 0
    assert rows_after(project, "--parity-strict", "--parity-rows", "S-001")[0] == 1


def test_one_can_ask_for_the_tests_of_some_rows(project: pytest.Pytester) -> None:
    done = project.runpytest("--parity-rows", "S-001")
    done.assert_outcomes(passed=1, deselected=2)
    assert not re.search(r"V-001", done.stdout.str())


def test_a_test_cannot_name_a_row_that_does_not_exist(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_typo='import pytest\n\n@pytest.mark.parity("S-999")\ndef test_it(): pass\n'
    )
    done = project.runpytest("--parity")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*test_typo.py::test_it names 'S-999'*"])


def test_a_skipped_or_expected_failure_proves_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_excuses="""
        import pytest

        @pytest.mark.parity("S-001")
        @pytest.mark.xfail
        def test_expected(): assert False

        @pytest.mark.parity("V-001")
        @pytest.mark.skip
        def test_skipped(): pass
        """
    )
    assert rows_after(project, "test_excuses.py")[1] == {
        "S-001": "missing", "S-002": "missing", "V-001": "missing"
    }  # fmt: skip
