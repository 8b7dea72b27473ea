"""What a run leaves behind, as the checker wants it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from mitosis.projections.commit import Commit, RawCommit
from mitosis.testing.chaos.ledger import Line


class Violation(NamedTuple):
    """A promise that was broken. `rule` names it; `subject` is a task, a worker, a table."""

    rule: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.text}"


class Answer(StrEnum):
    """What a client was told."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Operation(msgspec.Struct, frozen=True):
    """What a client asked for, and what it was told.

    Attributes:
        kind: `submit`, `cancel`, or the name of a setting.
        subject: Task, worker or user.
        answer: What the client was told in the end.
        number: Of a submitted task in its group.
        value: What the setting was to become.
        error: In the words of the platform.
    """

    kind: str
    subject: str
    answer: Answer
    number: int = 0
    value: str = ""
    error: str = ""


class StoredObject(NamedTuple):
    """An object in S3, as it was read back."""

    size_bytes: int
    sha256: str


Rows = dict[str, list[Any]]
"""Rows of the read models by table, in the order of their keys."""


class Evidence(msgspec.Struct, kw_only=True):
    """All that is known after a run, when everything is quiet.

    Attributes:
        commits: The stream, decoded, from the beginning.
        record: What the clients were told, in order.
        ledger: What the tasks wrote, in order.
        rows: The read models in Postgres.
        folded: The same tables, from a fresh fold of the stream.
        archived: The archive in Postgres.
        objects: The artifacts in S3, by name.
        leftovers: Processes, folders and sessions of Postgres that nothing explains.
        complaints: Wrong in itself, seen while the run went on or while evidence was gathered.
    """

    commits: Sequence[Commit]
    record: Sequence[Operation] = ()
    ledger: Sequence[Line] = ()
    rows: Rows = {}
    folded: Rows = {}
    archived: Sequence[RawCommit] = ()
    objects: dict[str, StoredObject] = {}
    leftovers: Sequence[str] = ()
    complaints: Sequence[Violation] = ()
