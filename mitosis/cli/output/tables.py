"""Tables for a terminal, by rich, which is imported only here and only then."""

import shutil
import sys
from collections.abc import Iterable, Sequence

from mitosis.cli.output.screen import flush, printable

COLOURS = {
    "succeeded": "green", "finished": "green", "normal": "green", "running": "cyan",
    "ready": "blue", "failed": "red", "lost": "red", "error": "red", "timed_out": "red",
    "cancelled": "yellow", "draining": "yellow", "gone": "dim", "pending": "dim",
}  # fmt: skip


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Sequence[str] = ()
) -> None:
    """Print a table; columns named in `whole` are never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    content = [[printable(cell) for cell in row] for row in rows]
    for index, name in enumerate(columns):
        if name in whole:
            width = max([len(name), *(len(row[index]) for row in content)])
            table.add_column(name, no_wrap=True, min_width=width)
        else:
            table.add_column(name, overflow="ellipsis", no_wrap=True)
    for row in content:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    flush()
    # Of a dumb terminal rich asks neither COLUMNS nor the terminal itself.
    width = shutil.get_terminal_size().columns
    Console(file=sys.stdout, highlight=False, width=width).print(table)
