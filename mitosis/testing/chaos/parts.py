"""The processes of a platform under test, each of which can be killed, frozen and started anew."""

import asyncio
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mitosis.services.platform.logs import LogFile
from mitosis.services.platform.process import ChildProcess, StopStep
from mitosis.services.platform.server import EmbeddedServer

LOG_LIMIT_BYTES = 256 << 20  # nothing of a run may be lost before it is looked at
RESTART_PAUSE_SECONDS = 0.5
LOOK_SECONDS = 0.1


class Part(ABC):
    """One process of the platform.

    Attributes:
        name: Unique.
        kind: What it is: `coordinator`, `worker`, ...
    """

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self._frozen: int | None = None

    @abstractmethod
    def pid(self) -> int | None:
        """The process, if it runs."""

    @abstractmethod
    async def kill(self) -> None:
        """End it at once; it stays down until `start`."""

    @abstractmethod
    async def start(self) -> None:
        """Let it run again."""

    @abstractmethod
    async def stop(self) -> None:
        """End it in order, with a bound; it stays down until `start`."""

    def freeze(self) -> None:
        """Stop its time."""
        pid = self.pid()
        if pid is not None:
            with suppress(ProcessLookupError):
                self._signal(pid, signal.SIGSTOP)
                self._frozen = pid

    def thaw(self) -> None:
        """Let its time go on."""
        pid, self._frozen = self._frozen, None
        if pid is not None:
            with suppress(ProcessLookupError):
                self._signal(pid, signal.SIGCONT)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        os.kill(pid, number)


class Service(Part):
    """A service of ours, which is kept running by a loop like that of any supervisor.

    Args:
        kind, name: See `Part`.
        command: Arguments of `mito`.
        root: Folder in which it runs.
        environment: Of the process.

    Attributes:
        ends: Exit statuses of the ends that nobody asked for.
    """

    def __init__(
        self, kind: str, name: str, command: Sequence[str], root: Path,
        environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        super().__init__(kind, name)
        self._command = [sys.executable, "-m", "mitosis", *command]
        self._root, self._environment = root, dict(environment)
        self.log = LogFile(root / "logs" / f"{name}.log", LOG_LIMIT_BYTES)
        self.ends: list[int] = []
        self._wanted = False
        self._process: ChildProcess | None = None
        self._keeper: asyncio.Task[None] | None = None

    def pid(self) -> int | None:
        """The process, if it runs."""
        process = self._process
        return process.pid if process is not None and process.exit_status is None else None

    async def start(self) -> None:
        """Run, and be started again whenever it ends by itself."""
        if self._wanted:
            return
        self._wanted = True
        await self._run()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())

    async def kill(self) -> None:
        """SIGKILL to this process alone: what it leaves is not cleaned up by anybody else."""
        self._wanted = False
        process = self._process
        if process is not None and process.exit_status is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait()

    async def stop(self, seconds: float = 30.0) -> None:
        """SIGTERM, and SIGKILL when that does not help in time."""
        self._wanted = False
        self.thaw()
        process = self._process
        if process is not None and process.exit_status is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), seconds)
        await self.kill()

    async def close(self) -> None:
        """Be kept no more, and leave nothing in the session of the process."""
        self._wanted = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.thaw()
        if self._process is not None:
            await self._process.stop(())

    async def _run(self) -> None:
        self._process = await ChildProcess.start(
            self.name, self._command, log=self.log, environment=self._environment,
            folder=self._root,
        )  # fmt: skip

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            process = self._process
            if not self._wanted or process is None or process.exit_status is None:
                continue
            self.ends.append(process.exit_status)
            await asyncio.sleep(RESTART_PAUSE_SECONDS)
            if self._wanted and self._process is process:  # nobody else has started it meanwhile
                await self._run()


class Server(Part):
    """A server of the platform: NATS, Postgres or S3, with all processes of its session."""

    def __init__(self, kind: str, name: str, server: EmbeddedServer) -> None:
        super().__init__(kind, name)
        self.server = server
        self._down = False

    def pid(self) -> int | None:
        """The process, if it runs."""
        if self._down or not self.server.is_started:
            return None
        return self.server.process.pid

    async def kill(self) -> None:
        """SIGKILL to the whole session."""
        self._down = True
        await self.server.process.stop(())

    async def start(self) -> None:
        """Serve again under the same address."""
        await self.server.restart()
        self._down = False

    async def stop(self) -> None:
        """End it in order, as its own supervisor does."""
        self._down = True
        self.thaw()
        steps: tuple[StopStep, ...] = self.server.stop_steps
        await self.server.process.stop(steps)

    def _signal(self, pid: int, number: signal.Signals) -> None:
        os.killpg(pid, number)
