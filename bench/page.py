"""Put figures into the page about performance: `python -m bench.page FILE ... [--page PAGE]`.

The files are what `just bench --json FILE` wrote; rows of later ones replace those of earlier ones.
"""

import argparse
from pathlib import Path

import msgspec

from bench.machine import Machine
from bench.output import tables
from bench.rows import Results, Row
from bench.targets import verdicts

BEGIN, END = "<!-- results: python -m bench.page -->", "<!-- end of results -->"


class Run(msgspec.Struct):
    """What is read of a file."""

    machine: Machine
    rows: list[Row]


def merged(runs: list[Run]) -> Results:
    """Return the rows of several runs, each key once, in the place where it came first."""
    rows = {row.key: row for run in runs for row in run.rows}
    results = Results()
    results.rows = list(rows.values())
    return results


def with_results(page: str, runs: list[Run]) -> str:
    """Return a page with these results in the place of those between the marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no marks {BEGIN} and {END}")
    results = merged(runs)
    said = tables(runs[0].machine, results, verdicts(results), aligned=False)
    return f"{head}{BEGIN}\n\n{said}\n\n{END}{tail}"


def main() -> None:
    """Read the files, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    given = parser.parse_args()
    runs = [msgspec.json.decode(file.read_bytes(), type=Run) for file in given.files]
    given.page.write_text(with_results(given.page.read_text(), runs))


if __name__ == "__main__":
    main()
