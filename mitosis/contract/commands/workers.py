"""Commands about workers."""

import msgspec

from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.roles import Role


class RegisterWorker(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Write in every group named. `groups` empty: the user's own group.

    Attributes:
        lifetime_seconds: It leaves after this, once what it runs has ended; None: as long as a
            session lives.
        machine, boot: Identity of the machine and of its present boot.
        folder: The locked work folder; taking it over proves that its former worker is dead.
        guarantees: What the machine can promise for tasks, a sentence each.
        default_limits: What holds for tasks that ask for no limit.
        ceilings: What holds for all tasks; those that ask for more are not given to it.
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
    guarantees: tuple[str, ...] = ()
    default_limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS


class Registered(msgspec.Struct):
    """`token` is what the worker's own connection presents; keep it as a secret.

    `lifetime_seconds`: how long the worker may live; then it takes nothing new and leaves.
    """

    worker: str
    token: str
    lease_seconds: float
    renew_seconds: float
    roles: dict[str, Role]
    lifetime_seconds: float = 0.0

    def __repr__(self) -> str:
        return f"Registered(worker={self.worker!r})"


class DrainWorker(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Admin on the worker. `force`: hand tasks back at once."""

    worker: str
    force: bool = False
    reason: str = ""


class ReplaceWorkerTags(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Admin on the worker. Empty: it has no tags any more, and runs tasks of any tags."""

    worker: str
    tags: tuple[str, ...] = ()


class ReplaceWorkerLabels(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Admin on the worker."""

    worker: str
    labels: tuple[str, ...] = ()


class GrantWorkerRoles(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Admin on the worker, and Write in every group named; roles of other groups stay."""

    worker: str
    roles: dict[str, Role]


class RemoveWorkerRoles(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Admin on the worker. What runs for these groups is finished."""

    worker: str
    groups: tuple[str, ...]


class ChangeWorkerSlots(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Admin on the worker. What runs is finished, also beyond fewer slots."""

    worker: str
    slots: int


class PauseWorker(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Admin on the worker: it is given nothing until it is resumed; what runs goes on."""

    worker: str
    reason: str = ""


class ResumeWorker(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Admin on the worker."""

    worker: str


class WorkerChanged(msgspec.Struct):
    """What was asked is stored; `changed` is False when the worker was so already."""

    worker: str
    changed: bool = True
