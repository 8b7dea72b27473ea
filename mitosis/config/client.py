"""Settings of the client, `[client]`, and the arguments of its commands.

The names are the seed's (`netmito::config::client`).
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from mitosis.config.checks import url_check
from mitosis.config.section import Section
from mitosis.domain.task import DEFAULT_TIMEOUT_SECONDS, ArtifactKind, Outcome, TaskState
from mitosis.domain.user import UserPhase

DEFAULT_COORDINATOR = "http://127.0.0.1:5000"
DEFAULT_PAGE = 50


class ClientConfig(Section, frozen=True, kw_only=True):
    """What a client needs; every field has a default.

    Attributes:
        coordinator_addr: `http://` (asked for the NATS address) or `nats://`.
        credential_path: File of stored sessions; unset: `credentials` in the settings folder.
        user: Who acts; unset: the first one of the credential file.
        password: Used to log in when there is no valid session.
        password_file: File whose first line is the password; `password` counts more.
        timeout: How long one request may take, with all its repetitions.
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
        "coordinator_addr": url_check("http", "https", "nats", "tls", "ws", "wss"),
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


class CreateGroupArgs(msgspec.Struct):
    """A new group; the one who creates it becomes Admin."""

    name: str


class SubmitTaskArgs(msgspec.Struct, kw_only=True):
    """A task.

    Attributes:
        command: The program and its arguments; no shell is involved.
        group: Empty: the user's own.
        timeout: Time limit of one attempt.
        terminal: Keep standard output and error as the artifact `std-log`.
        key: Idempotency key: the same key with the same content is the same task. Empty: a
            random one.
    """

    command: tuple[str, ...]
    group: str = ""
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    envs: dict[str, str] = {}
    priority: int = 0
    timeout: timedelta = timedelta(seconds=DEFAULT_TIMEOUT_SECONDS)
    terminal: bool = False
    key: str = ""


class GetTaskArgs(msgspec.Struct):
    """`task`: UUID, unique prefix of 6 characters or more, `last`, or `GROUP#12`."""

    task: str


class GetTasksArgs(msgspec.Struct, kw_only=True):
    """Filters; each given one must hold. `group` empty: the user's own."""

    group: str = ""
    creator: str = ""
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    states: tuple[TaskState, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    limit: int = DEFAULT_PAGE
    offset: int = 0


class CancelTaskArgs(msgspec.Struct):
    """`task` in any of the short forms."""

    task: str
    reason: str = ""


class GetArtifactArgs(msgspec.Struct):
    """`output`: a file, or a folder that gets `result.tar.gz` and the like; None: here."""

    task: str
    kind: ArtifactKind
    output: Path | None = None


class GetWorkersArgs(msgspec.Struct, kw_only=True):
    """Filters. `group` empty: the user's own. `all`: also workers that are gone."""

    group: str = ""
    tags: tuple[str, ...] = ()
    all: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0


class CancelWorkerArgs(msgspec.Struct):
    """Stop a worker: it finishes its tasks, or hands them back at once with `force`."""

    worker: str
    force: bool = False
    reason: str = ""
