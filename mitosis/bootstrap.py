"""The one place where configuration, adapters and services meet: how each process is started.

Every function imports what it needs when it is called, so that no command pays for another.
"""

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.platform import DemoOptions, PlatformOptions
from mitosis.config.worker import WorkerConfig

if TYPE_CHECKING:
    from mitosis.demo.sweep import Report, View
    from mitosis.services.platform import ReadyNotice, RunningPlatform

T = TypeVar("T")

HTTP_SECONDS = 2.0


def configure_log(level: str) -> None:
    """Send log lines to standard error; called once by each process."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
    )


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a service on the fast event loop where there is one."""
    try:
        import uvloop
    except ImportError:  # not made for this system
        return asyncio.run(main)
    return uvloop.run(main)


def run_coordinator(config: CoordinatorConfig) -> int:
    """Serve as a coordinator until a signal; return the exit status."""
    from mitosis.services.coordinator.service import Coordinator

    configure_log(config.log_level)
    run(Coordinator(config).run())
    return 0


def run_projector(config: CoordinatorConfig) -> int:
    """Build read models and answer queries until a signal; return the exit status."""
    from mitosis.services.projector.service import run_projector as serve

    configure_log(config.log_level)
    run(serve(config))
    return 0


def run_worker(config: WorkerConfig) -> int:
    """Run tasks until a signal, a drain or the end of the lifetime; return the exit status."""
    from mitosis.services.worker.service import run_worker as work

    configure_log(config.log_level)
    return run(work(config))


def run_platform(options: PlatformOptions, announce: "Callable[[ReadyNotice], None]") -> int:
    """Run a whole platform until a signal; return the exit status.

    Args:
        options: From the command line.
        announce: Is told the addresses once the platform serves.
    """
    from mitosis.config.locations import data_dir
    from mitosis.services.platform import PlatformSettings
    from mitosis.services.platform import run_platform as serve

    configure_log(options.log_level)
    bind_port = int(options.bind.rpartition(":")[2]) if options.bind else 5000
    settings = PlatformSettings(
        data=options.data or data_dir() / "platform",
        ready_check=lambda running: _is_ready(running, options.workers),
        workers=options.workers,
        worker_slots=options.slots,
        preferred_http_port=bind_port,
        preferred_nats_port=options.nats_port or 4222,
        ready_file=options.ready_file,
        on_ready=announce,
    )
    return serve(settings)


def run_demo(options: DemoOptions, view: "View") -> "Report":
    """Run the demo in this process; everything is stopped and removed when it returns."""
    from mitosis.demo.run import run_demo as demonstrate

    configure_log("error")
    return asyncio.run(
        demonstrate(options, lambda running: _is_ready(running, options.workers), view)
    )


async def _is_ready(running: "RunningPlatform", workers: int) -> bool:
    """Whether the coordinator is active, all workers are registered, and queries are answered."""
    from mitosis.client.client import MitoClient
    from mitosis.config.client import ClientConfig
    from mitosis.errors import MitosisError

    status = await asyncio.to_thread(_http_status, running.addresses.http)
    if not status.get("active") or status.get("workers", 0) < workers:
        return False
    config = ClientConfig(
        coordinator_addr=running.addresses.nats,
        credential_path=running.folder.secrets / "client-credentials",
        user=running.credentials.admin_user,
        password=running.credentials.admin_password,
    )
    try:
        async with MitoClient(config) as client:
            await client.whoami()
    except MitosisError:  # asked again until the time of the start is over
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
