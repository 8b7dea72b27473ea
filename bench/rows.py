"""What was measured: rows of a run, and what is read off them."""

import statistics
from collections.abc import Sequence

import msgspec

OURS = "mitosis"
DURABLE = "synced to disk before it is acknowledged"
RELAXED = "synced every 2 min: a power cut may lose them"


class Row(msgspec.Struct, kw_only=True):
    """One figure, measured once or several times.

    Attributes:
        key: `SECTION/...`; names it for the targets.
        what: What was done.
        who: Who did it.
        unit: Of the values.
        values: One for each time; none when it failed.
        note: How durable it is, settings, and what to beware of.
        failed: Why there are no values.
    """

    key: str
    what: str
    unit: str
    values: list[float] = []
    who: str = OURS
    note: str = ""
    failed: str = ""

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)


class Results:
    """The rows of a run, in the order in which they were measured."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(
        self,
        key: str,
        what: str,
        unit: str,
        values: float | Sequence[float],
        *,
        who: str = OURS,
        note: str = "",
    ) -> Row:
        """Add a figure, and show it."""
        several = [values] if isinstance(values, float | int) else values
        row = Row(
            key=key, what=what, unit=unit, values=[rounded(one) for one in several], who=who,
            note=note,
        )  # fmt: skip
        self._show(row)
        return row

    def fail(self, key: str, what: str, why: str, *, who: str = OURS) -> None:
        """Say that something could not be measured."""
        self._show(Row(key=key, what=what, unit="", who=who, failed=why))

    def find(self, key: str) -> Row | None:
        """Return the row with this key, if it was measured."""
        return next((row for row in self.rows if row.key == key and row.values), None)

    def median(self, key: str) -> float | None:
        """Return the median of a row, if it was measured."""
        row = self.find(key)
        return None if row is None else row.median

    def medians(self, begin: str) -> dict[str, float]:
        """Return the medians of all rows whose keys begin so, by the rest of the key."""
        return {
            row.key.removeprefix(begin): row.median
            for row in self.rows
            if row.key.startswith(begin) and row.values
        }

    def _show(self, row: Row) -> None:
        self.rows.append(row)
        said = f"FAILED: {row.failed}" if row.failed else f"{row.median:g} {row.unit}"
        print(f"  {row.what}, {row.who}: {said}", flush=True)


def rounded(value: float) -> float:
    """Return a value with four digits that count: more of them are noise."""
    return float(f"{value:.4g}")
