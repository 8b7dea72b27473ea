"""What a platform of one machine is told, and what it tells when it serves."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from mitosis.services.platform.credentials import Credentials
from mitosis.services.platform.folder import DataFolder
from mitosis.services.platform.service_config import Addresses


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A program of ours that the supervisor keeps running."""

    name: str
    command: tuple[str, ...]
    stop_seconds: float = 15.0
    """How long it may take to end after SIGTERM."""
    after: "ReadyCheck | None" = None
    """It is not started before this says yes."""
    ends_platform: bool = False
    """When it ends with status 0, it was told to, and the platform is to end with it."""


class RunningPlatform(msgspec.Struct, frozen=True, kw_only=True):
    """What the children and the ready check get to know; never printed as a whole."""

    folder: DataFolder
    addresses: Addresses
    credentials: Credentials


ReadyCheck = Callable[[RunningPlatform], Awaitable[bool]]
"""Answers whether the coordinator serves and all workers are registered."""


class ReadyNotice(msgspec.Struct, frozen=True, kw_only=True):
    """The one JSON object of the ready file."""

    nats: str
    http: str
    admin_user: str
    admin_password_file: str
    data: str


class PlatformSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a platform on one machine is told.

    `preferred_nats_port` and `preferred_http_port` are taken at the first start if they are free;
    None: any. Later starts take the ports of the last run. `nats_port` and `http_port` are taken
    whatever was taken before, or the start fails.
    """

    data: Path
    ready_check: ReadyCheck
    coordinator_check: ReadyCheck | None = None
    """Whether the coordinator serves: workers are started when it does."""
    workers: int = 1
    worker_slots: int = 1
    worker_tags: tuple[tuple[str, ...], ...] = ()
    """Tags of each worker, the first ones first; workers beyond the list have none."""
    preferred_nats_port: int | None = 4222
    preferred_http_port: int | None = 5000
    nats_port: int | None = None
    http_port: int | None = None
    ready_file: Path | None = None
    ready_seconds: float = 60.0
    """How long the platform may take until the ready check says yes."""
    sync_always: bool = True
    children: Callable[[RunningPlatform], Sequence[Child]] | None = None
    """What to run beside the servers, in the order of the start; None: coordinator and workers."""
    reset_admin_password: bool = False
    """Let the coordinator set the password of the data folder anew, at each of its starts."""
    on_ready: Callable[[ReadyNotice], None] | None = None
