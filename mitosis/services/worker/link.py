"""What the worker asks its coordinator, over its own connection."""

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

    def __init__(self, connection: Connection, worker: str) -> None:
        self._connection, self._worker = connection, worker

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
