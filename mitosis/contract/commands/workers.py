"""Commands about workers."""

import msgspec

from mitosis.domain.roles import Role


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
