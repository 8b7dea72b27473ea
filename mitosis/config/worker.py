"""Settings of a worker: `[worker]`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from mitosis.config.checks import (
    check_log_level,
    check_words,
    choice_check,
    duration_check,
    range_check,
    url_check,
)
from mitosis.config.client import DEFAULT_COORDINATOR, ClientConfig
from mitosis.config.section import Section
from mitosis.config.trust import INSECURE_WARNING
from mitosis.domain.limits import MAX_SLOTS, MAX_TIMEOUT_SECONDS
from mitosis.domain.roles import Role


class WorkerConfig(Section, frozen=True, kw_only=True):
    """What a worker needs; the defaults are those of the seed.

    Attributes:
        coordinator_addr: `http://` (asked for the NATS address) or `nats://`.
        polling_interval: How often it asks whether it missed something; work is pushed.
        heartbeat_interval: Longest time between two renewals of its lease.
        lifetime: After this it takes nothing new, finishes what it runs, and leaves; unset: the
            coordinator's `access_token_expires_in`.
        upload_timeout: Longest time for packing and sending the outputs of one task; what is not
            stored by then is a warning on the task.
        credential_path: File of stored sessions; unset: `credentials` in the settings folder.
        user: Who registers it; unset: the first one of the credential file.
        password: Used to log in when there is no valid session.
        password_file: File whose first line is the password; `password` counts more.
        retain: Nothing more than without it: a log-in never ends other sessions.
        skip_redis: Accepted and not used: live states travel on NATS.
        groups: Role that each group gets on this worker, Write unless said; the user's own group
            always has Admin. Needs Write in each of them.
        tags: What it can do; it runs only tasks that have them all.
        slots: How many tasks it runs at once.
        work_dir: Folder of the tasks' private folders; unset: one in the data folder.
        isolate: `pid`: run all tasks in a PID namespace, where the kernel ends them whatever is
            killed; `none`: do without.
        run_as: User that tasks run as, when the worker is root; unset: as the worker.
        inherit_env: Names of variables of the worker's environment that tasks get as well.
        coordinator_ca: Certificate of the authority that signed the coordinator's, for `https://`;
            also used for NATS (`tls://`) and S3 where these have none of their own.
        nats_ca: Certificate of the authority that signed the NATS server's.
        s3_ca: Certificate of the authority that signed the S3 store's.
        insecure: Do not check certificates: for a trial only.
        file_log: Write a log file as well.
        shared_log: One default log file for all workers of the user on this machine, begun anew
            each day, in the place of one for each worker.
        log_path: Exact log file; unset with `file_log`: a default one in the cache folder.
        log_level: What is logged to standard error: a level, or `info,mitosis.nats=debug`.
        file_log_level: The same for the log file; unset: as `log_level`.
    """

    SECTION: ClassVar[str] = "worker"
    SECRETS: ClassVar[frozenset[str]] = frozenset({"password"})
    URLS: ClassVar[frozenset[str]] = frozenset({"coordinator_addr"})
    CHECKS: ClassVar[dict[str, Callable[[Any], None]]] = {
        "coordinator_addr": url_check("http", "https", "nats", "tls", "ws", "wss"),
        "polling_interval": duration_check(0.05, MAX_TIMEOUT_SECONDS),
        "heartbeat_interval": duration_check(0.05, MAX_TIMEOUT_SECONDS),
        "lifetime": duration_check(0.001, MAX_TIMEOUT_SECONDS),
        "upload_timeout": duration_check(0.05, MAX_TIMEOUT_SECONDS),
        "tags": check_words("tags"),
        "labels": check_words("labels"),
        "slots": range_check(1, MAX_SLOTS),
        "isolate": choice_check("none", "pid"),
        "log_level": check_log_level,
        "file_log_level": check_log_level,
    }

    coordinator_addr: str = DEFAULT_COORDINATOR
    polling_interval: timedelta = timedelta(minutes=3)
    heartbeat_interval: timedelta = timedelta(minutes=5)
    lifetime: timedelta | None = None
    upload_timeout: timedelta = timedelta(minutes=10)
    credential_path: Path | None = None
    user: str | None = None
    password: str | None = None
    password_file: Path | None = None
    retain: bool = False
    skip_redis: bool = False
    groups: dict[str, Role] = {}
    tags: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    slots: int = 1
    work_dir: Path | None = None
    isolate: str = "none"
    run_as: str | None = None
    inherit_env: tuple[str, ...] = ()
    coordinator_ca: Path | None = None
    nats_ca: Path | None = None
    s3_ca: Path | None = None
    insecure: bool = False
    file_log: bool = False
    shared_log: bool = False
    log_path: Path | None = None
    log_level: str = "info"
    file_log_level: str | None = None

    def as_client(self) -> ClientConfig:
        """Return the settings of the user who registers it."""
        return ClientConfig(
            coordinator_addr=self.coordinator_addr,
            credential_path=self.credential_path,
            user=self.user,
            password=self.password,
            password_file=self.password_file,
            coordinator_ca=self.coordinator_ca,
            nats_ca=self.nats_ca,
            s3_ca=self.s3_ca,
            insecure=self.insecure,
        )

    def warnings(self) -> list[str]:
        """Return a sentence for each setting that does not do what its owner may expect."""
        return [INSECURE_WARNING] if self.insecure else []
