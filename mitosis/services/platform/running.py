"""A platform in the foreground: runs until a signal or the shutdown command says stop."""

import asyncio
import contextlib
import logging
import signal

from mitosis.services.platform.options import PlatformSettings
from mitosis.services.platform.supervisor import Platform

_LOG = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130


def run_platform(options: PlatformSettings) -> int:
    """Runs a platform in the main thread until SIGINT, SIGTERM or SIGHUP; a second one is faster.

    A shutdown of the coordinator, which then ends with status 0, ends the platform as well.

    Returns:
        0 when it served and was stopped, 130 when it was stopped before it served.

    Raises:
        MissingExtra: a server program is not installed.
        FolderInUse: another supervisor works on the data folder.
        FolderRefused: the data folder is not one that this version may use.
        PortTaken: another program listens on a port that was asked for.
        ServerFailed: a server or a child does not start or does not serve in time.
    """
    return asyncio.run(serve_platform(options))


async def serve_platform(options: PlatformSettings) -> int:
    """See `run_platform`."""
    platform = Platform(options)
    stopped = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopped.is_set():
            _LOG.warning("%s again: stopping at once", number.name)
            platform.hurry()
        else:
            _LOG.info("%s: stopping in order; once more to stop at once", number.name)
            stopped.set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await _run_until(stopped, platform)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def _run_until(stopped: asyncio.Event, platform: Platform) -> int:
    starting = asyncio.create_task(platform.start(), name="start the platform")
    stop = asyncio.create_task(stopped.wait(), name="wait for a signal")
    ended = asyncio.create_task(platform.ended.wait(), name="wait for the end of the coordinator")
    try:
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            return _INTERRUPTED
        starting.result()
        await asyncio.wait({stop, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            _LOG.info("the coordinator was shut down: stopping the platform")
    finally:
        stop.cancel()
        ended.cancel()
    await platform.stop()
    return 0
