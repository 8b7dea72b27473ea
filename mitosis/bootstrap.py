"""The one place where configuration, adapters and services meet: how each process is started.

Every function imports what it needs when it is called, so that no command pays for another.
"""

import asyncio
import gc
import json
import logging
import pickle
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from mitosis._version import __version__
from mitosis.config.checks import split_bind
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.log_filter import parse_log_filter
from mitosis.config.platform import DemoOptions, PlatformOptions
from mitosis.config.worker import WorkerConfig
from mitosis.errors import AuthenticationFailed, Misconfigured, MitosisError
from mitosis.log import FILE_ONLY, configure_log, log_to_file
from mitosis.tls import Trust

if TYPE_CHECKING:
    from mitosis.artifacts.s3 import S3Store
    from mitosis.demo.sweep import Report, View
    from mitosis.services.platform import ReadyNotice, RunningPlatform

T = TypeVar("T")

log = logging.getLogger(__name__)

HTTP_SECONDS = 2.0
SHARED_LOG_DAYS = 3  # as the original
DEFAULT_HTTP_PORT = 5000
DEFAULT_NATS_PORT = 4222
PROJECTOR_CHILD = (
    sys.executable,
    "-c",
    "from mitosis.bootstrap import run_projector_child as run; raise SystemExit(run())",
)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a service on the fast event loop where there is one."""
    # What is loaded now stays; and the collector looks for cycles seldom, since services make few.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    try:
        import uvloop
    except ImportError:  # not made for this system
        return asyncio.run(main)
    return uvloop.run(main)


def run_coordinator(config: CoordinatorConfig, *, reset_admin_password: bool = False) -> int:
    """Serve as a coordinator, with a projector beside it, until a signal.

    Args:
        config: Settings.
        reset_admin_password: Give the administrator the configured password anew, once.

    Returns:
        The exit status.
    """
    _configure_log(config, f"coordinator/{config.bind}.log")
    log.info("mito coordinator %s starts at %s", __version__, config.bind, extra=FILE_ONLY)
    try:
        _run_coordinator(config, reset_admin_password)
    except MitosisError as error:  # the command line says it to the terminal
        log.error("%s", error, extra=FILE_ONLY)
        raise
    return 0


def _run_coordinator(config: CoordinatorConfig, reset_admin_password: bool) -> None:
    from mitosis.allocator import give_back_large_blocks
    from mitosis.projections.migrations import migrate
    from mitosis.projections.pool import ReadPool
    from mitosis.projections.position import applied_position
    from mitosis.projections.store import ViewStore
    from mitosis.services.auth.key_files import load_keys
    from mitosis.services.coordinator.children import ChildProcess
    from mitosis.services.coordinator.history import Mark
    from mitosis.services.coordinator.service import Coordinator, server_certificate

    # What is wrong on this machine is said before anybody else is asked.
    keys = load_keys(config.access_token_private_path, config.access_token_public_path)
    certificate = server_certificate(config)
    children = [ChildProcess(PROJECTOR_CHILD, "projector", pickle.dumps(config))]

    async def main() -> None:
        await migrate(config.database)
        store = await ViewStore.open(config.database)
        try:
            archived = await store.archived()
        finally:
            await store.close()
        mark = Mark(archived.position, archived.digest)
        objects = objects_of(config)
        views = ReadPool(config.database, size=1)
        try:
            await Coordinator(
                config,
                keys,
                certificate,
                objects,
                lambda: applied_position(views),
                children if config.projector else [],
                mark,
                reset_admin_password=reset_admin_password,
            ).run()
        finally:
            await views.close()
            await objects.close()

    give_back_large_blocks()
    run(main())


def run_projector(config: CoordinatorConfig) -> int:
    """Build read models and answer queries until a signal; return the exit status."""
    _configure_log(config, f"projector/{config.bind}.log")
    stopping = asyncio.Event()
    run(_project(config, stopping))
    return 0


def run_projector_child() -> int:
    """Be the projector of a coordinator: settings come from it on standard input.

    Standard input ends when the coordinator dies, however it dies; then this process ends too.
    """
    size = int.from_bytes(sys.stdin.buffer.read(4))
    config: CoordinatorConfig = pickle.loads(sys.stdin.buffer.read(size))  # noqa: S301  our parent's
    _configure_log(config, f"projector/{config.bind}.log")
    stopping = asyncio.Event()

    async def main() -> None:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopping.set)
        await _project(config, stopping)

    run(main())
    return 0


async def _project(config: CoordinatorConfig, stopping: asyncio.Event) -> None:
    from mitosis.nats.connection import Connection
    from mitosis.nats.credentials import ServiceLogin
    from mitosis.projections.migrations import migrate
    from mitosis.services.projector.handlers import Links
    from mitosis.services.projector.service import ProjectorService

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await migrate(config.database)
    objects = objects_of(config)
    login = ServiceLogin(config.nats_user, config.nats_password)
    async with await Connection.open(
        config.nats_servers, login, name="mito-projector", trust=nats_trust(config)
    ) as connection:
        links = Links(objects.artifacts.presign_get, objects.attachments.presign_get)
        service = ProjectorService(connection, config.database, links)
        try:
            await service.start()
            ended = asyncio.create_task(service.wait())
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if ended.done():
                ended.result()
        finally:
            await service.stop()
            await objects.close()


def nats_trust(config: CoordinatorConfig) -> Trust:
    """Return whose certificates are believed of NATS."""
    return Trust("nats_ca", config.nats_ca, config.insecure)


def objects_of(config: CoordinatorConfig, *, patient: bool = False) -> "S3Store":
    """Return the S3 store of the settings; close it when done.

    `patient`: Ask again for 12 seconds instead of one, when it does not answer or answers that it
    has failed: as those do that have just been started, before all their parts know each other.
    """
    from mitosis.artifacts.s3 import FEW_RETRIES, MANY_RETRIES, S3Settings, S3Store

    return S3Store(
        S3Settings(
            url=config.s3_url,
            access_key=config.s3_access_key,
            secret_key=config.s3_secret_key,
            public_url=config.s3_public_url or "",
            region=config.s3_region,
            artifacts_bucket=config.artifacts_bucket,
            attachments_bucket=config.attachments_bucket,
            trust=Trust("s3_ca", config.s3_ca, config.insecure),
            retries=MANY_RETRIES if patient else FEW_RETRIES,
        )
    )


def run_worker(config: WorkerConfig) -> int:
    """Run tasks until a signal, a drain or the end of the lifetime; return the exit status."""
    from mitosis.client.session import Session
    from mitosis.processes.launch import become_subreaper
    from mitosis.services.worker.service import run_worker as work

    configure_log(parse_log_filter(config.log_level))
    for warning in config.warnings():
        log.warning("%s", warning)
    become_subreaper()
    user = Session(config.as_client())

    def announce(uuid: str) -> None:
        sys.stdout.write(f"{uuid}\n")
        sys.stdout.flush()
        if not announced:
            _worker_log(config, uuid)
        announced.append(uuid)

    announced: list[str] = []
    return run(work(config, user, announce=announce, adopts_orphans=True))


def _worker_log(config: WorkerConfig, uuid: str) -> None:
    if not config.shared_log:
        _log_to_file(config, f"worker/{uuid}.log", dated=False)
        return
    from mitosis.config.locations import cache_dir

    levels = parse_log_filter(config.file_log_level or config.log_level)
    default = cache_dir() / "worker" / "workers.log"
    log_to_file(
        config.log_path, default, levels, dated=True, kept=SHARED_LOG_DAYS,
        prefix=f"[worker:{uuid}] ",
    )  # fmt: skip


def _configure_log(config: CoordinatorConfig, default: str) -> None:
    configure_log(parse_log_filter(config.log_level))
    _log_to_file(config, default, dated=True)


def _log_to_file(config: CoordinatorConfig | WorkerConfig, default: str, *, dated: bool) -> None:
    if config.file_log or config.log_path:
        from mitosis.config.locations import cache_dir

        levels = parse_log_filter(config.file_log_level or config.log_level)
        log_to_file(config.log_path, cache_dir() / default, levels, dated=dated)


def run_platform(options: PlatformOptions, announce: "Callable[[ReadyNotice], None]") -> int:
    """Run a whole platform until a signal; return the exit status.

    Args:
        options: From the command line.
        announce: Is told the addresses once the platform serves.
    """
    from mitosis.config.locations import data_dir
    from mitosis.services.platform import PlatformSettings
    from mitosis.services.platform import run_platform as serve

    configure_log(parse_log_filter(options.log_level))
    http_port = split_bind(options.bind)[1] if options.bind else None
    settings = PlatformSettings(
        data=options.data or data_dir() / "platform",
        ready_check=_Served(options.workers),
        coordinator_check=_is_active,
        workers=options.workers,
        worker_slots=options.slots,
        # 0 asks for any free port, a number for this one; nothing prefers the well-known one.
        preferred_http_port=DEFAULT_HTTP_PORT if http_port is None else None,
        preferred_nats_port=DEFAULT_NATS_PORT if options.nats_port is None else None,
        http_port=http_port or None,
        nats_port=options.nats_port or None,
        ready_file=options.ready_file,
        on_ready=announce,
        reset_admin_password=options.reset_admin_password,
        sync_always=not options.relaxed_sync,
    )
    return serve(settings)


def run_demo(options: DemoOptions, view: "View") -> "Report":
    """Run the demo in this process; everything is stopped and removed when it returns.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM; everything was stopped and removed first.
    """
    from mitosis.demo.run import Checks
    from mitosis.demo.run import run_demo as demonstrate

    configure_log({"": "error"})
    checks = Checks(_is_active, _Served(options.workers))
    try:
        return asyncio.run(demonstrate(options, checks, view))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _is_active(running: "RunningPlatform") -> bool:
    """Whether the coordinator is in office."""
    status = await asyncio.to_thread(_http_status, running.addresses.http)
    return bool(status.get("active"))


class _Served:
    """Whether the coordinator is active, queries are answered, and all workers are registered."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._let_in = False

    async def __call__(self, running: "RunningPlatform") -> bool:
        """Look once; asked again until the time of the start is over."""
        status = await asyncio.to_thread(_http_status, running.addresses.http)
        if not status.get("active"):
            return False
        self._let_in = self._let_in or await _lets_in(running)
        return self._let_in and int(status.get("workers", 0)) >= self._workers


async def _lets_in(running: "RunningPlatform") -> bool:
    """Whether the administrator of the data folder gets an answer.

    Raises:
        Misconfigured: The password in the folder is not the administrator's any more, with which
            the workers log in too.
    """
    from mitosis.client.client import MitoClient
    from mitosis.config.client import ClientConfig
    from mitosis.services.platform import ADMIN_USER

    credentials = running.credentials
    config = ClientConfig(
        coordinator_addr=running.addresses.nats,
        credential_path=running.folder.secrets / "client-credentials",
        user=ADMIN_USER,
        password=credentials.admin_password,
    )
    try:
        async with MitoClient(config) as client:
            await client.whoami()
    except AuthenticationFailed as error:
        raise Misconfigured(
            f"the password of {ADMIN_USER} has been changed, and `mito up` works with it: write "
            f"the new one into {credentials.admin_password_path}, or start once with "
            "--reset-admin-password, which brings the one in that file back"
        ) from error
    except MitosisError:
        return False
    return True


def _http_status(url: str) -> dict[str, Any]:
    """Return what the coordinator says of itself, or nothing when it does not answer."""
    import http.client

    host, _, port = url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=HTTP_SECONDS)
    try:
        connection.request("GET", "/ready")
        status: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return {}
    finally:
        connection.close()
    return status
