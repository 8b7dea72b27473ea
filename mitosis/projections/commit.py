"""What a projection reads: decoded commits in the order of the stream, from a port.

The stream itself is behind `CommitSource`; decoding is a function that is passed in. So the
folds can be fed from memory, and this package knows nothing of NATS.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from mitosis.contract.subjects import aggregate_kind
from mitosis.domain.event import Event

RawCommit = tuple[int, str, bytes]
"""Position, subject and payload of one stored message."""


class Commit(msgspec.Struct, frozen=True):
    """One decoded commit of one aggregate.

    Attributes:
        position: Sequence in the stream.
        subject: As stored.
        payload: The stored bytes, kept for the archive.
        digest: SHA-256 over subject, newline and payload, in hexadecimal form.
        tail: Name of the aggregate, such as `task.lab.<uuid>`.
        at: When it was decided (UTC).
        events: What happened, oldest first.
        actor: Who asked.
        session: The session of the user who asked, or empty.
        command: Id of the command that was decided, or empty.
    """

    position: int
    subject: str
    payload: bytes
    digest: str
    tail: str
    at: datetime
    events: Sequence[Event]
    actor: str = ""
    session: str = ""
    command: str = ""

    @property
    def kind(self) -> str:
        """Kind of the aggregate: `task`, `user` and so on."""
        return aggregate_kind(self.tail)


Decode = Callable[[int, str, bytes], Commit]
"""Decodes one stored message; raises CorruptData when it cannot be what was written."""


class CommitSource(Protocol):
    """The stream of commits. Errors: StoreUnavailable when it does not answer."""

    async def last_position(self) -> int:
        """Return the sequence of the newest stored commit, 0 when there is none."""
        ...

    def batches(self, start: int) -> AsyncIterator[Sequence[RawCommit]]:
        """Yield what is stored from `start` on, then what comes, without end."""
        ...
