"""Reads of workers."""

from datetime import datetime

import msgspec

from mitosis.contract.queries.pages import DEFAULT_PAGE, AsOf
from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.roles import Role


class GetWorker(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """`worker`: UUID or a unique prefix of at least 6 characters."""

    worker: str
    as_of: AsOf = None


class WorkerView(msgspec.Struct):
    """One worker as it is now.

    Attributes:
        state: `normal`, `draining`, `paused`, `unreachable` (in place of these three, while it is
            not connected) or `gone`.
        roles: Of the groups that the asker may see.
        tasks: What it runs, of these groups.
        reason: Why it is in this state; empty when there is nothing to say.
        last_heartbeat_at: When the coordinator heard it last; None: nobody knows just now, or
            the past was asked for. As `unreachable` it is no event, so no past has it.
        guarantees: What its machine can promise for tasks, found out at its start; a sentence each.
        default_limits: What holds for tasks that do not ask for a limit.
        ceilings: What holds for all tasks; those that ask for more are not given to it.
    """

    uuid: str
    owner: str
    state: str
    roles: dict[str, Role]
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    slots: int
    tasks: list[str]
    host: str
    version: str
    created_at: datetime
    updated_at: datetime
    reason: str
    last_heartbeat_at: datetime | None = None
    guarantees: tuple[str, ...] = ()
    default_limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS


class ListWorkers(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Filters; each given one must hold. `group` empty: the user's own group.

    Attributes:
        roles: Of the group on the worker, any of these; empty: any.
        tags, labels: The worker has them all.
        creator: Who registered it.
        all: Also workers that are gone.
    """

    group: str = ""
    roles: tuple[Role, ...] = ()
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    creator: str = ""
    all: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0
    as_of: AsOf = None


class WorkerPage(msgspec.Struct):
    """The oldest first. `total` counts all that match, `group` is the one that was asked for."""

    workers: list[WorkerView]
    total: int
    group: str = ""
