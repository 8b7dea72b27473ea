"""Settings of a worker: `[worker]`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from mitosis.config.checks import check_log_level, range_check, url_check
from mitosis.config.client import DEFAULT_COORDINATOR
from mitosis.config.section import Section
from mitosis.domain.limits import MAX_SLOTS
from mitosis.domain.roles import Role


class WorkerConfig(Section, frozen=True, kw_only=True):
    """What a worker needs; the defaults are those of the seed.

    Attributes:
        coordinator_addr: `http://` (asked for the NATS address) or `nats://`.
        polling_interval: How often it asks whether it missed something; work is pushed.
        heartbeat_interval: Longest time between two renewals of its lease.
        lifetime: It leaves after this; unset: when its session ends.
        groups: Role that each group gets on this worker; empty: the user's own group.
        tags: What it can do; it runs only tasks that have them all.
        slots: How many tasks it runs at once.
        work_dir: Folder of the tasks' private folders; unset: one in the data folder.
        coordinator_ca: Certificate of the authority that signed the coordinator's, for `https://`;
            also used for NATS (`tls://`) and S3 where these have none of their own.
        nats_ca: Certificate of the authority that signed the NATS server's.
        s3_ca: Certificate of the authority that signed the S3 store's.
        insecure: Do not check certificates: for a trial only.
        log_level: What is logged to standard error: a level, or `info,mitosis.nats=debug`.
        file_log_level: The same for the log file; unset: as `log_level`.
    """

    SECTION: ClassVar[str] = "worker"
    SECRETS: ClassVar[frozenset[str]] = frozenset({"password"})
    URLS: ClassVar[frozenset[str]] = frozenset({"coordinator_addr"})
    CHECKS: ClassVar[dict[str, Callable[[Any], None]]] = {
        "coordinator_addr": url_check("http", "https", "nats", "tls", "ws", "wss"),
        "slots": range_check(1, MAX_SLOTS),
        "log_level": check_log_level,
        "file_log_level": check_log_level,
    }

    coordinator_addr: str = DEFAULT_COORDINATOR
    polling_interval: timedelta = timedelta(minutes=3)
    heartbeat_interval: timedelta = timedelta(minutes=5)
    lifetime: timedelta | None = None
    credential_path: Path | None = None
    user: str | None = None
    password: str | None = None
    groups: dict[str, Role] = {}
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    slots: int = 1
    work_dir: Path | None = None
    coordinator_ca: Path | None = None
    nats_ca: Path | None = None
    s3_ca: Path | None = None
    insecure: bool = False
    file_log: bool = False
    log_path: Path | None = None
    log_level: str = "info"
    file_log_level: str | None = None
