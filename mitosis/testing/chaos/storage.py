"""What stands in S3 and in Postgres, held against the stream."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from mitosis.artifacts.names import task_of
from mitosis.testing.chaos.evidence import Evidence, Violation
from mitosis.testing.chaos.lives import lives_of

MOST_ROWS = 5  # of a table that differs


def check_artifacts(evidence: Evidence) -> Iterator[Violation]:
    """Every artifact that a task names exists, with its size and its checksum."""
    for life in lives_of(evidence.commits).values():
        for named in life.artifacts:
            found = evidence.objects.get(named.object_name)
            if found is None:
                text = f"{named.object_name} does not exist"
            elif found != (named.size_bytes, named.sha256):
                wanted = f"{named.size_bytes} bytes with {named.sha256}"
                text = f"{named.object_name} is {found}, not {wanted}"
            else:
                continue
            yield Violation("artifacts exist", life.task, text)


def check_objects(evidence: Evidence) -> Iterator[Violation]:
    """Every object belongs to an attempt that was given to a worker.

    One that no event names is what a dead attempt has left: the sweeper removes it after its URL
    has expired, which no run lives to see.
    """
    lives = lives_of(evidence.commits)
    for name in evidence.objects:
        attempt = name.split("/")[1]
        life = lives.get(task_of(name))
        if life is None or not attempt.isdigit() or int(attempt) not in life.attempts:
            yield Violation("nothing unexplained", name, "no attempt can have stored it")


def check_read_models(evidence: Evidence) -> Iterator[Violation]:
    """The read models have the rows that a fresh fold of the stream has."""
    for table, folded in evidence.folded.items():
        stored = evidence.rows.get(table, [])
        if stored == folded:
            continue
        rows, wanted = (Counter(map(_text, some)) for some in (stored, folded))
        for row in list(wanted - rows)[:MOST_ROWS]:
            yield Violation("read models", table, f"row {row} is missing")
        for row in list(rows - wanted)[:MOST_ROWS]:
            yield Violation("read models", table, f"row {row} should not be there")


def _text(row: Any) -> str:
    return msgspec.json.encode(row, order="sorted").decode()


def check_archive(evidence: Evidence) -> Iterator[Violation]:
    """The archive is the stream, byte for byte."""
    archived = {position: (subject, bytes(raw)) for position, subject, raw in evidence.archived}
    stored = {one.position: (one.subject, one.payload) for one in evidence.commits}
    for position in sorted(stored.keys() | archived.keys()):
        if position not in archived:
            yield Violation("archive", f"position {position}", "it is not archived")
        elif position not in stored:
            yield Violation("archive", f"position {position}", "it is not in the stream")
        elif archived[position] != stored[position]:
            yield Violation("archive", f"position {position}", "archive and stream differ")
