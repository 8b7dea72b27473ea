"""Commands of a user: `mito.cmd.<user>.<noun>.<verb>`, and their results.

| noun.verb | body | result |
|---|---|---|
| user.create | CreateUser | Done |
| group.create | CreateGroup | Done |
| task.submit | SubmitTask | Submitted |
| task.submit_many | SubmitMany | SubmittedMany |
| task.cancel | CancelTask | Cancelled |
| worker.register | RegisterWorker | Registered |
| worker.drain | DrainWorker | Done |
| session.revoke | RevokeSession | Done |
"""

import msgspec

from mitosis.contract.wire import ErrorBody
from mitosis.domain.roles import Role
from mitosis.domain.task import DEFAULT_TIMEOUT_SECONDS


class Done(msgspec.Struct):
    """The command is stored; `changed` is False when nothing had to be done."""

    changed: bool = True


class CreateUser(msgspec.Struct):
    """Needs a platform administrator. The password travels to the coordinator only."""

    username: str
    password: str
    admin: bool = False

    def __repr__(self) -> str:
        return f"CreateUser(username={self.username!r}, admin={self.admin})"


class CreateGroup(msgspec.Struct):
    """The one who creates it becomes Admin."""

    name: str


class SubmitTask(msgspec.Struct, omit_defaults=True):
    """Needs Write in the group; `group` empty: the user's own.

    The same `key` with the same content is the same task; with another content a conflict.
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


class Submitted(msgspec.Struct, omit_defaults=True):
    """`number` counts in the group. `runnable` False: no registered worker can run it now."""

    task: str
    group: str
    number: int
    runnable: bool = True


class SubmitMany(msgspec.Struct):
    """At most 1000 submits; each is decided on its own."""

    tasks: list[SubmitTask]


class SubmitResult(msgspec.Struct, omit_defaults=True):
    """Exactly one of the two is there."""

    submitted: Submitted | None = None
    error: ErrorBody | None = None


class SubmittedMany(msgspec.Struct):
    """In the order of the request."""

    results: list[SubmitResult]


class CancelTask(msgspec.Struct, omit_defaults=True):
    """Needs Write in the task's group. `task` is a full UUID."""

    task: str
    reason: str = ""


class Cancelled(msgspec.Struct):
    """`ended` False: it runs and is being stopped."""

    task: str
    ended: bool


class RegisterWorker(msgspec.Struct, omit_defaults=True):
    """Needs Write in every group named. `groups` empty: the user's own group.

    Attributes:
        machine, boot: Identity of the machine and of its present boot.
        folder: The locked work folder; taking it over proves that its former worker is dead.
    """

    groups: dict[str, Role] = {}
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    slots: int = 1
    machine: str = ""
    boot: str = ""
    folder: str = ""
    host: str = ""
    version: str = ""
    lifetime_seconds: float | None = None


class Registered(msgspec.Struct):
    """`token` is what the worker's own connection presents; keep it as a secret."""

    worker: str
    token: str
    lease_seconds: float
    renew_seconds: float
    roles: dict[str, Role]

    def __repr__(self) -> str:
        return f"Registered(worker={self.worker!r})"


class DrainWorker(msgspec.Struct, omit_defaults=True):
    """Needs Admin on the worker. `force`: hand tasks back at once."""

    worker: str
    force: bool = False
    reason: str = ""


class RevokeSession(msgspec.Struct, omit_defaults=True):
    """End one of one's own sessions; `session` empty: all of them."""

    session: str = ""
