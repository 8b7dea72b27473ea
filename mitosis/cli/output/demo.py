"""How `mito demo` shows its progress and its table."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mitosis.demo.sweep import Report


class DemoScreen:
    """Phases and a progress bar on standard error; plain lines when that is no terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._total = 0

    def phase(self, text: str) -> None:
        """Say what begins."""
        self._console.print(f"[bold]>[/bold] {text}" if self._console.is_terminal else f"> {text}")

    def begin(self, total: int) -> None:
        """Show the bar."""
        self._total = total
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("  running"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._progress.start()
        self._progress.add_task("tasks", total=total)

    def ended(self, done: int) -> None:
        """Move the bar; without a terminal, say every quarter."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=done)
        elif done == self._total or done % max(1, self._total // 4) == 0:
            self._console.print(f"  {done} of {self._total} tasks have ended")

    def finish(self) -> None:
        """Leave the bar as it is."""
        if self._progress is not None:
            self._progress.stop()


def show_report(report: Report) -> None:
    """Print the table, what was run, and every problem."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, width=100, no_color=True)
    table = Table(title="goodput of one AIMD flow, packets per second, means over the seeds")
    for heading in ("loss", "RTT", "seeds", "measured", "predicted", "ratio", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for row in report.rows:
        table.add_row(
            f"{row.loss:g}",
            f"{row.rtt_ms:g} ms",
            str(row.seeds),
            "-" if row.measured is None else f"{row.measured:.1f}",
            f"{row.predicted:.1f}",
            "-" if row.ratio is None else f"{row.ratio:.3f}",
            row.verdict,
        )
    console.print(table)
    console.print(
        f"{report.tasks} tasks in {report.wall_seconds:.1f} s; prediction: the square-root loss "
        "formula, accepted within 15 %."
    )
    for problem in report.problems:
        console.print(f"wrong: {problem}", markup=False)
    if not report.problems:
        console.print("Every result is right, and a cell run on two workers gave the same bytes.")
