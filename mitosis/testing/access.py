"""The access tables of docs/access.md, as tests read them."""

from pathlib import Path

import msgspec

ACTORS = (
    "stranger",
    "no role",
    "Read",
    "Write",
    "Admin",
    "platform admin",
    "its worker",
    "other worker",
    "expired",
    "revoked",
    "locked",
    "deleted",
)
"""Columns of the tables. The roles are those in the group that the row is about."""

USERS = ACTORS[1:6]
TABLES = ("Commands", "Reads", "Reports of workers", "Logging in", "Subjects")


class Row(msgspec.Struct, frozen=True):
    """One row: what is tried, and what becomes of it by actor.

    Attributes:
        table: Its heading.
        what: `<noun>.<verb>` with a remark in brackets, `<verb>`, or `publish|subscribe SUBJECT`.
        cells: `yes`, or who refuses: `server`, `coordinator`, `projector`.
    """

    table: str
    what: str
    cells: dict[str, str]

    @property
    def verb(self) -> str:
        """The verb without the remark."""
        return self.what.partition(" ")[0]


def read_access(path: Path) -> list[Row]:
    """Read the tables.

    Raises:
        ValueError: A table with other columns, a row with another number of cells, an unknown
            word in a cell, or a row that is there twice.
    """
    rows: list[Row] = []
    heading = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|") or heading not in TABLES or set(line) <= set("|-: "):
            continue
        what, *cells = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        if what == "what":
            if tuple(cells) != ACTORS:
                raise ValueError(f"the columns of {heading!r} are {cells}, not {ACTORS}")
            continue
        what = what.replace("`", "")
        if len(cells) != len(ACTORS) or set(cells) - {"yes", "server", "coordinator", "projector"}:
            raise ValueError(f"{heading}: {what}: these are no cells: {cells}")
        if any((row.table, row.what) == (heading, what) for row in rows):
            raise ValueError(f"{heading}: {what} is there twice")
        rows.append(Row(heading, what, dict(zip(ACTORS, cells, strict=True))))
    return rows
