"""The machinery of `just parity --sabotage`, on a project of three lines."""

from pathlib import Path

import pytest

from mitosis.testing.parity import PAGE, Row
from mitosis.testing.sabotage import Patch, _problem, main, patches, problems_of

ROOT = Path(__file__).parents[3]
TABLE = "| S-001 | First promise | `a` | so |\n"
PATCH = Patch(
    name="turned", breaks="it is the other way round", rows=["S-001"],
    file="mitosis/rule.py", old="return True", new="return False",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in {
        PAGE.as_posix(): TABLE,
        "mitosis/rule.py": "def rule():\n    return True\n",
        "tests/test_rule.py": '@pytest.mark.parity("S-001")\ndef test_rule(): ...\n',
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_patch_that_applies_and_has_a_test_is_in_order(root: Path) -> None:
    assert problems_of(PATCH, root) == []
    assert PATCH.broken((root / PATCH.file).read_text()) == "def rule():\n    return False\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def rule():\n    return 1\n", "stands 0 times"),
        ("a = [return True, return True]\n", "stands 2 times"),
        ("def rule():\nreturn True\n", "expected an indented block"),
    ],
)
def test_one_that_no_longer_applies_is_a_failure(root: Path, text: str, problem: str) -> None:
    (root / PATCH.file).write_text(text)
    (found,) = problems_of(PATCH, root)
    assert found.startswith("does not apply: ")
    assert problem in found


def test_one_whose_row_nobody_tests_is_a_failure(root: Path) -> None:
    (root / "tests" / "test_rule.py").write_text("")
    assert problems_of(PATCH, root) == ["no test names S-001"]
    (root / PAGE).write_text("")
    assert problems_of(PATCH, root) == ["no row: S-001", "no test names S-001"]


def test_only_a_test_that_fails_itself_shows_that_the_row_is_guarded() -> None:
    assert _problem(Row("S-001", "x", "fail", {"a": "passed", "b": "failed"})) == ""
    assert "still green" in _problem(Row("S-001", "x", "pass", {"a": "passed"}))
    assert "before it" in _problem(Row("S-001", "x", "fail", {"a": "broken"}))
    assert "not run" in _problem(Row("S-001", "x", "missing", {"a": "skipped"}))
    assert "not run" in _problem(None)


def test_names_are_unique_and_each_patch_says_what_it_breaks() -> None:
    every = patches(ROOT)
    assert len({patch.name for patch in every}) == len(every)
    assert all(patch.breaks and patch.rows and patch.old != patch.new for patch in every)


@pytest.mark.parametrize("patch", patches(ROOT), ids=lambda patch: patch.name)
def test_each_patch_still_applies_and_breaks_what_is_tested(patch: Patch) -> None:
    """If not, the code was changed: write the patch in tests/sabotage/patches.toml anew."""
    assert problems_of(patch, ROOT) == []


def test_help_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "python -m mitosis.testing.sabotage NAME..." in capsys.readouterr().out
