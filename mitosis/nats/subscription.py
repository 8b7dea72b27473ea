"""A subscription that outlives the links on which it listens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as LinkSubscription

from mitosis.nats.intake import promptly

log = logging.getLogger(__name__)

Callback = Callable[[Msg], Awaitable[None] | None]


class Subscription:
    """Messages of one subject, in order, to one callback. Made by `Connection.subscribe`.

    A synchronous callback is called as messages come (intake.py). An asynchronous one runs in a
    task of its own, so that the loss of a link neither cancels it half-way nor drops what came.
    """

    def __init__(
        self,
        subject: str,
        callback: Callback,
        queue: str,
        on_end: Callable[["Subscription"], None],
    ) -> None:
        self.subject = subject
        self._queue = queue
        self._callback = callback
        self._on_end = on_end
        self._link: LinkSubscription | None = None
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._pump: asyncio.Task[None] | None = None
        self._asynchronous = iscoroutinefunction(callback)
        self._ended = False

    async def attach(self, link: Client) -> None:
        """Listen on a (new) link."""
        if self._ended:
            return
        if self._asynchronous and self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"subscription {self.subject}")
        self._link = await link.subscribe(
            self.subject,
            queue=self._queue,
            cb=promptly(self._arrived.put_nowait if self._asynchronous else self._call),
            pending_msgs_limit=0,  # 0: no limit; nats-py drops silently over a limit
            pending_bytes_limit=0,
        )

    async def unsubscribe(self) -> None:
        """Stop listening now; what has not reached the callback is dropped."""
        await self._leave()
        await self.stop()

    async def drain(self) -> None:
        """Stop listening, and return when the callback has had everything that arrived."""
        if self._link is not None and _stands(self._link):
            await self._link.drain()  # type: ignore[no-untyped-call]
        await self._arrived.join()
        await self.stop()

    async def stop(self) -> None:
        """End the task of the subscription, and forget it."""
        self._ended = True
        self._on_end(self)
        if self._pump is not None and self._pump is not asyncio.current_task():
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def _leave(self) -> None:
        if self._link is not None and _stands(self._link):
            await self._link.unsubscribe()
        self._link = None

    def _call(self, message: Msg) -> None:
        try:
            self._callback(message)
        except Exception:  # one bad message must not end the subscription
            log.exception("the callback of subject %s failed", self.subject)

    async def _run(self) -> None:
        while True:
            message = await self._arrived.get()
            try:
                outcome = self._callback(message)
                if outcome is not None:
                    await outcome
            except Exception:  # one bad message must not end the subscription
                log.exception("the callback of subject %s failed", self.subject)
            finally:
                self._arrived.task_done()


def _stands(subscription: LinkSubscription) -> bool:
    link = subscription._conn  # nats-py has no public way to ask
    return not (link.is_closed or link.is_draining or subscription._closed)
