r"""The task: one command line, run until an attempt of it is committed.

       /-----------retry---------\
       v                         |
    pending --> ready --> running --> finished   (succeeded, failed)
       |          |  ^       | \----> cancelled  (timed_out, error, cancelled)
       |          |  \-requeue-/
       \----------\-------------------> cancelled  (cancelled, lost)

Invariants, each held by a property test:
- a terminal state never changes;
- at most one attempt is live, and only its worker may report on it;
- attempts are numbered 1, 2, 3, ... without gaps;
- losses that count never exceed the limit, nor retries theirs;
- a task that waits for its next attempt is given to nobody before that;
- a task that watches another one is given to nobody before that has reached the state.
"""

from mitosis.domain.task.commands import (
    AssignTask,
    BeginRetry,
    ChangeTask,
    CommitTask,
    DeleteArtifact,
    EraseSecrets,
    FailWatch,
    FireWatch,
    ReplaceTaskLabels,
    ReportExit,
    ReportStart,
    ReportSteps,
    RequestCancel,
    RequeueTask,
    StoreArtifact,
    SubmitTask,
    WarnTask,
)
from mitosis.domain.task.decisions import check_spec, decide
from mitosis.domain.task.events import (
    ArtifactDeleted,
    ArtifactStored,
    TaskAssigned,
    TaskCancelled,
    TaskCancelRequested,
    TaskChanged,
    TaskCommitted,
    TaskExited,
    TaskLabelsReplaced,
    TaskProgressed,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskSecretsErased,
    TaskStarted,
    TaskSubmitted,
    TaskWarned,
    steps_of,
)
from mitosis.domain.task.spec import (
    DEFAULT_TIMEOUT_SECONDS,
    MAX_EXACT,
    MAX_TAIL_BYTES,
    MAX_WARNINGS,
    UNKNOWN_STATE,
    ArtifactKind,
    EndCause,
    Exit,
    ExitKind,
    Outcome,
    TaskSpec,
    TaskState,
    Usage,
    check_kind,
    check_state,
)
from mitosis.domain.task.state import Artifact, Task, as_submitted, evolve
from mitosis.domain.task.verdict import judge

__all__ = [
    "DEFAULT_TIMEOUT_SECONDS",
    "MAX_EXACT",
    "MAX_TAIL_BYTES",
    "MAX_WARNINGS",
    "UNKNOWN_STATE",
    "Artifact",
    "ArtifactDeleted",
    "ArtifactKind",
    "ArtifactStored",
    "AssignTask",
    "BeginRetry",
    "ChangeTask",
    "CommitTask",
    "DeleteArtifact",
    "EndCause",
    "EraseSecrets",
    "Exit",
    "ExitKind",
    "FailWatch",
    "FireWatch",
    "Outcome",
    "ReplaceTaskLabels",
    "ReportExit",
    "ReportStart",
    "ReportSteps",
    "RequestCancel",
    "RequeueTask",
    "StoreArtifact",
    "SubmitTask",
    "Task",
    "TaskAssigned",
    "TaskCancelRequested",
    "TaskCancelled",
    "TaskChanged",
    "TaskCommitted",
    "TaskExited",
    "TaskLabelsReplaced",
    "TaskProgressed",
    "TaskReady",
    "TaskRequeued",
    "TaskRetryScheduled",
    "TaskSecretsErased",
    "TaskSpec",
    "TaskStarted",
    "TaskState",
    "TaskSubmitted",
    "TaskWarned",
    "Usage",
    "WarnTask",
    "as_submitted",
    "check_kind",
    "check_spec",
    "check_state",
    "decide",
    "evolve",
    "judge",
    "steps_of",
]
