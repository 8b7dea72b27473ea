"""`diff`: what differed between two runs."""

from typing import TYPE_CHECKING, Annotated, Any

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.output.screen import printable, show
from mitosis.cli.parameters import choices, several
from mitosis.cli.running import with_client
from mitosis.config.client import COUNTED_PARTS, Part

if TYPE_CHECKING:
    from mitosis.client.comparison import TaskComparison

LONGEST_VALUE = 300  # characters; --json has all of them

Parts = Annotated[tuple[Part, ...], several("--only", read=choices(Part, "part of a task"))]


def diff(first: str, second: str, /, *, only: Parts = ()) -> int:
    """Say what differed between two tasks, and end with 0 if nothing that counts did, else with 1.

    What was run and what came of it counts: specification, environment, outcome, artifacts. The
    circumstances are shown beside it: labels, worker, attempts, times.

    Args:
        first: The UUID of a task, a unique prefix of it, `last`, or GROUP#NUMBER.
        second: The other one.
        only: One or more of specification, environment, outcome, artifacts, labels, worker,
            attempts, times; default: all.
    """
    found = with_client(lambda client: client.compare_tasks(first, second, only))
    show(found, lambda: _lines(found))
    return DONE if found.equal else FAILED


def _lines(found: "TaskComparison") -> list[str]:
    lines = []
    part = None
    for difference in found.differences:
        if difference.part is not part:
            part = difference.part
            lines.append(f"{part.value}{'' if part in COUNTED_PARTS else ' (circumstances)'}:")
        before, after = _shown(difference.first), _shown(difference.second)
        lines.append(f"  {printable(difference.field)}: {before} -> {after}")
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text.rstrip("\n").replace("\n", "\\n")
    short = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
    return printable(short) or "''"
