"""The supervisor of `mito up`: three servers, the coordinator and the workers of one machine."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Self

import msgspec

from mitosis.errors import Misconfigured
from mitosis.nats.nkeys import issuer_account
from mitosis.nats.server_config import CalloutConfig, write_private
from mitosis.services.platform.credentials import ADMIN_USER, Credentials
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.platform.embedded_s3 import EmbeddedS3
from mitosis.services.platform.failures import ServerFailed
from mitosis.services.platform.folder import DataFolder
from mitosis.services.platform.full_disk import LOOK_SECONDS, FullDisk
from mitosis.services.platform.keeper import BackOff, Keeper
from mitosis.services.platform.logs import LogFile
from mitosis.services.platform.options import (
    Child,
    PlatformSettings,
    ReadyCheck,
    ReadyNotice,
    RunningPlatform,
)
from mitosis.services.platform.ports import KeptPorts, require_free
from mitosis.services.platform.process import ChildProcess, StopStep
from mitosis.services.platform.server import EmbeddedServer
from mitosis.services.platform.service_config import (
    Addresses,
    coordinator_config,
    worker_config,
    write_config,
)

_LOG = logging.getLogger(__name__)

HOST = "127.0.0.1"
_READY_POLL_SECONDS = 0.05
_LOG_CHECK_SECONDS = 30.0
_FAILURES_WHILE_STARTING = 5


class Platform:
    """A platform of one machine, as an asynchronous context manager.

    Entered, everything is started and serves. Left, everything is stopped in order: the other
    children (workers), the first child (the coordinator), then the servers.
    """

    def __init__(self, options: PlatformSettings) -> None:
        self._options = options
        self._folder = DataFolder(options.data)
        self._servers: list[EmbeddedServer] = []
        self._children: list[tuple[Child, list[ChildProcess]]] = []
        self._keepers: list[Keeper] = []
        self._duties: list[asyncio.Task[None]] = []
        self._hurry = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when a child has ended that ends the platform; `stop` is still to be called."""
        self.running: RunningPlatform | None = None
        """Addresses and credentials, once the servers run."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts everything and returns when the ready check says yes; stops all when that fails.

        Raises:
            MissingExtra: a server program is not installed.
            FolderInUse: another supervisor works on the data folder.
            FolderRefused: the data folder is not one that this version may use.
            PortTaken: another program listens on a port that was asked for.
            ServerFailed: a server or a child does not start or does not serve in time.
        """
        self._folder.open()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    @property
    def is_complete(self) -> bool:
        """True while every server serves and every child runs."""
        return bool(self._keepers) and all(keeper.is_up for keeper in self._keepers)

    def hurry(self) -> None:
        """Makes the stop, now or later, a fast one: SIGKILL instead of waiting."""
        self._hurry.set()

    async def _start(self) -> None:
        started_at = time.monotonic()
        self._remove_ready_file()
        for port in (self._options.nats_port, self._options.http_port):
            require_free(port, HOST)
        credentials = Credentials(self._folder.secrets)
        nats, postgres, s3 = self._make_servers(credentials)
        self._servers = [nats, postgres, s3]
        await self._start_servers()
        port = KeptPorts(self._folder.ports_file).choose(
            "http", self._options.preferred_http_port, wanted=self._options.http_port
        )
        addresses = Addresses(
            nats=nats.url, http=f"http://{HOST}:{port}", database=postgres.url, s3=s3.url
        )
        self.running = running = RunningPlatform(
            folder=self._folder, addresses=addresses, credentials=credentials
        )
        for child in (self._options.children or self._own_children)(running):
            if child.after is not None:
                await self._until(child.after, running)
            await self._start_child(child)
        self._duties.append(asyncio.create_task(self._bound_logs(), name="bound logs"))
        self._duties.append(asyncio.create_task(self._watch_disk(nats), name="watch the disk"))
        await self._until(self._options.ready_check, running)
        self._announce(running)
        _LOG.info("the platform serves after %.1f s", time.monotonic() - started_at)

    def _make_servers(
        self, credentials: Credentials
    ) -> tuple[EmbeddedNats, EmbeddedPostgres, EmbeddedS3]:
        folder = self._folder
        nats = EmbeddedNats(
            folder.nats,
            service_users=(credentials.service,),
            system_users=(credentials.system,),
            callout=CalloutConfig(issuer=issuer_account(credentials.private_pem)),
            preferred_port=self._options.preferred_nats_port,
            wanted_port=self._options.nats_port,
            sync_always=self._options.sync_always,
            log_folder=folder.logs,
        )
        postgres = EmbeddedPostgres(folder.postgres, log_folder=folder.logs, passage=folder.path)
        s3 = EmbeddedS3(folder.s3, keys=credentials.s3, log_folder=folder.logs)
        return nats, postgres, s3

    async def _start_servers(self) -> None:
        outcomes = await asyncio.gather(
            *(server.start() for server in self._servers), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        for server in self._servers:
            keeper = Keeper(server.name, server.restart)
            keeper.keep(server.process)
            self._keepers.append(keeper)

    def _own_children(self, running: RunningPlatform) -> list[Child]:
        """The coordinator (with its projector) first, then the workers."""
        folder, addresses, credentials = running.folder, running.addresses, running.credentials
        program = (sys.executable, "-m", "mitosis")
        path = write_config(
            folder.config / "coordinator.toml",
            "coordinator",
            coordinator_config(addresses, credentials),
        )
        reset = ("--reset-admin-password",) if self._options.reset_admin_password else ()
        children = [
            Child(
                name="coordinator",
                command=(*program, "coordinator", "--config", str(path), *reset),
                ends_platform=True,
            )
        ]
        tags = self._options.worker_tags
        for number in range(1, self._options.workers + 1):
            values = worker_config(
                addresses,
                credentials,
                slots=self._options.worker_slots,
                work_folder=folder.worker_folder(number),
                credential_path=folder.secrets / f"worker-{number}-session",
                tags=tags[number - 1] if number <= len(tags) else (),
            )
            path = write_config(folder.config / f"worker-{number}.toml", "worker", values)
            command = (*program, "worker", "--config", str(path))
            after = self._options.coordinator_check
            children.append(Child(name=f"worker-{number}", command=command, after=after))
        return children

    async def _start_child(self, child: Child) -> None:
        current: list[ChildProcess] = []

        async def start() -> ChildProcess:
            process = await ChildProcess.start(
                child.name,
                child.command,
                log=self._log(child),
                environment=_environment(),
                folder=self._folder.path,
            )
            current[:] = [process]
            return process

        on_done = self.ended.set if child.ends_platform else None
        keeper = Keeper(child.name, start, BackOff(), on_done)
        self._children.append((child, current))
        self._keepers.append(keeper)
        keeper.keep(await start())

    def _log(self, child: Child) -> LogFile:
        return LogFile(self._folder.logs / f"{child.name}.log")

    async def _until(self, check: ReadyCheck, running: RunningPlatform) -> None:
        seconds = self._options.ready_seconds
        try:
            async with asyncio.timeout(seconds):
                while not await check(running):
                    for child, _ in self._children:
                        self._require_progress(child)
                    await asyncio.sleep(_READY_POLL_SECONDS)
        except TimeoutError as error:
            raise ServerFailed(
                f"the platform does not serve after {seconds:g} s: see {self._folder.logs}"
            ) from error

    def _require_progress(self, child: Child) -> None:
        failures = next(keeper.failures for keeper in self._keepers if keeper.name == child.name)
        if failures >= _FAILURES_WHILE_STARTING:
            log = self._log(child)
            raise ServerFailed(
                f"{child.name} ended {failures} times while starting: "
                f"{log.tail() or 'it said nothing'} (log: {log.path})"
            )

    def _announce(self, running: RunningPlatform) -> None:
        notice = ReadyNotice(
            nats=running.addresses.nats,
            http=running.addresses.http,
            admin_user=ADMIN_USER,
            admin_password_file=str(running.credentials.admin_password_path),
            data=str(self._folder.path),
        )
        if self._options.ready_file is not None:
            write_private(self._options.ready_file, msgspec.json.encode(notice).decode() + "\n")
        if self._options.on_ready is not None:
            self._options.on_ready(notice)

    def _remove_ready_file(self) -> None:
        # Whoever waits for the file must not take that of an earlier run for this one's.
        path = self._options.ready_file
        if path is None:
            return
        if not path.absolute().parent.is_dir() or path.is_dir():
            raise Misconfigured(f"the ready file {path} cannot be written: give a file in a folder")
        path.unlink(missing_ok=True)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            for path in self._folder.logs.glob("*.log"):
                await asyncio.to_thread(LogFile(path).bound)

    async def _watch_disk(self, nats: EmbeddedNats) -> None:
        disk = FullDisk(self._folder.nats)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if disk.has_healed():
                await nats.process.stop(nats.stop_steps)  # its keeper starts it again

    async def stop(self) -> None:
        """Stops everything in order, with bounds, and lets go of the folder."""
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)
        for duty in self._duties:
            duty.cancel()
        await asyncio.gather(*(keeper.release() for keeper in self._keepers))
        coordinator_last = list(reversed(self._children))
        await asyncio.gather(*(self._end(child, run) for child, run in coordinator_last[:-1]))
        for child, run in coordinator_last[-1:]:
            await self._end(child, run)
        outcomes = await asyncio.gather(
            *(self._stop_server(server) for server in self._servers), return_exceptions=True
        )
        self._folder.close()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _end(self, child: Child, current: list[ChildProcess]) -> None:
        gently = [StopStep(signal.SIGTERM, child.stop_seconds)]
        if current:
            process = current[0]
            await self._unless_hurried(lambda fast: process.stop(() if fast else gently))

    async def _stop_server(self, server: EmbeddedServer) -> None:
        if server.is_started:
            await self._unless_hurried(lambda fast: server.stop(fast=fast))

    async def _unless_hurried(self, stop: Callable[[bool], Awaitable[object]]) -> None:
        """Stops gently, and fast as soon as somebody is in a hurry."""
        gentle = asyncio.ensure_future(stop(False))
        hurried = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({gentle, hurried}, return_when=asyncio.FIRST_COMPLETED)
            if not gentle.done():
                gentle.cancel()
                await asyncio.wait({gentle})
                await stop(True)
            else:
                gentle.result()
        finally:
            hurried.cancel()


def _environment() -> dict[str, str]:
    """The caller's environment without `MITO_*`: those are settings of the caller's client."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MITO_")}
