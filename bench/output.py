"""A run as tables for people and as JSON for programs."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from bench.machine import Machine
from bench.rows import Results, Row, rounded
from bench.targets import Verdict, missed_rows


def tables(
    machine: Machine, results: Results, judged: Sequence[Verdict], *, aligned: bool = True
) -> str:
    """Return a run as tables, in the form of Markdown; `aligned`: for the eye."""
    parts = [machine.sentence(), _table(_COLUMNS, map(_cells, results.rows), aligned)]
    if judged:
        parts.append(_table(_TARGET_COLUMNS, map(_target_cells, judged), aligned))
        parts.append(_sum(judged))
    return "\n\n".join(parts)


def _sum(judged: Sequence[Verdict]) -> str:
    missed = missed_rows(judged)
    rows = {verdict.row for verdict in judged} - {None}
    return (
        f"{len(missed)} of {len(rows)} rows missed{': ' * bool(missed)}{', '.join(missed)}. Bounds "
        "of one kind are one row; a figure with a relaxed sync stands beside the one that counts."
    )


def as_json(
    machine: Machine, settings: dict[str, Any], results: Results, judged: Sequence[Verdict]
) -> bytes:
    """Return a run as one JSON value."""
    rows = [
        msgspec.to_builtins(row)
        | ({"min": min(row.values), "median": row.median, "max": max(row.values)}
           if row.values else {})
        for row in results.rows
    ]  # fmt: skip
    value = {"machine": machine, "settings": settings, "rows": rows, "targets": judged}
    return msgspec.json.format(msgspec.json.encode(value)) + b"\n"


_COLUMNS = ("what", "who", "median", "min", "max", "unit", "durability and notes")
_TARGET_COLUMNS = ("target", "wanted", "found", "")


def _cells(row: Row) -> tuple[str, ...]:
    if row.failed:
        return row.what, row.who, "failed", "", "", "", row.failed
    spread = (f"{min(row.values):g}", f"{max(row.values):g}") if len(row.values) > 1 else ("", "")
    return row.what, row.who, f"{rounded(row.median):g}", *spread, row.unit, row.note


def _target_cells(verdict: Verdict) -> tuple[str, ...]:
    word = {True: "met", False: "missed", None: "not measured"}[verdict.met]
    found = "" if verdict.found is None else f"{rounded(verdict.found):g} {verdict.unit}".strip()
    return verdict.what, f"{verdict.wanted} {verdict.unit}".strip(), found, word


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], aligned: bool) -> str:
    lines = [tuple(columns), *(tuple(cell.replace("|", "/") for cell in row) for row in rows)]
    widths = [
        max(len(line[place]) for line in lines) if aligned else 3 for place in range(len(columns))
    ]
    lines.insert(1, tuple("-" * width for width in widths))
    if not aligned:
        widths = [0] * len(columns)
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
