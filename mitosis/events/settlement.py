"""Finding out by reading what became of commits whose answer did not come.

The writer knows at which position each of its commits stands if it is stored. So one look at the
stream tells: ours up to here, nothing behind it (send again), or something foreign (stop).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError

from mitosis.errors import (
    REPAIR,
    CorruptData,
    Fenced,
    MitosisError,
    StoreUnavailable,
    VersionConflict,
)
from mitosis.events.messages import get_message, last_message, stream_end

_FLUSH_SECONDS = 1

OnStored = Callable[[int], None]
OnFailed = Callable[[MitosisError], None]


class Append(NamedTuple):
    """One commit to store.

    Attributes:
        subject: Subject of its aggregate.
        payload: The encoded commit.
        expected: Position of the aggregate's previous commit, 0 for none.
    """

    subject: str
    payload: bytes
    expected: int


class Entry:
    """What is sent and settled as one: a commit, or an atomic batch of them."""

    __slots__ = ("appends", "first", "last", "on_failed", "on_stored", "stored")

    def __init__(
        self, first: int, appends: Sequence[Append], on_stored: OnStored, on_failed: OnFailed | None
    ) -> None:
        self.first = first
        self.last = first + len(appends) - 1
        self.appends = appends
        self.on_stored = on_stored
        self.on_failed = on_failed
        self.stored = False


async def settle_pending(
    nc: Client,
    stream: str,
    pending: Sequence[Entry],
    next_position: int,
    acknowledge: Callable[[], None],
) -> None:
    """Acknowledge in order what is stored.

    Args:
        nc: The connection of the writer.
        stream: Name of the stream.
        pending: What was sent and not acknowledged, in order.
        next_position: The position behind the last that was sent.
        acknowledge: Takes the first entry off `pending`, as stored.

    Raises:
        StoreUnavailable: The stream cannot be read now.
        Fenced: Something foreign stands behind the last position of ours.
        CorruptData: The stream is shorter than what it acknowledged.
    """
    await _flush(nc)
    acknowledged = (pending[0].first if pending else next_position) - 1
    last = await stream_end(nc, stream, acknowledged)
    while pending and await _is_stored(nc, stream, pending[0], last):
        acknowledge()
    expected = (pending[0].first if pending else next_position) - 1
    if last < expected:
        msg = (
            f"the stream {stream} ends at {last}, but {expected} was acknowledged: it has lost "
            f"commits. {REPAIR}"
        )
        raise CorruptData(msg, position=last, acknowledged=expected)
    if last > expected:
        raise _fenced(stream, expected + 1)


async def check_expectations(nc: Client, stream: str, entry: Entry) -> None:
    """Tell a wrong idea of an aggregate from a passing trouble.

    Raises:
        StoreUnavailable: The stream cannot be read now.
        VersionConflict: An aggregate was last written elsewhere than the owner expects.
    """
    seen: set[str] = set()
    for append in entry.appends:
        if append.subject in seen:
            continue
        seen.add(append.subject)
        found = await last_message(nc, stream, append.subject)
        position = 0 if found is None else found.position
        if position != append.expected and position < entry.first:
            msg = (
                f"{append.subject} was last written at {position}, not at {append.expected}: "
                "the writer's owner has a wrong state and must read the stream again"
            )
            raise VersionConflict(msg, subject=append.subject, position=position)


async def _flush(nc: Client) -> None:
    """Let what the connection still holds go out first; it would only be refused later."""
    if not nc.is_connected:
        msg = "the connection to NATS is down"
        raise StoreUnavailable(msg)
    try:
        await nc.flush(_FLUSH_SECONDS)
    except (NatsError, OSError) as error:
        msg = f"the connection to NATS is down: {error}"
        raise StoreUnavailable(msg) from error


async def _is_stored(nc: Client, stream: str, entry: Entry, last: int) -> bool:
    """Whether an entry is stored. An atomic batch is there as a whole or not at all."""
    if last < entry.first:
        return False
    for position, append in enumerate(entry.appends, entry.first):
        found = await get_message(nc, stream, position)
        if found is None:
            msg = f"position {position} of {stream} cannot be read yet"
            raise StoreUnavailable(msg)
        if found.subject != append.subject or found.payload != append.payload:
            raise _fenced(stream, position)
    return True


def _fenced(stream: str, position: int) -> Fenced:
    msg = (
        f"another writer has stored position {position} of {stream}: this one must stop. "
        "Its owner reads the stream again before it may open a new term."
    )
    return Fenced(msg, stream=stream, position=position)
