"""What the three embedded servers have in common: a locked folder, a start with a bound, a stop."""

import abc
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from mitosis.services.platform.failures import ServerFailed
from mitosis.services.platform.locks import FolderLock
from mitosis.services.platform.logs import LogFile
from mitosis.services.platform.process import ChildProcess, StopStep

START_BOUND_SECONDS = 60.0
"""How long a server may take until it serves; a second or less on an idle machine."""

_LOCK_BOUND_SECONDS = 10.0
_POLL_SECONDS = 0.01


class EmbeddedServer(abc.ABC):
    """A server program that lives as long as this process, with its data in one folder.

    Use it as an asynchronous context manager, or `start` and `stop` (each may be called again after
    the other). Start it from the main thread.
    """

    name: str
    stop_steps: tuple[StopStep, ...]

    def __init__(self, folder: Path, log_folder: Path | None) -> None:
        self.folder = folder.absolute()
        self._log_folder = (log_folder or self.folder).absolute()
        self._lock = FolderLock(self.folder / "lock", f"the {self.name} folder")
        self._process: ChildProcess | None = None
        self._is_restart = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def log(self) -> LogFile:
        """Where the server writes."""
        return LogFile(self._log_folder / f"{self.name}.log")

    @property
    def is_started(self) -> bool:
        """True from a successful start to the stop, also while it is down in between."""
        return self._process is not None

    @property
    def process(self) -> ChildProcess:
        """The running server.

        Raises:
            RuntimeError: it was not started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process

    async def start(self) -> None:
        """Starts the server and returns when it serves.

        Raises:
            MissingExtra: its wheel is not installed.
            FolderInUse: another server works on the folder.
            ServerFailed: it ended or does not serve after a bounded time.
        """
        for folder in (self.folder, self._log_folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._lock.take_within(_LOCK_BOUND_SECONDS)
        try:
            self._process = await self._serve()
        except BaseException:
            self._clean_up()
            self._lock.release()
            raise

    async def restart(self) -> ChildProcess:
        """Starts a server that ended by itself again, under the address that it had.

        Raises:
            ServerFailed: as `start`.
        """
        self._is_restart = True
        try:
            self._clean_up()
            self._process = await self._serve()
            return self._process
        finally:
            self._is_restart = False

    async def stop(self, *, fast: bool = False) -> None:
        """Stops the server: gently with a bound, then hard; `fast` goes straight to SIGKILL.

        None of the three loses acknowledged data by SIGKILL (docs/decisions/0006). May be called
        again after it was cancelled.
        """
        if self._process is not None:
            await self._process.stop(() if fast else self.stop_steps)
            self._process = None
            self._clean_up()
        self._lock.release()

    @abc.abstractmethod
    async def _serve(self) -> ChildProcess:
        """Starts the process and returns it when it serves; leaves none behind when it fails."""

    @abc.abstractmethod
    def _clean_up(self) -> None:
        """Removes what the ended server left behind."""


async def until_ready(
    process: ChildProcess,
    is_ready: Callable[[], Awaitable[bool]],
    *,
    bound_seconds: float = START_BOUND_SECONDS,
    poll_seconds: float = _POLL_SECONDS,
) -> ChildProcess:
    """Asks until the server serves; kills it when it does not.

    Raises:
        ServerFailed: it ended or did not serve in time.
    """
    deadline = time.monotonic() + bound_seconds
    try:
        while not await is_ready():
            process.require_alive()
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{process.name} does not serve after {bound_seconds:g} s: "
                    f"{process.log.tail() or 'it said nothing'} (log: {process.log.path})"
                )
            await asyncio.sleep(poll_seconds)
    except BaseException:
        await process.stop(())
        raise
    return process
