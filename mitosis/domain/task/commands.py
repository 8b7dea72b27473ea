"""What can be wished of a task, with all that a decision needs."""

from datetime import datetime

from mitosis.domain.event import Command
from mitosis.domain.execution import Step
from mitosis.domain.task.spec import ArtifactKind, Exit, TaskSpec
from mitosis.domain.task.state import Artifact


class SubmitTask(Command, frozen=True):
    """Submit a task; the same again is the same task.

    `at`: now, for the beginning of a wait. `fired`: how the watched task has fulfilled it already.
    `rerun_of`: the task that it repeats.
    """

    task: str
    group: str
    creator: str
    number: int
    spec: TaskSpec
    labels: tuple[str, ...] = ()
    at: datetime | None = None
    fired: str = ""
    rerun_of: str = ""


class ReplaceTaskLabels(Command, frozen=True):
    """Set the labels of the task, ended or not."""

    labels: tuple[str, ...]


class ChangeTask(Command, frozen=True):
    """Replace what is to be run, before it runs. `at` and `fired` as in SubmitTask."""

    spec: TaskSpec
    at: datetime | None = None
    fired: str = ""


class FireWatch(Command, frozen=True):
    """What the task waited for has come true."""

    reason: str
    at: datetime


class FailWatch(Command, frozen=True):
    """What the task waits for cannot come true any more, or not within its time."""

    reason: str
    at: datetime
    timed_out: bool = False


class AssignTask(Command, frozen=True):
    """Give a ready task to a worker, as its next attempt."""

    worker: str
    lease_seconds: float


class ReportStart(Command, frozen=True):
    """The worker says that the program runs."""

    worker: str
    attempt: int
    steps: tuple[Step, ...] = ()


class ReportSteps(Command, frozen=True):
    """The worker says which execution states the attempt has reached."""

    worker: str
    attempt: int
    steps: tuple[Step, ...]


class ReportExit(Command, frozen=True):
    """The worker says how the program ended."""

    worker: str
    attempt: int
    exit: Exit
    steps: tuple[Step, ...] = ()


class StoreArtifact(Command, frozen=True):
    """Name an uploaded output: of a worker's attempt, or of a user (no worker, attempt 0)."""

    worker: str
    attempt: int
    artifact: Artifact


class DeleteArtifact(Command, frozen=True):
    """Delete the output of one kind."""

    kind: ArtifactKind


class WarnTask(Command, frozen=True):
    """Tell the owner something that does not change the outcome."""

    worker: str
    attempt: int
    text: str


class CommitTask(Command, frozen=True):
    """The worker says that nothing more will come: end the task, or try it again.

    `at`: now, for the wait before the next attempt. `cut_short`: a cancel ended the upload of the
    outputs. `unstored`: which output could not be stored, and why.
    """

    worker: str
    attempt: int
    at: datetime | None = None
    cut_short: bool = False
    unstored: str = ""


class BeginRetry(Command, frozen=True):
    """The wait of the task before its next attempt is over."""


class RequestCancel(Command, frozen=True):
    """End the task; while it runs, by stopping the program.

    `stop_signal`, `grace_seconds`: how, in the place of what the task says.
    """

    reason: str = ""
    stop_signal: str = ""
    grace_seconds: float | None = None


class EraseSecrets(Command, frozen=True):
    """Note that the key of the secret variables has been destroyed."""

    reason: str = ""


class RequeueTask(Command, frozen=True):
    """End the live attempt, which is dead for certain or was never begun, without an outcome."""

    attempt: int
    reason: str
    counted: bool
    steps: tuple[Step, ...] = ()
