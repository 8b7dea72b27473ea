"""Tables for a terminal, by rich, which is imported only here and only then."""

import shutil
import sys
from collections.abc import Iterable, Sequence

from mitosis.cli.output.screen import printable
from mitosis.cli.output.streams import flush

GAP = 2  # columns of rich stand this far apart
LEAST_WIDTH = 4
SHORT_ID = 8
COLOURS = {
    "succeeded": "green", "finished": "green", "normal": "green", "running": "cyan",
    "ready": "blue", "failed": "red", "lost": "red", "error": "red", "timed_out": "red",
    "cancelled": "yellow", "draining": "yellow", "paused": "yellow",
    "unreachable": "red", "gone": "dim", "pending": "dim",
}  # fmt: skip


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Sequence[str] = ()
) -> None:
    """Print a table; columns named in `whole` are never cut, the longest others are first."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    # A row is one line, whatever a command has in its words.
    content = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    screen = shutil.get_terminal_size()
    wanted = [max(map(cell_len, column)) for column in zip(columns, *content, strict=True)]
    cuttable = [name not in whole for name in columns]
    # Left to itself, rich cuts every column by the same amount, down to nothing.
    widths = fit(wanted, cuttable, screen.columns - GAP * (len(columns) - 1))
    for name, width in zip(columns, widths, strict=True):
        table.add_column(name, overflow="ellipsis", no_wrap=True, width=width)
    for row in content:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    flush()
    # Of a dumb terminal rich asks neither COLUMNS nor the terminal itself.
    width, height = max(screen.columns, sum(widths) + GAP * (len(columns) - 1)), screen.lines
    Console(file=sys.stdout, highlight=False, width=width, height=height).print(table)


def short_ids(uuids: Sequence[str]) -> list[str]:
    """Return the beginning of each UUID by which it can be told from all others here.

    For people only, who may give it back in the place of the whole: 8 characters, more where two
    begin alike. The platform says so if another one, that is not shown, begins alike too.
    """
    length = SHORT_ID
    while len({uuid[:length] for uuid in uuids}) < len(set(uuids)):
        length += 1
    return [uuid[:length] for uuid in uuids]


def fit(wanted: Sequence[int], cuttable: Sequence[bool], room: int) -> list[int]:
    """Cut the widest of the cuttable columns until all fit, or nothing is left to cut."""
    widths = [min(w, max(room, 1)) if cut else w for w, cut in zip(wanted, cuttable, strict=True)]
    for _ in range(sum(widths) - room):
        widest = max((w for w, cut in zip(widths, cuttable, strict=True) if cut), default=0)
        if widest <= LEAST_WIDTH:
            break
        index = next(i for i, cut in enumerate(cuttable) if cut and widths[i] == widest)
        widths[index] -= 1
    return widths
