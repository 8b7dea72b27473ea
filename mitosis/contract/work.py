"""Between worker and coordinator.

`mito.worker.<worker>.<verb>`:

| verb | body | result |
|---|---|---|
| renew | Renew | Renewed |
| report | Reports | Verdicts |
| upload | UploadWanted | UploadGranted |
| parts | PartsWanted | PartUrls |
| secrets | SecretsWanted | Secrets |
| leave | Leave | Done |

Pushed: `Assignment` on `mito.work.<group>.<worker>`, `Control` on `mito.control.<worker>`.

A worker's clock is never stored: it says how many seconds ago something happened, and the
coordinator's clock makes a time of it.

What decides over attempts names the term of the coordinator that says it; 0: one of an older
version. A worker that has heard of a term ignores what those before it say: a coordinator learns
only after a moment that another one leads, and calls what that has assigned foreign.
"""

import msgspec

from mitosis.contract.output import FollowOutput
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import ArtifactKind, Exit, TaskSpec


class Held(msgspec.Struct, array_like=True, frozen=True):
    """An attempt that the worker holds: task, group, number of the attempt."""

    task: str
    group: str
    attempt: int


class Renew(msgspec.Struct):
    """Prolong the lease. `held`: everything that the worker runs or reports just now.

    What the coordinator assigned and the worker does not hold is pushed again; what the worker
    holds and the coordinator does not know as its own comes back as `foreign`. `leaving`: why the
    worker takes nothing new; empty: it does.
    """

    held: list[Held] = []
    leaving: str = ""


class Renewed(msgspec.Struct):
    """The lease counts from the sending of the request. `foreign` attempts are to be killed.

    `slots`: how many tasks the worker may run at once from now on; 0: as before.
    """

    lease_seconds: float
    foreign: list[Held] = []
    slots: int = 0
    term: int = 0


class AgedStep(msgspec.Struct, array_like=True, frozen=True):
    """An execution state, and how many seconds before the report it was reached."""

    state: ExecutionState
    age_seconds: float


class StoredArtifact(msgspec.Struct):
    """The worker has uploaded the object that it was granted; the store is asked for its size."""

    kind: ArtifactKind
    object_name: str
    size_bytes: int
    sha256: str


class TaskReport(msgspec.Struct, omit_defaults=True):
    """Everything new about one attempt. Parts are applied in the order of the fields.

    Attributes:
        steps: Execution states since the last report, oldest first.
        started: The program runs.
        exit: How it ended.
        warnings: For the owner of the task.
        artifacts: Uploaded outputs.
        committed: Nothing more will come: end the task, free the slot.
        handed_back: The attempt was stopped by the worker's own doing, for this reason; requeue
            it without counting a loss.
        fault: The attempt ended by a fault of the worker; requeue it, counted.
        before_start: The fault is the worker's alone, as no program was started yet: not counted.
            After some of them in a row the worker is paused.
        cut_short: With `committed`: a cancel has ended the upload of the outputs.
        unstored: With `committed`: which output could not be stored, and why.
        by_task: The likely cause of the fault is the task itself, so the worker is not blamed.
    """

    task: str
    group: str
    attempt: int
    steps: list[AgedStep] = []
    started: bool = False
    exit: Exit | None = None
    warnings: list[str] = []
    artifacts: list[StoredArtifact] = []
    committed: bool = False
    handed_back: str = ""
    fault: str = ""
    before_start: bool = False
    cut_short: bool = False
    unstored: str = ""
    by_task: bool = False


class Reports(msgspec.Struct):
    """What happened since the last report, oldest first; at most 256. `leaving`: see Renew."""

    reports: list[TaskReport]
    leaving: str = ""


class Verdicts(msgspec.Struct):
    """One code per report: empty when accepted, else the code of the error.

    `conflict.stale_attempt` means: the attempt is not this worker's any more, drop it.
    `unavailable.objects`: the store has not told of the artifacts yet, send that report again. Any
    other code concerns that report alone.
    """

    codes: list[str]
    term: int = 0


class UploadWanted(msgspec.Struct):
    """Ask for a place to upload an output; `size_bytes` is reserved against the quota."""

    task: str
    group: str
    attempt: int
    kind: ArtifactKind
    size_bytes: int


class UploadGranted(msgspec.Struct, omit_defaults=True):
    """Presigned PUT of exactly the declared size, valid for a while. The URL is a secret.

    `url` empty: it is sent in `parts` of `part_bytes` each but the last; ask for their URLs.
    """

    object_name: str
    url: str
    expires_in_seconds: float
    parts: int = 0
    part_bytes: int = 0

    def __repr__(self) -> str:
        return f"UploadGranted(object_name={self.object_name!r})"


class PartsWanted(msgspec.Struct):
    """Ask for URLs of the parts from number `first` (counted from 1) on."""

    object_name: str
    first: int


class SecretsWanted(msgspec.Struct):
    """Ask for the values of the secret variables of a live attempt."""

    task: str
    attempt: int


class Secrets(msgspec.Struct, omit_defaults=True):
    """By name. `missing`: why there are none, and the attempt cannot start."""

    values: dict[str, str] = {}
    missing: str = ""

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self.values)})"


class Leave(msgspec.Struct, omit_defaults=True):
    """Goodbye: nothing that this worker ran is alive.

    `died`: said by its guardian, since the worker's process died; what it held counts as lost.
    """

    reason: str = ""
    died: bool = False


class Assignment(msgspec.Struct, omit_defaults=True):
    """Run this. Stored as TaskAssigned before it was pushed."""

    task: str
    group: str
    attempt: int
    lease_seconds: float
    spec: TaskSpec
    term: int = 0


class CancelAttempt(msgspec.Struct, tag="cancel", omit_defaults=True):
    """Stop the attempt: its stop signal, grace, SIGKILL; then report as usual.

    `grace_seconds` None and `stop_signal` empty: what the task asks for. May come again: it can
    shorten the grace, and send another signal. While outputs are uploaded, it ends that, those of
    a program that it has stopped only if it is sharper than before: KILL, or a shorter grace.
    """

    task: str
    attempt: int
    grace_seconds: float | None = None
    stop_signal: str = ""


class Drain(msgspec.Struct, tag="drain", omit_defaults=True):
    """Take nothing new, finish, leave. `force`: hand the tasks back at once."""

    force: bool = False
    reason: str = ""


class Resync(msgspec.Struct, tag="resync"):
    """Renew at once: a new coordinator has taken over, or it missed a message."""


class Resize(msgspec.Struct, tag="resize"):
    """Run so many tasks at once from now on; renewals say it too, should this be missed."""

    slots: int


class Resumed(msgspec.Struct, tag="resumed"):
    """It was resumed: make a work folder that is gone anew, before tasks come."""


Control = CancelAttempt | Drain | Resync | Resize | Resumed | FollowOutput
