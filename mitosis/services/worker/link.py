"""What the worker asks its coordinator, over its own connection."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from mitosis.contract import subjects
from mitosis.errors import (
    AuthenticationFailed,
    MitosisError,
    NotAllowed,
    NotFound,
    StaleAttempt,
    Unavailable,
    WrongState,
)
from mitosis.nats.asking import call
from mitosis.nats.connection import Connection

T = TypeVar("T")

REQUEST_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
# Much longer than a coordinator can believe that it leads when another one does. After that a lower
# term is that of an event stream that was restored from a backup.
FORMER_SECONDS = 30.0


class Link(Protocol):
    """Requests of this worker."""

    async def ask(
        self,
        verb: str,
        body: msgspec.Struct,
        result: type[T],
        *,
        command_id: str = "",
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> T:
        """Ask once.

        Raises:
            MitosisError: What the coordinator answered, or Unavailable when it did not.
        """


class NatsLink:
    """The link of a registered worker."""

    def __init__(
        self, connection: Connection, worker: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection, self._worker, self._now = connection, worker, now
        self._term, self._heard_at = 0, 0.0

    def leads(self, term: int) -> bool:
        """Whether the coordinator of a term may be believed: no later one was heard of.

        A later one counts for `FORMER_SECONDS` since it was heard. Who says 0 is believed.
        """
        now = self._now()
        if 0 < term < self._term and now - self._heard_at < FORMER_SECONDS:
            return False
        if term:
            self._term, self._heard_at = term, now
        return True

    async def ask(
        self,
        verb: str,
        body: msgspec.Struct,
        result: type[T],
        *,
        command_id: str = "",
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> T:
        """Ask once; see `Link`."""
        reply = await call(
            self._connection,
            subjects.from_worker(self._worker, verb),
            body,
            result,
            command_id=command_id,
            timeout_seconds=timeout_seconds,
        )
        if reply.result is None:
            raise Unavailable("the coordinator's answer is empty")
        if not self.leads(getattr(reply.result, "term", 0)):
            raise Unavailable("a coordinator has answered that does not lead any more")
        return reply.result


class Unregistered(Exception):
    """The coordinator does not know this worker any more: what runs must end."""

    def __init__(self, cause: MitosisError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def check_registered(error: MitosisError) -> None:
    """Raise Unregistered when an answer means that this worker is gone for the coordinator."""
    gone = (AuthenticationFailed, NotAllowed, NotFound, WrongState)
    if isinstance(error, gone) and not isinstance(error, StaleAttempt):
        raise Unregistered(error) from error


def longer(pause_seconds: float) -> float:
    """The next pause between tries."""
    return min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * pause_seconds))
