"""How a session reaches the world: on an event loop, or by waiting in the thread that asks.

A session means the same over both; `Session` is written once. Programs use the event loop. A
command that asks and leaves waits in place, which saves it half of its start (decisions/0041).
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from mitosis.client.retry import asleep
from mitosis.nats.credentials import Credentials
from mitosis.tls import Trust

if TYPE_CHECKING:
    from mitosis.errors import MitosisError
    from mitosis.nats.blocking import BlockingConnection
    from mitosis.nats.connection import Connection

T = TypeVar("T")
CLIENT_NAME = "mito-client"


class Line(Protocol):
    """A connection, as far as whoever only asks needs it."""

    credentials: Credentials
    failure: "MitosisError | None"

    @property
    def address(self) -> str:
        """The servers, for messages."""
        ...

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        """Send a request and return the bytes of the first answer; see `Connection.request`."""
        ...

    async def close(self) -> None:
        """Close now."""


class Network(Protocol):
    """What a session does that takes time."""

    async def connect(
        self,
        servers: Sequence[str],
        credentials: Credentials,
        *,
        trust: Trust,
        reconnect: bool,
        deadline: float,
        on_reconnect: Callable[[], None],
    ) -> Line:
        """Open a connection; see `Connection.open`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so long."""

    async def aside(self, work: Callable[[], T], *, may_be_left: bool = False) -> T:
        """Run what blocks, and hold up nobody else.

        Args:
            work: What blocks.
            may_be_left: It may be cut off at any point: who gives it up does not wait for its end,
                not even at the end of all.
        """
        ...

    def turns(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Return what lets one in after the other."""
        ...


class EventLoop:
    """Many requests at once, and listening: connections by `Connection`."""

    async def connect(
        self,
        servers: Sequence[str],
        credentials: Credentials,
        *,
        trust: Trust,
        reconnect: bool,
        deadline: float,
        on_reconnect: Callable[[], None],
    ) -> "Connection":
        """Open a connection."""
        from mitosis.nats.connection import Connection

        return await Connection.open(
            servers,
            credentials,
            name=CLIENT_NAME,
            trust=trust,
            reconnect=reconnect,
            deadline=deadline,
            on_reconnect=on_reconnect,
        )

    async def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        await asleep(seconds)

    async def aside(self, work: Callable[[], T], *, may_be_left: bool = False) -> T:
        """Run it in a thread."""
        import asyncio

        return await (_left_alone(work) if may_be_left else asyncio.to_thread(work))

    def turns(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Return a lock of the event loop."""
        import asyncio

        return asyncio.Lock()


async def _left_alone(work: Callable[[], T]) -> T:
    """Run it in a thread of its own, which ends with the program."""
    import asyncio
    import threading

    from mitosis.signals import signals_blocked

    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(cast(T, result))

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001  handed on
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    with signals_blocked():  # they are the main thread's
        threading.Thread(target=run, name="aside", daemon=True).start()
    return await done


class InPlace:
    """One request after the other, by one thread that waits: connections by `BlockingConnection`.

    What is done with it never suspends; run it by `mitosis.nats.blocking.finish`.
    """

    async def connect(
        self,
        servers: Sequence[str],
        credentials: Credentials,
        *,
        trust: Trust,
        reconnect: bool,
        deadline: float,
        on_reconnect: Callable[[], None],
    ) -> "BlockingConnection":
        """Open a connection."""
        from mitosis.nats.blocking import BlockingConnection

        return await BlockingConnection.open(
            servers,
            credentials,
            name=CLIENT_NAME,
            trust=trust,
            reconnect=reconnect,
            deadline=deadline,
            on_reconnect=on_reconnect,
        )

    async def sleep(self, seconds: float) -> None:
        """Wait in place."""
        from mitosis.nats.blocking import pause

        pause(seconds)

    async def aside(self, work: Callable[[], T], *, may_be_left: bool = False) -> T:  # noqa: ARG002
        """Run it: there is nobody else."""
        return work()

    def turns(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Return a door that is always open: there is nobody else."""
        return contextlib.nullcontext()
