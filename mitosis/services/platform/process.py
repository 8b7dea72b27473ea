"""A child process that dies with its parent, writes to a log file and is stopped with a bound."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from mitosis.services.platform.failures import ServerFailed
from mitosis.services.platform.logs import LogFile

LAUNCHER = Path(__file__).with_name("launcher.py")
SAME = "same"
"""The identity of the caller, as the launcher names it."""

_KILL_BOUND_SECONDS = 10.0


class StopStep(msgspec.Struct, frozen=True):
    """A signal and how long the process may take to end after it."""

    signal: signal.Signals
    seconds: float


class ChildProcess:
    """A started process in a session of its own.

    On Linux the kernel sends it `death_signal` when this process ends in any way. That signal is
    tied to the thread that forks, so children are started from the main thread only.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: LogFile) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: LogFile,
        environment: Mapping[str, str],
        death_signal: signal.Signals = signal.SIGKILL,
        identity: str = SAME,
        pass_fds: Sequence[int] = (),
        folder: Path | None = None,
    ) -> "ChildProcess":
        """Starts the command (an absolute path first).

        Raises:
            RuntimeError: called from another thread than the main one.
            OSError: the launcher could not be started.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("children are started from the main thread: their life hangs on it")
        output = log.open()
        try:
            process = await asyncio.create_subprocess_exec(
                *launch_line(command, death_signal, identity),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                pass_fds=tuple(pass_fds),
                cwd=folder,
                start_new_session=True,
            )
        finally:
            os.close(output)
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The process id, the same before and after the launcher became the program."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative for the number of the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Waits for its end and returns the exit status."""
        return await self._process.wait()

    def require_alive(self) -> None:
        """Checks that it still runs.

        Raises:
            ServerFailed: it ended; the message has the last lines of its log.
        """
        if self.exit_status is not None:
            raise ServerFailed(
                f"{self.name} ended with status {self.exit_status} while starting: "
                f"{self.log.tail() or 'it said nothing'} (log: {self.log.path})"
            )

    async def stop(self, steps: Sequence[StopStep]) -> int:
        """Sends the signals of the steps one after the other until it ends, at last SIGKILL.

        Returns:
            The exit status.
        """
        for step in (*steps, StopStep(signal.SIGKILL, _KILL_BOUND_SECONDS)):
            if self.exit_status is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(step.signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), step.seconds)
        self._end_session()
        if self.exit_status is None:
            raise ServerFailed(f"{self.name} (process {self.pid}) did not end even after SIGKILL")
        return self.exit_status

    def _end_session(self) -> None:
        # What it left behind in its process group: a Postgres that was killed leaves backends.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def launch_line(
    command: Sequence[str | Path], death_signal: signal.Signals, identity: str = SAME
) -> list[str]:
    """Returns the arguments that run a command through the launcher, as a child of this process."""
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
    guard = "kernel" if sys.platform == "linux" else "watcher"
    life = [str(os.getpid()), str(int(death_signal)), guard, identity]
    return [*launcher, *life, *(str(part) for part in command)]


def bare_environment(home: Path, **values: str) -> dict[str, str]:
    """Returns the environment of a server: nothing of the caller's but the search path.

    The caller's `AWS_*`, `PG*` and locale variables would change what servers do.
    """
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC", **values}
