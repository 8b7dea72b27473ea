"""History as lines for people."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from mitosis.cli.output.screen import printable
from mitosis.client.changes import AttributeChange, HistoryEntry, ToldEvent, cause_of, told
from mitosis.contract.queries import CommitView

MOST_CHARACTERS = 300  # of a value; `--json` has all of it


def entry_lines(entry: HistoryEntry) -> list[str]:
    """Return a line on who, when and from where, and below it what happened, why and what for."""
    command = f"  command {entry.command}" if entry.command else ""
    lines = [f"{_head(entry)}{printable(command)}"]
    for event in entry.events:
        lines.append(f"  {_what(event.told, event.cause)}")
        lines += [f"    {_difference(change)}" for change in _in_order(event)]
    return lines


def commit_lines(commit: CommitView) -> list[str]:
    """Return one line: who, when, from where, to what, and what happened."""
    thing = " ".join(filter(None, [commit.kind, commit.group, commit.name]))
    said = "; ".join(_what(told(event), cause_of(event)) for event in commit.events)
    return [f"{_head(commit)}  {printable(thing)}: {said}".replace("\n", "\\n")]


def _head(one: HistoryEntry | CommitView) -> str:
    source = f" from {one.source}" if one.source else ""
    return printable(f"{one.position}  {_precise(one.time)}  {one.actor}{source}")


def _precise(at: datetime) -> str:
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _what(said: str, cause: str) -> str:
    because = f" ({cause})" if cause else ""
    return printable(f"{said}{because}").replace("\n", "\\n")


def _in_order(event: ToldEvent) -> list[AttributeChange]:
    return sorted(event.changes, key=lambda change: change.hidden)


def _difference(change: AttributeChange) -> str:
    if change.hidden:
        return printable(f"{change.attribute}: hidden")
    return printable(f"{change.attribute}: {_value(change.old)} -> {_value(change.new)}")


def _value(value: Any) -> str:
    """Return a value on one line, as JSON where it is no plain word."""
    if value is None:
        return "none"
    plain = isinstance(value, str) and value.isprintable() and value and " " not in value
    text = value if plain else msgspec.json.encode(value).decode()
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
