"""Leaving in order: nothing new, what runs is finished or handed back, then goodbye."""

import asyncio
import logging
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Listener = Callable[[str, bool], None]


class Departure:
    """The wish to leave, from a signal, an order or the end of the lifetime.

    The first wish lets tasks finish; a second signal, or a forced wish, hands them back.

    Attributes:
        reason: Why, or empty.
        forced: Whether tasks are handed back.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.forced = False
        self._wished = asyncio.Event()
        self._listener: Listener | None = None

    def wish(self, reason: str, *, force: bool = False) -> None:
        """Ask the worker to leave."""
        if self.reason and (self.forced or not force):
            return
        self.reason = self.reason or reason
        self.forced = force
        log.info("leaving: %s%s", reason, ", tasks are handed back" if force else "")
        self._wished.set()
        if self._listener is not None:
            self._listener(self.reason, force)

    def on_signal(self, name: str) -> None:
        """The first signal is a wish, the second one forces it."""
        self.wish(f"the worker got {name}", force=bool(self.reason))

    def listen(self, listener: Listener | None) -> None:
        """Tell a listener of wishes, of the present one at once."""
        self._listener = listener
        if listener is not None and self.reason:
            listener(self.reason, self.forced)

    async def wait(self) -> None:
        """Wait for a wish."""
        await self._wished.wait()

    def catch_signals(self) -> Callable[[], None]:
        """Make SIGTERM and SIGINT wishes; returns what ends that.

        After it they are ignored: the process has left and is about to end with its own status.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.on_signal, signal.Signals(number).name)

        def undo() -> None:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

        return undo
