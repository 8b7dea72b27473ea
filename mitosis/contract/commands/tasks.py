"""Commands about tasks."""

from typing import Any

import msgspec

from mitosis.contract.wire import ErrorBody
from mitosis.domain.limits import DEFAULT_MAX_LOSSES
from mitosis.domain.resources import (
    DEFAULT_GRACE_SECONDS,
    DEFAULT_STOP_SIGNAL,
    NO_LIMITS,
    Limits,
)
from mitosis.domain.retry import NO_RETRY, Retry, RetryCause, Times
from mitosis.domain.task import DEFAULT_TIMEOUT_SECONDS, TaskSpec


class WatchWanted(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Wait until a task has reached an execution state; needs Read in its group.

    `timeout_seconds` 0: for as long as it takes.
    """

    task: str
    state: str
    timeout_seconds: float = 0.0


class SubmitTask(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Write in the group; `group` empty: the user's own.

    The same `key` with the same content is the same task; with another content a conflict.
    `secret_env`: variables whose values only the running program sees.
    `stop_signal`: a name such as `INT`; `grace_seconds`: the time between it and the kill.
    `max_losses`: so many attempts may be lost with their workers. `rerun_of`: the full UUID of the
    task that it repeats, which the user must be allowed to see.
    """

    argv: tuple[str, ...]
    key: str
    group: str = ""
    env: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    priority: int = 0
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    terminal: bool = False
    watch: WatchWanted | None = None
    limits: Limits = NO_LIMITS
    stop_signal: str = DEFAULT_STOP_SIGNAL
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    retry: Retry = NO_RETRY
    max_losses: int = DEFAULT_MAX_LOSSES
    rerun_of: str = ""
    secret_env: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"SubmitTask(key={self.key!r}, group={self.group!r}, argv={self.argv!r})"


class Submitted(msgspec.Struct, omit_defaults=True):
    """`number` counts in the group. `runnable` False: no registered worker can run it now."""

    task: str
    group: str
    number: int
    runnable: bool = True


class SubmitMany(msgspec.Struct, forbid_unknown_fields=True):
    """At most 1000 submits; each is decided on its own."""

    tasks: list[SubmitTask]


class SubmitResult(msgspec.Struct, omit_defaults=True):
    """Exactly one of the two is there."""

    submitted: Submitted | None = None
    error: ErrorBody | None = None


class SubmittedMany(msgspec.Struct):
    """In the order of the request."""

    results: list[SubmitResult]


class CancelTask(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Write in the task's group. `task` is a full UUID.

    `stop_signal` and `grace_seconds` stop a running program in another way than its task says; with
    others than before, a task that is being stopped already is stopped so.
    """

    task: str
    reason: str = ""
    stop_signal: str = ""
    grace_seconds: float | None = None


class Cancelled(msgspec.Struct):
    """`ended` False: it runs and is being stopped."""

    task: str
    ended: bool


class ReplaceTaskLabels(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Write in the task's group; also after its end. `task` is a full UUID."""

    task: str
    labels: tuple[str, ...]


def given_fields(changed: msgspec.Struct) -> dict[str, Any]:
    """Return what is not left out of a struct, by field."""
    fields = msgspec.structs.asdict(changed).items()
    return {field: value for field, value in fields if value is not msgspec.UNSET}


class ChangedLimits(msgspec.Struct, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Limits to change; None: no limit any more, left out: as it is."""

    memory_bytes: int | msgspec.UnsetType | None = msgspec.UNSET
    cpu_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    processes: int | msgspec.UnsetType | None = msgspec.UNSET
    open_files: int | msgspec.UnsetType | None = msgspec.UNSET
    file_size_bytes: int | msgspec.UnsetType | None = msgspec.UNSET

    def of(self, limits: Limits) -> Limits:
        """Return these limits with what is changed of them."""
        given = given_fields(self)
        return msgspec.structs.replace(limits, **given) if given else limits


class ChangedRetry(msgspec.Struct, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of the retries; left out: as it is. `max_delay_seconds` None: the usual."""

    times: Times | msgspec.UnsetType = msgspec.UNSET
    causes: tuple[RetryCause, ...] | msgspec.UnsetType = msgspec.UNSET
    delay_seconds: float | msgspec.UnsetType = msgspec.UNSET
    max_delay_seconds: float | msgspec.UnsetType | None = msgspec.UNSET

    def of(self, retry: Retry) -> Retry:
        """Return these retries with what is changed of them."""
        given = given_fields(self)
        return msgspec.structs.replace(retry, **given) if given else retry


# What a change replaces as a whole.
_PLAIN_FIELDS = (
    "argv", "env", "tags", "priority", "timeout_seconds", "terminal", "stop_signal",
    "grace_seconds", "max_losses",
)  # fmt: skip


class ChangeTask(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Change what is given of a task that has not started; the rest stays.

    Needs Write in the task's group. `task` is a full UUID. None: as it is; `watch` None: wait for
    nothing any more. `secret_env` replaces all secret variables; empty: none any more.
    """

    task: str
    argv: tuple[str, ...] | None = None
    env: dict[str, str] | None = None
    tags: tuple[str, ...] | None = None
    priority: int | None = None
    timeout_seconds: float | None = None
    terminal: bool | None = None
    watch: WatchWanted | msgspec.UnsetType | None = msgspec.UNSET
    limits: ChangedLimits | None = None
    stop_signal: str | None = None
    grace_seconds: float | None = None
    retry: ChangedRetry | None = None
    max_losses: int | None = None
    secret_env: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"ChangeTask(task={self.task!r})"

    def of(self, spec: TaskSpec) -> TaskSpec:
        """Return a specification with what is changed of it; what it waits for stays."""
        given = {
            field: value for field in _PLAIN_FIELDS if (value := getattr(self, field)) is not None
        }
        if self.limits is not None:
            given["limits"] = self.limits.of(spec.limits)
        if self.retry is not None:
            given["retry"] = self.retry.of(spec.retry)
        return msgspec.structs.replace(spec, **given)


class EraseSecrets(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Destroy the key of a task's secret variables, for good. `task` is a full UUID.

    For whoever submitted it, Admins of its group and platform administrators.
    """

    task: str
    reason: str = ""


class Changed(msgspec.Struct, omit_defaults=True):
    """`changed` False: it was so already. `runnable`: as in Submitted."""

    task: str
    changed: bool
    runnable: bool = True
