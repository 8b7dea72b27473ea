"""Listening to subjects, through lost connections."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from mitosis.client.session import Session
from mitosis.errors import Unavailable

if TYPE_CHECKING:
    from mitosis.nats.connection import Msg


@asynccontextmanager
async def listening(
    session: Session,
    subjects: Iterable[str],
    hear: Callable[["Msg"], None],
    look_again: Callable[[], None],
) -> AsyncIterator[None]:
    """Listen until the end of the block; it begins when the server knows the subscriptions.

    Args:
        session: Who listens.
        subjects: What to listen to.
        hear: Gets every message.
        look_again: Called when the connection has come back: messages may have been missed.
    """
    from mitosis.nats.connection import Connection

    connection = await session.open()
    assert isinstance(connection, Connection)  # noqa: S101  who listens has an event loop
    async with AsyncExitStack() as stack:
        for subject in subjects:
            subscription = await connection.subscribe(subject, hear)
            stack.push_async_callback(subscription.unsubscribe)
        session.on_reconnect.add(look_again)
        stack.callback(session.on_reconnect.discard, look_again)
        with suppress(Unavailable):  # the connection that comes back tells the server
            await connection.flush()
        yield
