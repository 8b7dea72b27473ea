"""The ledger: one file to which every task appends a line when it starts, lives and ends.

The tasks of a run are one shell script. It holds a lock on a file of its task while any process of
the attempt is alive, so that a second attempt beside it says so in the ledger by itself.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

START, BEAT, END, BESIDE = "start", "beat", "end", "beside"

#: Left behind by tasks of the kind "daemon"; looked for afterwards by this text.
LEFT_BEHIND = "86398.25"

# LEDGER LOCKS KIND BEATS: the lock is inherited by all that the attempt starts. One `echo` is one
# write, and a short write to a file that is opened for appending is one line.
SCRIPT = f"""\
ledger=$1 locks=$2 kind=$3 beats=$4 code=0
say() {{ echo "$1 $MITO_TASK_UUID $MITO_ATTEMPT $2" >>"$ledger"; }}
exec 9>>"$locks/$MITO_TASK_UUID"
flock -n 9 || say {BESIDE} 0
say {START} 0
[ "$kind" = daemon ] && (setsid sleep {LEFT_BEHIND} &)
while [ "$beats" -gt 0 ]; do sleep 0.1; say {BEAT} 0; beats=$((beats - 1)); done
[ "$kind" = fails ] && code=3
[ "$kind" = result ] && echo "$MITO_TASK_UUID $MITO_ATTEMPT" >"$MITO_RESULT_DIR/out"
say {END} $code
exit $code
"""


class Line(NamedTuple):
    """What an attempt has written; `number` of the last one is its exit code."""

    word: str
    task: str
    attempt: int
    number: int = 0


def read_ledger(path: Path) -> list[Line]:
    """Return the lines of a ledger; none when nobody has written.

    Raises:
        ValueError: A line that no task can have written.
    """
    text = path.read_text() if path.exists() else ""
    return [_line(line) for line in text.splitlines()]


def _line(text: str) -> Line:
    word, task, attempt, number = text.split()
    if word not in {START, BEAT, END, BESIDE}:
        raise ValueError(f"no line of a ledger: {text!r}")
    return Line(word, task, int(attempt), int(number))


def overlaps(ledger: Iterable[Line]) -> Iterator[tuple[str, str]]:
    """Yield task and reason where two attempts were alive at once, or one has run twice."""
    latest: dict[str, int] = {}
    seen: set[tuple[str, str, int]] = set()
    for word, task, attempt, _ in ledger:
        if word == BESIDE:
            yield task, f"attempt {attempt} began while another one was alive"
            continue
        if attempt < latest.get(task, 0):
            yield task, f"attempt {attempt} wrote {word!r} after attempt {latest[task]} had begun"
        latest[task] = max(attempt, latest.get(task, 0))
        if word != BEAT and (word, task, attempt) in seen:
            yield task, f"attempt {attempt} wrote {word!r} twice"
        seen.add((word, task, attempt))
