"""`mito coordinator`, `mito projector`, `mito worker`: settings in, service started."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from mitosis.cli.invocation import ClientFlags, current
from mitosis.cli.login import given_password
from mitosis.cli.output.screen import can_ask, complain
from mitosis.cli.parameters import (
    ConfigPath,
    Coordinator,
    Grants,
    Labels,
    Names,
    OptionalDuration,
    OptionalNumber,
    OptionalSize,
    OptionalSlotCount,
    Password,
    PasswordFile,
    Tags,
    User,
)
from mitosis.cli.running import with_client
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load
from mitosis.config.secret_file import without_weaker_password
from mitosis.config.worker import WorkerConfig
from mitosis.domain.roles import parse_grants

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient

SWITCH = Parameter(negative=())


def coordinator(
    *,
    bind: Annotated[str | None, Parameter(name=["--bind", "-b"])] = None,
    config: ConfigPath = None,
    db_url: Annotated[str | None, Parameter(name="--db")] = None,
    s3_url: Annotated[str | None, Parameter(name="--s3")] = None,
    s3_access_key: str | None = None,
    s3_secret_key: str | None = None,
    s3_public_url: str | None = None,
    s3_region: str | None = None,
    artifacts_bucket: str | None = None,
    attachments_bucket: str | None = None,
    nats_url: Annotated[str | None, Parameter(name="--nats")] = None,
    nats_public_url: str | None = None,
    nats_user: str | None = None,
    nats_password: str | None = None,
    nats_system_user: str | None = None,
    nats_system_password: str | None = None,
    nats_ca: Path | None = None,
    db_ca: Path | None = None,
    s3_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    insecure: Annotated[bool | None, SWITCH] = None,
    replicas: OptionalNumber = None,
    redis_url: Annotated[str | None, Parameter(name="--redis")] = None,
    redis_worker_password: str | None = None,
    redis_client_password: str | None = None,
    admin_user: str | None = None,
    admin_password: str | None = None,
    access_token_private_path: Path | None = None,
    access_token_public_path: Path | None = None,
    access_token_expires_in: OptionalDuration = None,
    shutdown_secret_path: Path | None = None,
    heartbeat_timeout: OptionalDuration = None,
    max_projection_lag: OptionalDuration = None,
    projector: bool | None = None,
    reset_admin_password: Annotated[bool | None, SWITCH] = None,
    log_path: Path | None = None,
    log_level: str | None = None,
    file_log_level: str | None = None,
    file_log: Annotated[bool | None, SWITCH] = None,
) -> int:
    """Run the mitosis coordinator.

    Args:
        bind: The address to bind to, default to 127.0.0.1:5000.
        config: The path of the config file.
        db_url: The database URL, default to postgres://mitosis:mitosis@localhost/mitosis.
        s3_url: The S3 URL, default to http://127.0.0.1:9000.
        s3_access_key: The S3 access key, default to mitosis_access.
        s3_secret_key: The S3 secret key, default to mitosis_secret; better given by
            MITO_S3_SECRET_KEY.
        s3_public_url: The S3 URL as clients and workers reach it, default to that of --s3.
        s3_region: The S3 region with which requests are signed, default to us-east-1.
        artifacts_bucket: The S3 bucket of artifacts, default to mitosis-artifacts.
        attachments_bucket: The S3 bucket of attachments, default to mitosis-attachments.
        nats_url: The NATS URL, default to nats://127.0.0.1:4222.
        nats_public_url: The NATS URL as clients and workers reach it, default to that of --nats.
        nats_user: The services' user of the NATS server, default to mitosis.
        nats_password: Its password, default to mitosis; better given by MITO_NATS_PASSWORD.
        nats_system_user: The system account's user of the NATS server, default to mitosis_system.
        nats_system_password: Its password, default to mitosis_system; better given by
            MITO_NATS_SYSTEM_PASSWORD.
        nats_ca: The certificate of the authority that signed the NATS server's.
        db_ca: The certificate of the authority that signed the Postgres server's.
        s3_ca: The certificate of the authority that signed the S3 store's.
        tls_cert: The certificate of the HTTP endpoint.
        tls_key: The private key of that certificate.
        insecure: Do not check certificates of NATS and S3; for a trial only.
        replicas: Copies of the event stream in the NATS cluster, default to 1.
        redis_url: Accepted and not used: live states travel on NATS.
        redis_worker_password: Accepted and not used.
        redis_client_password: Accepted and not used.
        admin_user: The admin username, default to mitosis_admin.
        admin_password: The admin password, default to mitosis_admin; better given by
            MITO_ADMIN_PASSWORD.
        access_token_private_path: The path to the private key, default to `private.pem`.
        access_token_public_path: The path to the public key, default to `public.pem`.
        access_token_expires_in: The access token expiration time, default to 7 days.
        shutdown_secret_path: The file that gets the secret for `mito client shutdown SECRET`.
        heartbeat_timeout: The heartbeat timeout, default to 600 seconds.
        max_projection_lag: How far the read models may be behind while /ready says yes, default
            to 30 seconds.
        projector: Run the projector as a child process, which is the default.
        reset_admin_password: Give the administrator of admin_user the password of admin_password
            anew, once at this start; all sessions of the account end.
        log_path: The log file path. If not specified, then the default rolling log file path
            would be used. If specified, then the log file would be exactly at the path specified.
        log_level: What is logged, default to info: a level, or info,mitosis.nats=debug.
        file_log_level: What is logged to the file, default to log_level.
        file_log: Enable logging to file.
    """
    flags = _given(locals())
    reset = bool(flags.pop("reset_admin_password", False))
    settings = _coordinator_config(config, flags)
    from mitosis.bootstrap import run_coordinator

    return run_coordinator(settings, reset_admin_password=reset)


def projector(
    *,
    config: ConfigPath = None,
    db_url: Annotated[str | None, Parameter(name="--db")] = None,
    nats_url: Annotated[str | None, Parameter(name="--nats")] = None,
    nats_user: str | None = None,
    nats_password: str | None = None,
    nats_ca: Path | None = None,
    db_ca: Path | None = None,
    insecure: Annotated[bool | None, SWITCH] = None,
    log_path: Path | None = None,
    log_level: str | None = None,
    file_log_level: str | None = None,
    file_log: Annotated[bool | None, SWITCH] = None,
) -> int:
    """Build the Postgres read models and answer queries, without a coordinator.

    Args:
        config: The path of the config file; the section is [coordinator].
        db_url: The database URL, default to postgres://mitosis:mitosis@localhost/mitosis.
        nats_url: The NATS URL, default to nats://127.0.0.1:4222.
        nats_user: The services' user of the NATS server, default to mitosis.
        nats_password: Its password, default to mitosis; better given by MITO_NATS_PASSWORD.
        nats_ca: The certificate of the authority that signed the NATS server's.
        db_ca: The certificate of the authority that signed the Postgres server's.
        insecure: Do not check the certificate of NATS; for a trial only.
        log_path: The exact log file.
        log_level: What is logged, default to info: a level, or info,mitosis.nats=debug.
        file_log_level: What is logged to the file, default to log_level.
        file_log: Enable logging to file.
    """
    settings = _coordinator_config(config, _given(locals()))
    from mitosis.bootstrap import run_projector

    return run_projector(settings)


def worker(
    *,
    config: ConfigPath = None,
    coordinator_addr: Coordinator = None,
    polling_interval: OptionalDuration = None,
    heartbeat_interval: OptionalDuration = None,
    credential_path: Path | None = None,
    user: User = None,
    password: Password = None,
    password_file: PasswordFile = None,
    retain: Annotated[bool | None, SWITCH] = None,
    skip_redis: Annotated[bool | None, SWITCH] = None,
    groups: Grants = (),
    tags: Tags = (),
    labels: Labels = (),
    slots: OptionalSlotCount = None,
    work_dir: Path | None = None,
    isolate: Literal["none", "pid"] | None = None,
    run_as: str | None = None,
    inherit_env: Names = (),
    default_memory: OptionalSize = None,
    max_memory: OptionalSize = None,
    default_cpu_time: OptionalDuration = None,
    max_cpu_time: OptionalDuration = None,
    default_processes: OptionalNumber = None,
    max_processes: OptionalNumber = None,
    default_open_files: OptionalNumber = None,
    max_open_files: OptionalNumber = None,
    default_file_size: OptionalSize = None,
    max_file_size: OptionalSize = None,
    coordinator_ca: Path | None = None,
    nats_ca: Path | None = None,
    s3_ca: Path | None = None,
    insecure: Annotated[bool | None, SWITCH] = None,
    log_path: Path | None = None,
    log_level: str | None = None,
    file_log_level: str | None = None,
    file_log: Annotated[bool | None, SWITCH] = None,
    shared_log: Annotated[bool | None, SWITCH] = None,
    lifetime: OptionalDuration = None,
    lifetime_grace: OptionalDuration = None,
    upload_timeout: OptionalDuration = None,
) -> int:
    """Run a mitosis worker.

    Args:
        config: The path of the config file.
        coordinator_addr: The address of the coordinator, default to http://127.0.0.1:5000.
        polling_interval: The interval to ask whether something was missed, default to 3m; work is
            pushed.
        heartbeat_interval: The longest interval to send heartbeat, default to 5m.
        credential_path: The path of the user credential file, default to mitosis/credentials in the
            user's settings folder.
        user: The username of the user.
        password: The password of the user; better given by MITO_PASSWORD.
        password_file: A file whose first line is the password; `-`: standard input.
        retain: Nothing more than without it: a log-in never ends other sessions.
        skip_redis: Accepted and not used: live states travel on NATS.
        groups: The groups allowed to submit tasks to this worker, as NAME or NAME:ROLE, default to
            the user's own; the role is write unless said.
        tags: The tags of this worker, default to none.
        labels: The labels of this worker, used for querying workers.
        slots: How many tasks to run at once, default to 1; auto: as many as there are cores.
        work_dir: The folder of the tasks' private folders.
        isolate: pid: run all tasks in a PID namespace, so that the kernel ends them whatever is
            killed, default to none.
        run_as: The user that tasks run as, when the worker is root.
        inherit_env: Names of variables of the worker's environment that tasks get as well.
        default_memory: The memory of a task that does not say, such as 2GiB, default to max_memory.
        max_memory: The memory of any task at most; a task that asks for more runs elsewhere.
        default_cpu_time: The CPU time of a task that does not say, default to max_cpu_time.
        max_cpu_time: The CPU time of any task at most.
        default_processes: The processes and threads of a task that does not say.
        max_processes: The processes and threads of any task at most.
        default_open_files: The open files of each process of a task that does not say.
        max_open_files: The open files of each process at most.
        default_file_size: The size of each file that a task writes which does not say.
        max_file_size: The size of each file that any task writes at most.
        coordinator_ca: The certificate of the authority that signed the coordinator's, and those of
            NATS and S3 if they have none of their own.
        nats_ca: The certificate of the authority that signed the NATS server's.
        s3_ca: The certificate of the authority that signed the S3 store's.
        insecure: Do not check certificates; for a trial only.
        log_path: The log file path. If not specified, then the default rolling log file path
            would be used. If specified, then the log file would be exactly at the path specified.
        log_level: What is logged, default to info: a level, or info,mitosis.nats=debug.
        file_log_level: What is logged to the file, default to log_level.
        file_log: Enable logging to file.
        shared_log: One default log file for all workers of this user on this machine.
        lifetime: The lifetime of the worker to alive (e.g., 7d, 1year), default to the
            coordinator's access_token_expires_in; then it finishes its tasks.
        lifetime_grace: How long they may take for that; what runs longer is handed back.
        upload_timeout: The longest time to pack and send the outputs of one task, default to 10min.
    """
    flags = _given(locals())
    flags |= {"groups": parse_grants(groups)} if groups else {}
    flags["password"] = given_password(ClientFlags(password=password, password_file=password_file))
    settings = without_weaker_password(load(WorkerConfig, config=config, flags=flags))
    from mitosis.bootstrap import run_worker

    return run_worker(_logged_in(settings))


def _logged_in(settings: WorkerConfig) -> WorkerConfig:
    """Ask whoever sits at the terminal for name and password, if nobody is logged in."""
    if settings.password or settings.password_file or not can_ask() or current.get().json:
        return settings
    from mitosis.config.log_filter import parse_log_filter
    from mitosis.log import configure_log

    configure_log(parse_log_filter(settings.log_level))

    async def user(client: "MitoClient") -> str:
        return client.session.user

    return replace(settings, user=with_client(user, config=settings.as_client()))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given: those that are neither None nor an empty list."""
    return {
        key: value
        for key, value in values.items()
        if key != "config" and value is not None and value != ()
    }


def _coordinator_config(config: Path | None, flags: dict[str, Any]) -> CoordinatorConfig:
    settings = load(CoordinatorConfig, config=config, flags=flags).config
    for warning in settings.warnings():
        complain(warning)
    return settings
