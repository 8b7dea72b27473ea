"""The projector as a child process of the coordinator, started again when it ends."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
STOP_SECONDS = 10.0


class ChildProcess:
    """One program of ours, kept alive until `stop`.

    It gets its settings on standard input (not as arguments, which everybody on the machine can
    read), and sees the end of standard input when this process dies, however it dies.
    """

    def __init__(self, command: Sequence[str], name: str, settings: bytes) -> None:
        self._command = command
        self._name = name
        self._settings = len(settings).to_bytes(4) + settings
        self._process: asyncio.subprocess.Process | None = None
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep the child alive."""
        self._loop = asyncio.create_task(self._keep(), name=f"keep {self._name}")

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE
            )
            if self._process.stdin is not None:
                self._process.stdin.write(self._settings)
            status = await self._process.wait()
            lasted = clock() - began
            pause = FIRST_PAUSE_SECONDS if lasted > LONGEST_PAUSE_SECONDS else pause
            log.warning("the %s ended with status %d: again in %.1f s", self._name, status, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def stop(self) -> None:
        """End the child: politely, then not."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
