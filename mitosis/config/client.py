"""Settings of the client, `[client]`, and the arguments of its commands.

The names are the seed's (`netmito::config::client`).
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from mitosis.config.checks import check_address
from mitosis.config.section import Section
from mitosis.config.trust import INSECURE_WARNING
from mitosis.domain import retry
from mitosis.domain.durations import parse_duration
from mitosis.domain.execution import ExecutionState
from mitosis.domain.limits import DEFAULT_MAX_LOSSES
from mitosis.domain.resources import DEFAULT_GRACE_SECONDS, DEFAULT_STOP_SIGNAL
from mitosis.domain.retry import ALL_CAUSES, DEFAULT_DELAY_SECONDS, RetryCause
from mitosis.domain.roles import Role
from mitosis.domain.task import DEFAULT_TIMEOUT_SECONDS, Outcome, TaskState
from mitosis.domain.user import UserPhase
from mitosis.errors import InvalidInput

DEFAULT_COORDINATOR = "http://127.0.0.1:5000"
DEFAULT_PAGE = 50


class ClientConfig(Section, frozen=True, kw_only=True):
    """What a client needs; every field has a default.

    A text is taken for a path, and one with a unit, such as `10s`, for `timeout`; a value of
    another kind raises InvalidInput.

    Attributes:
        coordinator_addr: `http://` (asked for the NATS address) or `nats://`.
        credential_path: File of stored sessions; unset: `credentials` in the settings folder.
        user: Who acts; unset: the first one of the credential file.
        password: Used to log in when there is no valid session.
        password_file: File whose first line is the password; `password` counts more.
        timeout: How long one request may take, with connecting and all its repetitions.
        coordinator_ca: Certificate of the authority that signed the coordinator's, for `https://`;
            also used for NATS (`tls://`) and S3 where these have none of their own.
        nats_ca: Certificate of the authority that signed the NATS server's.
        s3_ca: Certificate of the authority that signed the S3 store's.
        insecure: Do not check certificates: for a trial only.
    """

    SECTION: ClassVar[str] = "client"
    SECRETS: ClassVar[frozenset[str]] = frozenset({"password"})
    URLS: ClassVar[frozenset[str]] = frozenset({"coordinator_addr"})
    CHECKS: ClassVar[dict[str, Callable[[Any], None]]] = {
        "coordinator_addr": check_address,
    }

    coordinator_addr: str = DEFAULT_COORDINATOR
    credential_path: Path | None = None
    user: str | None = None
    password: str | None = None
    password_file: Path | None = None
    timeout: timedelta = timedelta(seconds=30)
    coordinator_ca: Path | None = None
    nats_ca: Path | None = None
    s3_ca: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        """Take what a program gives as well as what a file says."""
        for name in ("coordinator_addr", "user", "password"):
            given: Any = getattr(self, name)
            if not isinstance(given, str) and (given is not None or name == "coordinator_addr"):
                raise InvalidInput(f"{name} is of the kind {type(given).__name__}: give a text")
        for name in ("credential_path", "password_file", "coordinator_ca", "nats_ca", "s3_ca"):
            given = getattr(self, name)
            if isinstance(given, str):
                force_setattr(self, name, Path(given))
            elif given is not None and not isinstance(given, Path):
                raise InvalidInput(f"{name} is {given!r}: give a path")
        given = self.timeout
        if isinstance(given, str):
            force_setattr(self, "timeout", timedelta(seconds=parse_duration(given)))
        elif not isinstance(given, timedelta):
            raise InvalidInput(
                f"timeout is {given!r}: give a timedelta, or a text with a unit such as '30s'"
            )

    @classmethod
    def load(cls, config: Path | None = None, **given: Any) -> "ClientConfig":
        """Return the settings as `mito client` has them: files, then MITO_* variables.

        Args:
            config: A file in the place of ./config.toml.
            given: Values of fields that count more than all of these; None: not given.

        Raises:
            Misconfigured: A file cannot be read, a key is unknown, a value cannot work.
        """
        from mitosis.config.loader import load
        from mitosis.config.secret_file import without_weaker_password

        return without_weaker_password(load(cls, config=config, flags=given))

    def warnings(self) -> list[str]:
        """Return a sentence for each setting that does not do what its owner may expect."""
        return [INSECURE_WARNING] if self.insecure else []


class CreateUserArgs(msgspec.Struct, kw_only=True):
    """A new account. Needs a platform administrator."""

    username: str
    password: str
    admin: bool = False

    def __repr__(self) -> str:
        return f"CreateUserArgs(username={self.username!r}, admin={self.admin})"


class GetUsersArgs(msgspec.Struct, kw_only=True):
    """Filters; each given one must hold. `admins`: only platform administrators."""

    prefix: str = ""
    states: tuple[UserPhase, ...] = ()
    admins: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0


class WatchArgs(msgspec.Struct):
    """What a task waits for before it may run.

    Attributes:
        task: The task that is watched, in any of the short forms.
        state: The execution state that it has to reach, such as `ExecSpawned`.
        timeout: How long to wait, as a timedelta or a text such as `30min`; None: as long as it
            takes.
    """

    task: str
    state: ExecutionState | str
    timeout: timedelta | str | None = None


class SubmitTaskArgs(msgspec.Struct, kw_only=True):
    """A task.

    Attributes:
        command: The program and its arguments; no shell is involved.
        group: Empty: the user's own.
        timeout: Time limit of one attempt, as a timedelta or a text such as `30min`.
        terminal: Keep standard output and error as the artifact `std-log`.
        key: Idempotency key: the same key with the same content is the same task. Empty: a
            random one.
        watch: Wait for another task first; None: run as soon as there is a worker.
        memory: Most memory of all its processes, in bytes or as a text such as `2GiB`; None: what
            the worker lets tasks have. So for the other limits.
        cpu_time: Most CPU time of all its processes, as a timedelta or a text such as `10min`.
        processes: Most processes and threads at a time.
        open_files: Most open files of each process.
        file_size: Largest file that it may write, in bytes or as a text.
        stop_signal: What asks it to stop at a timeout or cancel, such as `INT`.
        grace: Time between that and the kill, as a timedelta or a text.
        retries: How many more attempts follow failed ones; 0: it runs once; `UNLIMITED`: no limit.
        retry_on: After which failures, of `exit` (a code other than 0), `timeout` and `signal`.
        retry_delay: Wait before the first retry, as a timedelta or a text; it doubles each time.
        retry_max_delay: The longest wait; None: 5 minutes, or `retry_delay` if that is longer.
        max_losses: How many attempts may be lost with their workers; planned stops do not count.
        secret_envs: Variables that nobody sees but the running program: stored encrypted, shown
            nowhere, destroyed when the task ends.
    """

    command: tuple[str, ...]
    group: str = ""
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    envs: dict[str, str] = {}
    priority: int = 0
    timeout: timedelta | str = timedelta(seconds=DEFAULT_TIMEOUT_SECONDS)
    terminal: bool = False
    key: str = ""
    watch: WatchArgs | None = None
    memory: int | str | None = None
    cpu_time: timedelta | str | None = None
    processes: int | str | None = None
    open_files: int | str | None = None
    file_size: int | str | None = None
    stop_signal: str = DEFAULT_STOP_SIGNAL
    grace: timedelta | str = timedelta(seconds=DEFAULT_GRACE_SECONDS)
    retries: int | str = 0
    retry_on: tuple[RetryCause | str, ...] = ALL_CAUSES
    retry_delay: timedelta | str = timedelta(seconds=DEFAULT_DELAY_SECONDS)
    retry_max_delay: timedelta | str | None = None
    max_losses: int = DEFAULT_MAX_LOSSES
    secret_envs: dict[str, str] = {}

    def __repr__(self) -> str:
        return without_values(self)


class TaskEdits(msgspec.Struct, kw_only=True):
    """What is to be different in a specification; None leaves it as it is.

    Attributes:
        envs: All environment variables, in place of those that it had.
        tags: All tags; the empty tuple takes them away.
        watch: What to wait for; `NO_WATCH`: for nothing any more.
        memory, cpu_time, processes, open_files, file_size: As in `SubmitTaskArgs`; `NO_LIMIT`: no
            limit of its own any more.
        retries, retry_on, retry_delay, retry_max_delay: As in `SubmitTaskArgs`; a wait that has
            begun stays as it is.
        secret_envs: All secret variables, in place of those that it had; empty: none any more.
    """

    command: tuple[str, ...] | None = None
    envs: dict[str, str] | None = None
    tags: tuple[str, ...] | None = None
    priority: int | None = None
    timeout: timedelta | str | None = None
    terminal: bool | None = None
    watch: WatchArgs | None = None
    memory: int | str | None = None
    cpu_time: timedelta | str | None = None
    processes: int | str | None = None
    open_files: int | str | None = None
    file_size: int | str | None = None
    stop_signal: str | None = None
    grace: timedelta | str | None = None
    retries: int | str | None = None
    retry_on: tuple[RetryCause | str, ...] | None = None
    retry_delay: timedelta | str | None = None
    retry_max_delay: timedelta | str | None = None
    max_losses: int | None = None
    secret_envs: dict[str, str] | None = None

    def __repr__(self) -> str:
        return without_values(self)


def without_values(args: SubmitTaskArgs | TaskEdits) -> str:
    """Return what `repr` says of them: of secret variables the names alone."""
    parts = {**msgspec.structs.asdict(args)}
    if args.secret_envs:
        parts["secret_envs"] = dict.fromkeys(args.secret_envs, "***")
    return f"{type(args).__name__}({', '.join(f'{k}={v!r}' for k, v in parts.items())})"


class ChangeTaskArgs(TaskEdits, kw_only=True):
    """What to change of a task that has not started; None leaves it as it is.

    Attributes:
        task: In any of the short forms.
    """

    task: str


class RerunArgs(TaskEdits, kw_only=True):
    """In what reruns differ from the tasks that they repeat; None: in nothing.

    What the original waited for is not waited for again, unless `watch` says so. Its secret
    variables are not kept: it is refused if `secret_envs` leaves out one of them.

    Attributes:
        group: Where they are submitted to; empty: to the group of the original.
        labels: All labels; the empty tuple: none.
        set_envs: Environment variables to set, beside those of the original or of `envs`.
        unset_envs: Names of variables to leave out.
        secret_envs: Secret variables of each of the new tasks; empty: none, whatever the original
            had.
    """

    group: str = ""
    labels: tuple[str, ...] | None = None
    set_envs: dict[str, str] = {}
    unset_envs: tuple[str, ...] = ()


NO_WATCH = WatchArgs("", "")
"""In `ChangeTaskArgs`: wait for nothing any more."""


UNLIMITED: str = retry.UNLIMITED
"""As the number of retries: again and again until it succeeds or is cancelled."""


DEFAULT_MAX_EXTRACTED_BYTES = 100 * 1000**3
"""What an archive may unpack to unless more is allowed. Holes count as what they are read as."""


NO_LIMIT = "none"
"""As the value of a limit: none of the task's own."""


class Part(StrEnum):
    """What two runs are compared by."""

    SPECIFICATION = "specification"
    ENVIRONMENT = "environment"
    OUTCOME = "outcome"
    ARTIFACTS = "artifacts"
    LABELS = "labels"
    WORKER = "worker"
    ATTEMPTS = "attempts"
    TIMES = "times"


COUNTED_PARTS = frozenset({Part.SPECIFICATION, Part.ENVIRONMENT, Part.OUTCOME, Part.ARTIFACTS})
"""What was run and what came of it. The rest, circumstances, is shown and makes no run another."""


class WaitUntil(StrEnum):
    """When a wait for tasks is over."""

    ALL = "all"
    ANY = "any"
    FAILURE = "failure"
    """All have ended, or one of them has not succeeded."""


class GetTasksArgs(msgspec.Struct, kw_only=True):
    """Filters; each given one must hold. `group` empty: the user's own.

    Attributes:
        creators, states, outcomes: Any of them.
        tags, labels: All of them.
        exit_status, priority: Conditions on numbers, such as `!=0` or `>=5`.
        before: Only tasks with a smaller number, to go on where a list ended; 0: all.
        limit, offset: How many of the newest, and how many newer ones to leave out first.
        count_only: No tasks, only how many there are.
        as_of: What the answer was at this time or position of the stream; None: what it is now.
    """

    group: str = ""
    creators: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    states: tuple[TaskState | str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    exit_status: str = ""
    priority: str = ""
    before: int = 0
    limit: int = DEFAULT_PAGE
    offset: int = 0
    count_only: bool = False
    as_of: datetime | int | None = None


class GetEventsArgs(msgspec.Struct, kw_only=True):
    """Which part of the history; each given filter must hold.

    With `kind` and `name`: that of one thing, for those who may read it. With `group`: that of the
    tasks and attachments of a group, for those with a role in it. With kind `task` or `attachment`
    alone: that of those in all groups that the user has a role in. Else that of everything, for
    platform administrators.

    Attributes:
        kind: `task`, `worker`, `group`, `user`, `attachment` or `platform`.
        name: Of the thing; a task or a worker also in a short form.
        group: Of tasks and attachments.
        actor: As stored, such as `worker:<uuid>`; a name alone is that of a user.
        events: Any of these stored names, such as `task.cancelled`.
        command: Only what this command caused, by its id.
        after, until: Only positions behind the first and up to the second; 0: no bound.
        since, before: Only what was decided from the first to, excluding it, the second time.
        newest: Of more than `limit`, the last ones instead of the first.
    """

    kind: str = ""
    name: str = ""
    group: str = ""
    actor: str = ""
    events: tuple[str, ...] = ()
    command: str = ""
    after: int = 0
    until: int = 0
    since: datetime | None = None
    before: datetime | None = None
    newest: bool = False
    limit: int = DEFAULT_PAGE


class WatchTasksArgs(msgspec.Struct, kw_only=True):
    """Which tasks to watch, and from when on: named ones, or all of a group that match.

    Tags and labels are those that a task has at the moment, as far as the watch knows: as they are
    when it meets the task first, then as they are changed.

    Attributes:
        tasks: In any of the short forms; the watch ends when all of them have ended. With these
            no other filter but `states` and `outcomes`.
        group: Of the tasks; empty: the user's own.
        creators: Any of them.
        tags, labels: All of them.
        states, outcomes: Only changes to any of these, and no execution states.
        after: Only what is behind this position; 0: from the beginning; None: from now on, unless
            `since` is given.
        since: Only what was decided at this time or later.
    """

    tasks: tuple[str, ...] = ()
    group: str = ""
    creators: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    states: tuple[TaskState | str, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    after: int | None = None
    since: datetime | None = None


class GetAttachmentsArgs(msgspec.Struct, kw_only=True):
    """Filters, taken literally; each given one must hold. `group` empty: the user's own.

    In the order of the bytes of the keys; `after`: only keys behind this one; `as_of`: what the
    answer was at this time or position of the stream.
    """

    group: str = ""
    prefix: str = ""
    contains: str = ""
    after: str = ""
    limit: int = DEFAULT_PAGE
    offset: int = 0
    as_of: datetime | int | None = None


class GetWorkersArgs(msgspec.Struct, kw_only=True):
    """Filters; each given one must hold. `group` empty: the user's own.

    Attributes:
        roles: Of the group on the worker, any of these; empty: any.
        tags, labels: The worker has them all.
        creator: Who registered it.
        all: Also workers that are gone.
        as_of: What the answer was at this time or position of the stream; None: what it is now.
    """

    group: str = ""
    roles: tuple[Role, ...] = ()
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    creator: str = ""
    all: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0
    as_of: datetime | int | None = None
