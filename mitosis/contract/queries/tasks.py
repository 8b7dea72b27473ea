"""Reads of tasks and of their outputs."""

from datetime import datetime
from enum import StrEnum

import msgspec

from mitosis.contract.queries.pages import DEFAULT_PAGE, AsOf
from mitosis.domain.execution import Step
from mitosis.domain.task import ArtifactKind, Exit, ExitKind, Outcome, TaskSpec, TaskState


class GetTask(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """`task` in any of the short forms."""

    task: str
    as_of: AsOf = None


class ArtifactView(msgspec.Struct):
    """A stored output."""

    kind: ArtifactKind
    size_bytes: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class AttemptEnd(StrEnum):
    """How an attempt ended that was not the last one.

    `failed` and `timed_out`: it is tried again. `lost`: it died with its worker, which counts.
    `handed_back`: by a planned stop or a fault of the worker, which does not count.
    """

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    HANDED_BACK = "handed_back"


class FormerAttempt(msgspec.Struct):
    """An attempt after which the task went on.

    Attributes:
        attempt: Its number.
        worker: Who ran it.
        end, reason: How it ended.
        exit_kind, exit_number: How its program ended, None when it did not: the exit code, the
            signal, or the errno.
        started_at: None: its program did not start.
        ended_at: By the coordinator's clock.
    """

    attempt: int
    worker: str | None
    end: AttemptEnd
    reason: str
    exit_kind: ExitKind | None
    exit_number: int | None
    started_at: datetime | None
    ended_at: datetime


class TaskView(msgspec.Struct):
    """One task as it is now.

    Attributes:
        number: Counts in the group.
        steps: Execution states of the latest attempt, after those of its wait for another task.
        exit: How the program of the latest attempt ended, None before.
        reason: Why it waits, or why it ended as it did; empty when there is nothing to say.
        warnings: What its owner should know.
        retries: How many of those that its specification allows were used.
        retry_at: It waits until then to run again; None: it does not.
        former_attempts: Those before the latest one, oldest first; of many the newest 32.
        rerun_of: The task that it repeats.
        reruns: Tasks that repeat it and that the asker may see, oldest first; of many the newest
            32.
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
    retries: int = 0
    retry_at: datetime | None = None
    former_attempts: list[FormerAttempt] = []
    rerun_of: str | None = None
    reruns: list[str] = []


class ListTasks(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Filters; each given one must hold. `group` empty: the user's own group.

    Newest last. `limit` takes the newest that match after `offset` newer ones are left out.

    Attributes:
        creators: Any of them.
        tags, labels: All of them.
        states: Any of them; `unknown`, a state of the original, fits no task.
        exit_status, priority: Conditions on numbers, such as `!=0` or `>=5`.
        before: Only tasks with a smaller number. A page that begins where the last one ended
            repeats and skips nothing, whatever happens in between. 0: all.
        count_only: Only `total` and `counts`.
    """

    group: str = ""
    creators: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    uuids: tuple[str, ...] = ()
    exit_status: str = ""
    priority: str = ""
    before: int = 0
    limit: int = DEFAULT_PAGE
    offset: int = 0
    count_only: bool = False
    as_of: AsOf = None


class TaskPage(msgspec.Struct):
    """`total` counts all that match, whatever the page."""

    tasks: list[TaskView]
    total: int
    counts: dict[str, int]


class GetArtifact(msgspec.Struct, forbid_unknown_fields=True):
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
