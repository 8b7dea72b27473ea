"""`explain`: why a task waits, or has waited."""

from typing import TYPE_CHECKING

from mitosis.cli.output.screen import complain, show
from mitosis.cli.running import with_client

if TYPE_CHECKING:
    from mitosis.contract.queries import Explanation


def explain(task: str, /) -> None:
    """Say why a task waits, or why it has waited, cause by cause, with the time of each.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
    """
    found = with_client(lambda client: client.explain_task(task))
    show(found, lambda: _lines(found))
    if not found.complete:
        complain("too much happened beside it to read it all: that workers were busy was concluded")


def _lines(found: "Explanation") -> list[str]:
    from mitosis.cli.output.screen import printable
    from mitosis.cli.output.texts import moment

    waits = not found.state.terminal and found.state.value in {"pending", "ready"}
    ended = f" ({found.outcome.value})" if found.outcome else ""
    now = "so far " if waits else ""
    lines = [
        f"Task {found.task} is {found.group}#{found.number}, {found.state.value}{ended}",
        f"Waited {now}{_span(found.waiting_seconds)} in all"
        + (":" if found.waits else ": it was given to a worker at once"),
    ]
    for wait in found.waits:
        goes_on = waits and wait.ended_at == found.until
        when = f"since {moment(wait.began_at)}" if goes_on else f"from {moment(wait.began_at)}"
        attempt = f"attempt {wait.attempt}, " if wait.attempt > 1 else ""
        lines.append(f"{_span(wait.seconds):>12} {attempt}{when}: {printable(wait.text)}")
    return lines


def _span(seconds: float) -> str:
    """Return `1h 05m`, `3m 20s`, or seconds to the hundredth."""
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {rest:02}s" if hours else f"{minutes}m {rest:02}s"
