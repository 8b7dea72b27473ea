"""The demo from start to end: a platform in a scratch folder, the campaign, and nothing left."""

import asyncio
import signal
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from mitosis.client.client import MitoClient
from mitosis.config.client import ClientConfig
from mitosis.config.platform import DemoOptions
from mitosis.demo.sweep import WORKER_TAGS, Report, View, run_sweep
from mitosis.services.platform import ADMIN_USER, Platform, PlatformSettings, ReadyCheck


class Checks(NamedTuple):
    """How it is found out that the coordinator serves, and that everything does."""

    coordinator: ReadyCheck
    ready: ReadyCheck


async def run_demo(options: DemoOptions, checks: Checks, view: View) -> Report:
    """Run everything and clean up, whatever happens.

    Raises:
        MitosisError: The platform cannot be started, or a command failed.
        asyncio.CancelledError: SIGINT or SIGTERM; everything was stopped first.
    """
    _cancel_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="mito-demo-"))
    try:
        return await _run_in(folder, options, checks, view)
    finally:
        if options.keep:
            view.phase(f"everything is kept in {folder}")
        else:
            rmtree(folder)


async def _run_in(folder: Path, options: DemoOptions, checks: Checks, view: View) -> Report:
    view.phase("starting NATS, Postgres, S3, coordinator and workers in a scratch folder")
    settings = PlatformSettings(
        data=folder / "platform",
        ready_check=checks.ready,
        coordinator_check=checks.coordinator,
        workers=options.workers,
        worker_tags=tuple((WORKER_TAGS[n % len(WORKER_TAGS)],) for n in range(options.workers)),
        preferred_nats_port=None,
        preferred_http_port=None,
    )
    async with Platform(settings) as platform:
        running = platform.running
        if running is None:
            raise AssertionError("a platform that has started knows its addresses")
        config = ClientConfig(
            coordinator_addr=running.addresses.nats,
            credential_path=folder / "credentials",
            user=ADMIN_USER,
            password=running.credentials.admin_password,
        )
        async with MitoClient(config) as client:
            results = folder / "results"
            results.mkdir()
            report = await run_sweep(client, results, view)
        view.phase("stopping everything")
    return report


def _cancel_on_signals() -> None:
    task = asyncio.current_task()
    if task is not None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
