"""Rows of the read models: one struct for each table, its fields are the columns.

A `Table` holds, in memory, the rows that a batch of commits needs and what became of them. The
same folds therefore work on a few rows loaded from Postgres and on a whole history in memory.
"""

from datetime import datetime
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from mitosis.contract.queries import FormerAttempt, SessionView
from mitosis.domain.execution import Step
from mitosis.domain.group import GroupPhase
from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, Exit, Outcome, TaskSpec, TaskState
from mitosis.domain.user import UserPhase
from mitosis.domain.worker import WorkerPhase

Key = tuple[Any, ...]  # texts and numbers, as the columns are
R = TypeVar("R", bound=msgspec.Struct)

NO_EXIT_STATUS = -1  # a program has not ended, or not with an exit code; those begin with 0


class UserRow(msgspec.Struct):
    """An account. There is no password hash: it stays in the stream and the archive."""

    name: str
    admin: bool
    state: UserPhase
    group_quota: int
    created_at: datetime
    updated_at: datetime
    reason: str = ""


class SessionsRow(msgspec.Struct):
    """The open sessions of a user; those that have expired may still be there."""

    user_name: str
    sessions: list[SessionView]


class GroupRow(msgspec.Struct):
    """A group without its members and its use."""

    name: str
    creator: str
    state: GroupPhase
    storage_quota_bytes: int
    created_at: datetime
    updated_at: datetime
    reason: str = ""


class MemberRow(msgspec.Struct):
    """The role of a user in a group."""

    group_name: str
    user_name: str
    role: Role


class WorkerRow(msgspec.Struct):
    """A worker without its roles; `created_position` gives the order."""

    uuid: str
    owner: str
    state: WorkerPhase
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    slots: int
    host: str
    version: str
    reason: str
    created_position: int
    created_at: datetime
    updated_at: datetime
    guarantees: tuple[str, ...] = ()
    default_limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS


class WorkerRoleRow(msgspec.Struct):
    """The role of a group on a worker."""

    worker: str
    group_name: str
    role: Role


class TaskRow(msgspec.Struct):
    """What changes while a task lives, and what tasks are filtered by.

    Attributes:
        priority: As in its specification.
        exit_status: The exit code in `exit`, `NO_EXIT_STATUS` if there is none.
    """

    uuid: str
    number: int
    group_name: str
    creator: str
    state: TaskState
    outcome: Outcome | None
    reason: str
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    attempt: int
    losses: int
    worker: str | None
    cancel_requested: bool
    steps: list[Step]
    exit: Exit | None
    warnings: list[str]
    created_position: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    retries: int = 0
    retry_at: datetime | None = None
    former_attempts: list[FormerAttempt] = []
    changed_position: int = 0
    rerun_of: str | None = None
    priority: int = 0
    exit_status: int = NO_EXIT_STATUS


class TaskSpecRow(msgspec.Struct):
    """What a task runs: up to a megabyte, so it is not rewritten with every change of state."""

    task: str
    spec: TaskSpec


class ArtifactRow(msgspec.Struct):
    """A stored output."""

    task: str
    kind: ArtifactKind
    object_name: str
    size_bytes: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class AttachmentRow(msgspec.Struct):
    """A file of a group; `token` is its key as the stream's subjects spell it."""

    group_name: str
    token: str
    key: str
    object_name: str
    size_bytes: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class UsageRow(msgspec.Struct):
    """What a group holds: bytes of artifacts and attachments, tasks by state.

    In a batch it is the difference to what is stored, so it never needs to be loaded.
    """

    group_name: str
    storage_used_bytes: int = 0
    pending: int = 0
    ready: int = 0
    running: int = 0
    finished: int = 0
    cancelled: int = 0

    def count(self, state: TaskState, by: int) -> None:
        """Count tasks in a state up or down."""
        setattr(self, state.value, getattr(self, state.value) + by)


class TaskCountRow(msgspec.Struct):
    """How many tasks are alike in all that has few values; there is no row for none.

    In a batch it is the difference to what is stored, as in `UsageRow`.

    Attributes:
        word: Of those tasks only that it finds (`TaskWordRow`); empty: of all.
        outcome: Empty: none yet.
        tasks: How many.
    """

    group_name: str
    word: str
    creator: str
    state: TaskState
    outcome: str
    exit_status: int
    priority: int
    tasks: int = 0


class TaskWordRow(msgspec.Struct):
    """A label or tag of a task: `label run-1`, `tag gpu`. It does not change with the state."""

    group_name: str
    word: str
    number: int


class CommitRow(msgspec.Struct):
    """What a commit was about, without what it says. Only ever added.

    Attributes:
        group_name: Of a task or an attachment, else None.
        name: Of the aggregate in its kind: a UUID, a name, or the key of an attachment.
        topics: Stored names of its events.
    """

    position: int
    at: datetime
    actor: str
    session: str
    command: str
    kind: str
    group_name: str | None
    name: str
    topics: list[str]


class SourceRow(msgspec.Struct):
    """Where a session was opened from; also of one that is over."""

    session: str
    user_name: str
    source: str
    opened_at: datetime


class Table(Generic[R]):
    """Rows of one table that a batch knows.

    Attributes:
        rows: What is known; a key that is absent here is absent in the table, provided that
            `plan.needed_rows` named it and the store looked.
        changed: Keys of rows to be written, or deleted if they are not in `rows` any more.
    """

    def __init__(self, name: str, row: type[R], key: tuple[str, ...]) -> None:
        self.name = name
        self.row = row
        self.key = key
        self.rows: dict[Key, R] = {}
        self.changed: set[Key] = set()
        self._fields = attrgetter(*key)

    def key_of(self, row: R) -> Key:
        """Return the primary key of a row."""
        fields = self._fields(row)
        return fields if len(self.key) > 1 else (fields,)

    def learn(self, rows: list[R]) -> None:
        """Take in rows as they are stored."""
        self.rows.update((self.key_of(row), row) for row in rows)

    def get(self, *key: Any) -> R | None:
        """Return a row, or None if there is none."""
        return self.rows.get(key)

    def put(self, row: R) -> None:
        """Insert or replace a row."""
        key = self.key_of(row)
        self.rows[key] = row
        self.changed.add(key)

    def drop(self, *key: Any) -> None:
        """Delete a row; nothing happens if there is none."""
        self.rows.pop(key, None)
        self.changed.add(key)

    def written(self) -> list[R]:
        """Return the rows to be inserted or replaced, in a stable order."""
        return [self.rows[key] for key in sorted(self.changed) if key in self.rows]

    def forget(self, *key: Any) -> None:
        """Know nothing of a row any more, and write nothing of it."""
        self.rows.pop(key, None)
        self.changed.discard(key)

    def dropped(self) -> list[dict[str, Any]]:
        """Return the keys of the rows to be deleted, by column."""
        gone = sorted(key for key in self.changed if key not in self.rows)
        return [dict(zip(self.key, key, strict=True)) for key in gone]


class Tables:
    """All tables of the read models, as far as a batch knows them.

    Attributes:
        uncounted: Tasks changed since counters were (counters.py): by what each was counted before,
            None: it was not.
    """

    def __init__(self) -> None:
        self.users = Table("users", UserRow, ("name",))
        self.sessions = Table("user_sessions", SessionsRow, ("user_name",))
        self.groups = Table("groups", GroupRow, ("name",))
        self.members = Table("members", MemberRow, ("group_name", "user_name"))
        self.workers = Table("workers", WorkerRow, ("uuid",))
        self.worker_roles = Table("worker_roles", WorkerRoleRow, ("worker", "group_name"))
        self.tasks = Table("tasks", TaskRow, ("uuid",))
        self.task_specs = Table("task_specs", TaskSpecRow, ("task",))
        self.artifacts = Table("artifacts", ArtifactRow, ("task", "kind"))
        self.attachments = Table("attachments", AttachmentRow, ("group_name", "token"))
        self.session_sources = Table("session_sources", SourceRow, ("session",))
        self.usage = Table("group_usage", UsageRow, ("group_name",))
        self.task_counts = Table("task_counts", TaskCountRow, TaskCountRow.__struct_fields__[:-1])
        self.task_words = Table("task_words", TaskWordRow, TaskWordRow.__struct_fields__)
        self.commits = Table("commits", CommitRow, ("position",))
        self.uncounted: dict[str, Any] = {}

    def overwritten(self) -> list[Table[Any]]:
        """Return the tables whose rows are written whole.

        `usage` and `task_counts` are added to instead, and `commits` only grows.
        """
        return [
            self.users, self.sessions, self.groups, self.members, self.workers, self.worker_roles,
            self.tasks, self.task_specs, self.task_words, self.artifacts, self.attachments,
            self.session_sources,
        ]  # fmt: skip

    def every(self) -> list[Table[Any]]:
        """Return all tables."""
        return [*self.overwritten(), self.usage, self.task_counts, self.commits]

    def use_of(self, group: str) -> UsageRow:
        """Return the counters of a group, to be changed in place."""
        row = self.usage.get(group) or UsageRow(group)
        self.usage.put(row)
        return row
