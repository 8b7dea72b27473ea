"""An event loop in a thread: the library's recorders are synchronous, the store is not."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from eventsourcing.persistence import OperationalError

from mitosis.signals import signals_blocked

_CALL_SECONDS = 60.0

T = TypeVar("T")


class EventLoopThread:
    """An event loop in a daemon thread, for the synchronous recorders."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(
            target=self.loop.run_forever, name="mitosis-events", daemon=True
        )
        with signals_blocked():
            self._thread.start()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it.

        Raises:
            OperationalError: It took longer than a minute.
        """
        future = self.start(work)
        try:
            return future.result(_CALL_SECONDS)
        except CancelledError as error:
            msg = "the event store was closed meanwhile"
            raise OperationalError(msg) from error
        except TimeoutError as error:
            future.cancel()
            msg = f"the event store did not answer within {_CALL_SECONDS:g} s"
            raise OperationalError(msg) from error

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine on the loop.

        Raises:
            OperationalError: The loop is closed.
        """
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(work, self.loop)
        work.close()
        msg = "the event store is closed"
        raise OperationalError(msg)

    def close(self) -> None:
        """Cancel what still runs, stop the loop and its thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            ended = asyncio.run_coroutine_threadsafe(self._cancel_all(), self.loop)
        ended.result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
