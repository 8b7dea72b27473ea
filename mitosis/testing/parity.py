"""The table of what is promised: a pytest plugin that says which rows of docs/parity.md are proven.

A test names the rows that it proves, `@pytest.mark.parity("S-165")`. A row passes when every test
that names it has passed; it is missing when there is none, or when none of them came to an end.

    pytest --parity            the table after the run, whatever was run
    pytest --parity-strict     and exit status 1 when a row is missing or fails
    pytest --parity-rows S-165,V-036   only the tests of these rows
    pytest --parity-report FILE        the same as JSON, for programs

Ids with other letters (F-, R-, D-, W-: cases that their tests describe) are listed below it.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import pytest

PAGE = Path("docs/parity.md")
ROW = re.compile(r"^\| ([SV]-\d{3}) \| (.+?) \| ", re.MULTILINE)
OTHER = re.compile(r"[FRW]-\d{2}|D-\d{3}")

State = Literal["pass", "fail", "missing"]
Outcome = Literal["passed", "failed", "broken", "skipped"]


class Row(msgspec.Struct, frozen=True):
    """How one row stands.

    Attributes:
        id: Of the row.
        what: Its name; empty for a case that is described by its tests.
        state: What its tests say together.
        tests: The outcome of each test that names it. `broken`: not the test failed, but what was
            to be prepared for it.
    """

    id: str
    what: str
    state: State
    tests: dict[str, Outcome]


def rows_of(page: str) -> dict[str, str]:
    """Return the rows of the page, id to name.

    Raises:
        ValueError: An id stands there twice.
    """
    found = ROW.findall(page)
    rows = dict(found)
    if len(rows) != len(found):
        ids = [name for name, _ in found]
        raise ValueError(f"rows that stand twice: {sorted({i for i in ids if ids.count(i) > 1})}")
    return rows


def stand(rows: Mapping[str, str], tests: Mapping[str, tuple[Iterable[str], Outcome]]) -> list[Row]:
    """Say how every row stands, those of the page first.

    Args:
        rows: Of the page, id to name.
        tests: What was run: the ids that a test names, and its outcome.
    """
    by_id: dict[str, dict[str, Outcome]] = {name: {} for name in rows}
    for test, (ids, outcome) in tests.items():
        for name in ids:
            by_id.setdefault(name, {})[test] = outcome
    others = sorted(name for name in by_id if name not in rows)
    return [
        Row(name, rows.get(name, ""), _state(by_id[name].values()), by_id[name])
        for name in [*rows, *others]
    ]


def summary(rows: Iterable[Row]) -> str:
    """One line: how many rows of the page pass."""
    states = [row.state for row in rows if row.what]
    line = f"{states.count('pass')} of {len(states)}"
    more = [f"{states.count(s)} {word}" for s, word in (("fail", "failed"), ("missing", "missing"))
            if s in states]  # fmt: skip
    return ": ".join([line, ", ".join(more)]) if more else line


def _state(outcomes: Iterable[Outcome]) -> State:
    kinds = set(outcomes)
    if kinds & {"failed", "broken"}:
        return "fail"
    return "pass" if kinds == {"passed"} else "missing"


class ParityTable:
    """The plugin itself: notes who names which row, and how each test ended."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._rows = rows_of((config.rootpath / PAGE).read_text(encoding="utf-8"))
        self._ids: dict[str, list[str]] = {}
        self._outcomes: dict[str, Outcome] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which rows each test names, and leave out the tests of other rows."""
        for item in items:
            if ids := [i for mark in item.iter_markers("parity") for i in mark.args]:
                self._check(item, ids)
                self._ids[item.nodeid] = ids
        wanted = self._config.getoption("parity_rows")
        if wanted:
            asked = set(wanted.split(","))
            kept = [item for item in items if asked & set(self._ids.get(item.nodeid, ()))]
            self._config.hook.pytest_deselected(items=[i for i in items if i not in set(kept)])
            items[:] = kept

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test went; the worst of its three steps counts."""
        if report.nodeid not in self._ids:
            return
        if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
            self._outcomes[report.nodeid] = "passed"
        elif report.failed:
            self._outcomes[report.nodeid] = "failed" if report.when == "call" else "broken"
        elif report.skipped:
            self._outcomes[report.nodeid] = "skipped"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report, and let the run fail if the table must be complete."""
        rows = self.rows()
        if path := self._config.getoption("parity_report"):
            Path(path).write_bytes(msgspec.json.encode(rows))
        incomplete = any(row.state != "pass" for row in rows)
        if self._config.getoption("parity_strict") and incomplete and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if not (self._config.getoption("parity") or self._config.getoption("parity_strict")):
            return
        rows = self.rows()
        terminalreporter.section("parity")
        for row in rows:
            tests = [test for test, outcome in row.tests.items() if outcome != "passed"]
            words = [row.id, f"{row.state:7}", row.what or f"{len(row.tests)} tests", *tests]
            terminalreporter.line("  ".join(words), red=row.state == "fail",
                                  yellow=row.state == "missing")  # fmt: skip
        terminalreporter.line(summary(rows), bold=True)

    def rows(self) -> list[Row]:
        """How every row stands now."""
        return stand(
            self._rows, {test: (self._ids[test], done) for test, done in self._outcomes.items()}
        )

    def _check(self, item: pytest.Item, ids: list[str]) -> None:
        for name in ids:
            if name not in self._rows and not OTHER.fullmatch(name):
                raise pytest.UsageError(f"{item.nodeid} names {name!r}: no row of {PAGE}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that the head of this file describes."""
    group = parser.getgroup("parity")
    group.addoption("--parity", action="store_true", help="print the table of docs/parity.md")
    group.addoption(
        "--parity-strict", action="store_true",
        help="print it, and fail when a row is missing or fails",
    )  # fmt: skip
    group.addoption(
        "--parity-rows", metavar="IDS", help="run only the tests of these rows: S-165,V-036"
    )
    group.addoption("--parity-report", metavar="FILE", help="write the table as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Start to take notes."""
    config.pluginmanager.register(ParityTable(config), "parity-table")
