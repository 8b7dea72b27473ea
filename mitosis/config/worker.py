"""Settings of a worker: `[worker]`."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

from mitosis.config.checks import (
    check_address,
    check_log_level,
    check_words,
    choice_check,
    duration_check,
    range_check,
)
from mitosis.config.client import DEFAULT_COORDINATOR, ClientConfig
from mitosis.config.section import Section
from mitosis.config.trust import INSECURE_WARNING
from mitosis.config.values import ByteSize, Slots
from mitosis.domain.limits import MAX_SIZE_BYTES, MAX_SLOTS, MAX_TIMEOUT_SECONDS
from mitosis.domain.resources import (
    MAX_OPEN_FILES,
    MAX_PROCESSES,
    MIN_MEMORY_BYTES,
    MIN_OPEN_FILES,
    Limits,
)
from mitosis.domain.roles import Role


def _limit_checks(limit: str, check: Callable[[Any], None]) -> dict[str, Callable[[Any], None]]:
    return {f"default_{limit}": check, f"max_{limit}": check}


class WorkerConfig(Section, frozen=True, kw_only=True):
    """What a worker needs; the defaults are those of the seed.

    Attributes:
        coordinator_addr: `http://` (asked for the NATS address) or `nats://`.
        polling_interval: How often it asks whether it missed something; work is pushed.
        heartbeat_interval: Longest time between two renewals of its lease.
        lifetime: After this it takes nothing new, finishes what it runs, and leaves; unset: the
            coordinator's `access_token_expires_in`.
        lifetime_grace: What still runs so long after the end of the lifetime is stopped and handed
            back, to run elsewhere; unset: it may finish.
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
        slots: How many tasks it runs at once; "auto": as many as there are cores.
        work_dir: Folder of the tasks' private folders; unset: one in the data folder.
        isolate: `pid`: run all tasks in a PID namespace, where the kernel ends them whatever is
            killed; `none`: do without.
        run_as: User that tasks run as, when the worker is root; unset: as the worker.
        inherit_env: Names of variables of the worker's environment that tasks get as well.
        default_memory: Memory, such as "2GiB", of a task that does not say; unset: no limit but
            `max_memory`. So for the other limits of tasks.
        max_memory: Memory of any task at most; a task that asks for more is not given to this
            worker. So for the other limits of tasks.
        default_cpu_time, max_cpu_time: CPU time of all processes of the task.
        default_processes, max_processes: Processes and threads at a time.
        default_open_files, max_open_files: Open files of each process.
        default_file_size, max_file_size: Size of each file that the task writes.
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
        "coordinator_addr": check_address,
        "polling_interval": duration_check(0.05, MAX_TIMEOUT_SECONDS),
        "heartbeat_interval": duration_check(0.05, MAX_TIMEOUT_SECONDS),
        "lifetime": duration_check(0.001, MAX_TIMEOUT_SECONDS),
        "lifetime_grace": duration_check(0.001, MAX_TIMEOUT_SECONDS),
        "upload_timeout": duration_check(0.05, MAX_TIMEOUT_SECONDS),
        "tags": check_words("tags"),
        "labels": check_words("labels"),
        "slots": range_check(1, MAX_SLOTS),
        **_limit_checks("memory", range_check(MIN_MEMORY_BYTES, MAX_SIZE_BYTES)),
        **_limit_checks("cpu_time", duration_check(0.001, MAX_TIMEOUT_SECONDS)),
        **_limit_checks("processes", range_check(1, MAX_PROCESSES)),
        **_limit_checks("open_files", range_check(MIN_OPEN_FILES, MAX_OPEN_FILES)),
        **_limit_checks("file_size", range_check(0, MAX_SIZE_BYTES)),
        "isolate": choice_check("none", "pid"),
        "log_level": check_log_level,
        "file_log_level": check_log_level,
    }

    coordinator_addr: str = DEFAULT_COORDINATOR
    polling_interval: timedelta = timedelta(minutes=3)
    heartbeat_interval: timedelta = timedelta(minutes=5)
    lifetime: timedelta | None = None
    lifetime_grace: timedelta | None = None
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
    slots: Slots = Slots(1)
    work_dir: Path | None = None
    isolate: str = "none"
    run_as: str | None = None
    inherit_env: tuple[str, ...] = ()
    default_memory: ByteSize | None = None
    max_memory: ByteSize | None = None
    default_cpu_time: timedelta | None = None
    max_cpu_time: timedelta | None = None
    default_processes: int | None = None
    max_processes: int | None = None
    default_open_files: int | None = None
    max_open_files: int | None = None
    default_file_size: ByteSize | None = None
    max_file_size: ByteSize | None = None
    coordinator_ca: Path | None = None
    nats_ca: Path | None = None
    s3_ca: Path | None = None
    insecure: bool = False
    file_log: bool = False
    shared_log: bool = False
    log_path: Path | None = None
    log_level: str = "info"
    file_log_level: str | None = None

    @property
    def default_limits(self) -> Limits:
        """Limits of a task that asks for none."""
        cpu = self.default_cpu_time
        return Limits(
            memory_bytes=self.default_memory,
            cpu_seconds=None if cpu is None else cpu.total_seconds(),
            processes=self.default_processes,
            open_files=self.default_open_files,
            file_size_bytes=self.default_file_size,
        )

    @property
    def ceilings(self) -> Limits:
        """Limits of every task, whatever it asks for."""
        cpu = self.max_cpu_time
        return Limits(
            memory_bytes=self.max_memory,
            cpu_seconds=None if cpu is None else cpu.total_seconds(),
            processes=self.max_processes,
            open_files=self.max_open_files,
            file_size_bytes=self.max_file_size,
        )

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
