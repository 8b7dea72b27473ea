"""Reads of workers."""

from datetime import datetime

import msgspec

from mitosis.contract.queries.pages import DEFAULT_PAGE
from mitosis.domain.roles import Role


class GetWorker(msgspec.Struct):
    """`worker`: UUID or a unique prefix of at least 6 characters."""

    worker: str


class WorkerView(msgspec.Struct):
    """One worker as it is now."""

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


class ListWorkers(msgspec.Struct, omit_defaults=True):
    """`group` empty: the user's own group. Workers that are gone are left out unless `all`."""

    group: str = ""
    tags: tuple[str, ...] = ()
    all: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0


class WorkerPage(msgspec.Struct):
    """`total` counts all that match."""

    workers: list[WorkerView]
    total: int
