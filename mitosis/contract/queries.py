"""Reads of a user: `mito.query.<user>.<noun>.<verb>`, and their results.

| noun.verb | body | result |
|---|---|---|
| user.whoami | Nothing | WhoAmI |
| task.get | GetTask | TaskView |
| task.list | ListTasks | TaskPage |
| artifact.get | GetArtifact | ArtifactLink |
| worker.get | GetWorker | WorkerView |
| worker.list | ListWorkers | WorkerPage |
| group.get | GetGroup | GroupView |
| group.list | Nothing | GroupList |

A task can be named by its UUID, by a unique prefix of at least 6 characters, by `last` (the
newest of the user's own), or as `GROUP#12`.
"""

from datetime import datetime

import msgspec

from mitosis.domain.execution import Step
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, Exit, Outcome, TaskSpec, TaskState

DEFAULT_PAGE = 50


class WhoAmI(msgspec.Struct):
    """The account behind the session."""

    username: str
    admin: bool
    groups: dict[str, Role]


class GetTask(msgspec.Struct):
    """`task` in any of the short forms."""

    task: str


class ArtifactView(msgspec.Struct):
    """A stored output."""

    kind: ArtifactKind
    size_bytes: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class TaskView(msgspec.Struct):
    """One task as it is now.

    Attributes:
        number: Counts in the group.
        steps: Execution states of the latest attempt.
        exit: How the program of the latest attempt ended, None before.
        reason: Why it waits, or why it ended as it did; empty when there is nothing to say.
        warnings: What its owner should know.
    """

    uuid: str
    number: int
    group: str
    creator: str
    state: TaskState
    outcome: Outcome | None
    reason: str
    spec: TaskSpec
    labels: tuple[str, ...]
    attempt: int
    losses: int
    worker: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    cancel_requested: bool
    steps: list[Step]
    exit: Exit | None
    artifacts: list[ArtifactView]
    warnings: list[str]


class ListTasks(msgspec.Struct, omit_defaults=True):
    """Filters; each given one must hold. `group` empty: the user's own group.

    Newest last. `limit` takes the newest that match after `offset` newer ones are left out.
    """

    group: str = ""
    creator: str = ""
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    states: tuple[TaskState, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    uuids: tuple[str, ...] = ()
    limit: int = DEFAULT_PAGE
    offset: int = 0


class TaskPage(msgspec.Struct):
    """`total` counts all that match, whatever the page."""

    tasks: list[TaskView]
    total: int
    counts: dict[str, int]


class GetArtifact(msgspec.Struct):
    """Needs Read in the task's group."""

    task: str
    kind: ArtifactKind


class ArtifactLink(msgspec.Struct):
    """Presigned GET, valid for a while; check the bytes against `sha256`. The URL is a secret."""

    task: str
    kind: ArtifactKind
    size_bytes: int
    sha256: str
    url: str

    def __repr__(self) -> str:
        return f"ArtifactLink(task={self.task!r}, kind={self.kind.value!r})"


class GetWorker(msgspec.Struct):
    """`worker`: UUID or a unique prefix of at least 6 characters."""

    worker: str


class WorkerView(msgspec.Struct):
    """One worker as it is now."""

    uuid: str
    owner: str
    state: str
    roles: dict[str, Role]
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    slots: int
    tasks: list[str]
    host: str
    version: str
    created_at: datetime
    updated_at: datetime
    reason: str


class ListWorkers(msgspec.Struct, omit_defaults=True):
    """`group` empty: the user's own group. Workers that are gone are left out unless `all`."""

    group: str = ""
    tags: tuple[str, ...] = ()
    all: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0


class WorkerPage(msgspec.Struct):
    """`total` counts all that match."""

    workers: list[WorkerView]
    total: int


class GetGroup(msgspec.Struct):
    """Needs Read in the group."""

    name: str


class GroupView(msgspec.Struct):
    """One group as it is now; `members` only for its Admins."""

    name: str
    creator: str
    state: str
    role: Role
    members: dict[str, Role] | None
    task_count: int
    worker_count: int
    storage_used_bytes: int
    storage_quota_bytes: int
    created_at: datetime
    updated_at: datetime


class GroupList(msgspec.Struct):
    """All groups in which the user has a role."""

    groups: dict[str, Role]
