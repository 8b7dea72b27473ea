"""One frame of `top`: what fits on the screen, as rich renders it."""

from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from mitosis.cli.output.screen import printable
from mitosis.cli.output.tables import COLOURS, GAP, SHORT_ID, fit
from mitosis.cli.output.texts import age, command_line, moment
from mitosis.client.overview import BusyWorker, Overview, RunningTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GROUPS = ("GROUP", "PENDING", "READY", "RUNNING", "FINISHED", "CANCELLED")
WORKERS = ("WORKER", "STATE", "SLOTS", "HOST", "RUNS")
FAILURES = ("FAILED", "WHEN", "OUTCOME", "REASON", "LAST LINE")
LATE_SECONDS = 10.0  # an older frame says that it is old
LEAST_ROWS = 3  # of a table, also on a low screen


class Frame:
    """A frame; cut to the height of the screen unless it is a piece of text.

    Args:
        overview: What is shown; None: nothing is known yet.
        now: By which ages are told.
        whole: Show every row.
        keys: What can be pressed, at the end of the first line.
    """

    def __init__(
        self, overview: Overview | None, now: datetime, *, whole: bool = False, keys: str = ""
    ) -> None:
        self._overview, self._now, self._whole, self._keys = overview, now, whole, keys

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        if self._overview is None:
            yield Text("Asking the platform ...")
            return
        height = None if self._whole else options.height
        yield Group(*self._parts(self._overview, options.max_width, height or 0))

    def _parts(self, overview: Overview, width: int, height: int) -> "Iterable[Text | Table]":
        groups, workers = _groups(overview), self._workers(overview)
        failures = self._failures(overview)
        if height:
            # Titles, heads and blank lines take 9; then each gets its share, workers what is left.
            room = max(height - 9, 3 * LEAST_ROWS)
            groups = _cut(groups, max(LEAST_ROWS, room // 3))
            failures = _cut(failures, max(LEAST_ROWS, room // 3))
            workers = _cut(workers, max(LEAST_ROWS, room - len(groups) - len(failures)))
        yield self._title(overview)
        yield Text()
        yield _table(GROUPS, groups, width, cuttable=("GROUP",))
        yield Text()
        yield _table(WORKERS, workers, width, cuttable=("HOST", "RUNS"))
        yield Text()
        yield _table(FAILURES, failures, width, cuttable=("FAILED", "REASON", "LAST LINE"))

    def _title(self, overview: Overview) -> Text:
        rates = overview.last_minute
        title = Text(no_wrap=True, overflow="ellipsis")
        title.append("mito top", style="bold")
        title.append(f"  {overview.user}  {moment(overview.time)}")
        late = (self._now - overview.time).total_seconds()
        if late > LATE_SECONDS and not self._whole:
            title.append(f"  no answer for {late:.0f} s", style="bold red")
        title.append(
            f"  last minute: {rates.submitted} submitted, {rates.started} started, "
            f"{rates.ended} ended"
        )
        if rates.failed:
            title.append(f", {rates.failed} failed", style="red")
        title.append(f"  {self._keys}", style="dim")
        return title

    def _workers(self, overview: Overview) -> list[tuple[str, ...]]:
        def busiest(worker: BusyWorker) -> tuple[int, str]:
            return -worker.busy, worker.worker

        return [
            (
                one.worker[:SHORT_ID], one.state, f"{one.busy}/{one.slots}", one.host,
                "; ".join(self._running(task) for task in one.tasks),
            )
            for one in sorted(overview.workers, key=busiest)
        ]  # fmt: skip

    def _running(self, task: RunningTask) -> str:
        since = f" ({age(task.since, self._now).removesuffix(' ago')})" if task.since else ""
        return f"{task.group}#{task.number}{since} {command_line(task.argv)}"

    def _failures(self, overview: Overview) -> list[tuple[str, ...]]:
        return [
            (
                f"{one.group}#{one.number}", age(one.ended_at, self._now), one.outcome.value,
                one.reason, one.last_line,
            )
            for one in reversed(overview.failures)
        ]  # fmt: skip


def _groups(overview: Overview) -> list[tuple[str, ...]]:
    return [
        (q.group, *(str(n) for n in (q.pending, q.ready, q.running, q.finished, q.cancelled)))
        for q in overview.groups
    ]


def _cut(rows: list[tuple[str, ...]], most: int) -> list[tuple[str, ...]]:
    if len(rows) <= most:
        return rows
    hidden = len(rows) - most + 1
    return [*rows[: most - 1], (f"and {hidden} more", *[""] * (len(rows[0]) - 1))]


def _table(
    names: "Sequence[str]", rows: list[tuple[str, ...]], width: int, *, cuttable: "Sequence[str]"
) -> Table:
    cells = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    cells = cells or [["none", *[""] * (len(names) - 1)]]
    wanted = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    room = width - GAP * (len(names) - 1)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, size in zip(names, fit(wanted, [n in cuttable for n in names], room), strict=True):
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=size)
    for row in cells:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return table
