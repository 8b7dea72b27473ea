"""nats-server from its wheel, with the configuration of `mitosis.nats.server_config`."""

import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from mitosis.config.values import usable_cores
from mitosis.nats.server_config import (
    CalloutConfig,
    NatsServerConfig,
    StaticUser,
    render,
    write_private,
)
from mitosis.services.platform.binaries import nats_server
from mitosis.services.platform.failures import ServerFailed
from mitosis.services.platform.ports import KeptPorts, free_ports, is_free, require_free
from mitosis.services.platform.process import ChildProcess, StopStep, bare_environment
from mitosis.services.platform.server import EmbeddedServer, until_ready

_PORT = "nats"
_PORT_TRIES = 3


class _PortsFile(msgspec.Struct):
    """What the server writes about its listeners."""

    nats: list[str]


class EmbeddedNats(EmbeddedServer):
    """A nats-server on loopback with JetStream; `url` is where it listens.

    Args:
        folder: Holds the store, the configuration (0600) and the port of the last run.
        service_users: Static users of the platform's account.
        system_users: Static users of the system account.
        callout: Who answers for other users; None lets only the static users in.
        preferred_port: Used when the last run's port is not known or not free; else any free one.
        wanted_port: This one or none.
        sync_always: See `NatsServerConfig.sync_always`.
        log_folder: Default: the folder itself.
        configure: A last change of the configuration, for tests.
    """

    name = "nats"
    stop_steps = (StopStep(signal.SIGTERM, 10.0),)

    def __init__(
        self,
        folder: Path,
        *,
        service_users: tuple[StaticUser, ...],
        system_users: tuple[StaticUser, ...],
        callout: CalloutConfig | None = None,
        preferred_port: int | None = None,
        wanted_port: int | None = None,
        sync_always: bool = True,
        log_folder: Path | None = None,
        configure: Callable[[NatsServerConfig], NatsServerConfig] | None = None,
    ) -> None:
        super().__init__(folder, log_folder)
        self._service_users = service_users
        self._system_users = system_users
        self._callout = callout
        self._preferred_port = preferred_port
        self._wanted_port = wanted_port
        self._sync_always = sync_always
        self._configure = configure or (lambda config: config)
        self._kept = KeptPorts(self.folder / "ports.json")
        self._url: str | None = None

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT`.

        Raises:
            RuntimeError: it was not started.
        """
        if self._url is None:
            raise RuntimeError("nats is not running")
        return self._url

    async def _serve(self) -> ChildProcess:
        for port in self._ports_to_try():
            try:
                return await self._serve_on(port)
            except ServerFailed:
                if is_free(port):
                    raise  # not the port's fault
        raise ServerFailed(f"nats: the port was taken by another program (log: {self.log.path})")

    def _ports_to_try(self) -> list[int]:
        kept = self._kept.load().get(_PORT)
        if self._is_restart and kept is not None:
            return [kept]  # clients look for it there
        if self._wanted_port is not None:
            require_free(self._wanted_port)
            return [self._wanted_port]
        known = [port for port in (kept, self._preferred_port) if port is not None]
        return [*(port for port in known if is_free(port)), *free_ports(_PORT_TRIES)]

    def _clean_up(self) -> None:
        for stale in self.folder.glob("*.ports"):
            stale.unlink()

    async def _serve_on(self, port: int) -> ChildProcess:
        self._clean_up()
        config_path = self.folder / "nats.conf"
        write_private(config_path, render(self._configure(self._config(port))))
        process = await ChildProcess.start(
            self.name,
            [nats_server(), "-c", config_path],
            log=self.log,
            environment=bare_environment(self.folder, GOMAXPROCS=str(_threads())),
            death_signal=signal.SIGTERM,
            pass_fds=[self._lock.descriptor],
            folder=self.folder,
        )

        async def is_ready() -> bool:
            self._url = self._read_url(process.pid)
            return self._url is not None

        await until_ready(process, is_ready)
        self._kept.save({_PORT: int(self.url.rpartition(":")[2])})
        return process

    def _config(self, port: int) -> NatsServerConfig:
        return NatsServerConfig(
            store_dir=str(self.folder),
            service_users=self._service_users,
            system_users=self._system_users,
            callout=self._callout,
            port=port,
            ports_file_dir=str(self.folder),
            sync_always=self._sync_always,
        )

    def _read_url(self, pid: int) -> str | None:
        path = self.folder / f"nats-server_{pid}.ports"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_PortsFile).nats[0]
        except (FileNotFoundError, msgspec.DecodeError):
            return None  # not written, or written in part


def _threads() -> int:
    """Return how many threads of the server may run at once: half of what the machine has.

    The server shares it with all other services, and each commit hands its work from one thread to
    the next: on two cores one thread takes a third less CPU for it than two, and as little time.
    """
    return max(1, usable_cores() // 2)
