"""Answering typed requests over a connection; `asking.py` asks."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from mitosis.contract.subjects import GUEST_INBOX, USER_INBOX, WORKER_INBOX
from mitosis.contract.wire import (
    MAX_REQUEST_BYTES,
    Reply,
    Request,
    decode_request,
    encode,
    error_reply,
    request_decoder,
)
from mitosis.errors import InvalidInput, MitosisError, Overloaded, TooLarge, Unavailable
from mitosis.nats.connection import Connection, Msg, Subscription
from mitosis.nats.credentials import SERVICE_INBOX
from mitosis.nats.waiting_line import WaitingLine

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_AFTER_SECONDS = 1.0
_INBOX_OF = {
    "login": GUEST_INBOX,
    "cmd": USER_INBOX,
    "query": USER_INBOX,
    "worker": WORKER_INBOX,
}


class Caller(msgspec.Struct, frozen=True):
    """Who asks for what.

    Attributes:
        owner: User or worker of the subject, which the server lets only its owner use; empty for
            a guest.
        verb: `<noun>.<verb>` or `<verb>`.
        request_id: Id of the command; empty for a read.
        reply: Where the answer goes; empty when none is wanted.
        received: When it arrived, by `time.monotonic`.
    """

    owner: str
    verb: str
    request_id: str
    reply: str
    received: float = 0.0

    @property
    def session(self) -> str:
        """The session that the asker's inbox names; only that session can hear the answer."""
        root, _, rest = self.reply.partition(f"{USER_INBOX}.{self.owner}.")
        return rest.partition(".")[0] if not root else ""


Handler = Callable[[Caller, Any], Any]


class _Arrived(NamedTuple):
    caller: Caller
    data: bytes


class Endpoints:
    """The verbs of one subject space, each with its body type and its handler.

    A handler gets `(Caller, body)` and returns a result Struct, a `Reply` (with a position), or
    None when it answers later itself by `respond` or `respond_error`. It may be synchronous (no
    task is made: the hot path) or return an awaitable, of which a bounded number run at once.
    """

    def __init__(
        self,
        connection: Connection,
        subject: str,
        *,
        max_running: int = 256,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        handler_timeout_seconds: float = 60.0,
        in_turns: bool = False,
        has_room: Callable[[], bool] = lambda: True,
        on_refused: Callable[[Caller, MitosisError], None] = lambda _, __: None,
    ) -> None:
        """Prepare.

        Args:
            connection: Where to listen.
            subject: A wildcard such as `contract.subjects.COMMANDS_ALL`.
            max_running: Handlers that may run at once.
            max_request_bytes: A larger request is refused.
            handler_timeout_seconds: How long one handler may take.
            in_turns: Owners take turns when more comes than can be handled, and what is too much is
                refused before it is looked at; else each request is handled as it arrives.
            has_room: Whether requests can be done just now; for a moment they wait in line for it.
            on_refused: Told what was refused for that reason, or as too many handlers run.
        """
        self._connection = connection
        self._subject = subject
        self._max_running = max_running
        self._max_bytes = max_request_bytes
        self._handler_timeout = handler_timeout_seconds
        self._handlers: dict[str, tuple[msgspec.json.Decoder[Request[Any]], Handler]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None
        self._line = (
            WaitingLine[_Arrived](self._handle, self._lose_place, has_room) if in_turns else None
        )
        self._on_refused = on_refused

    def add(
        self,
        verb: str,
        body: type[T],
        handler: Callable[[Caller, T], msgspec.Struct | None]
        | Callable[[Caller, T], Awaitable[msgspec.Struct | None]],
    ) -> None:
        """Answer a verb."""
        if verb in self._handlers:
            raise ValueError(f"two handlers for {verb}")
        self._handlers[verb] = (request_decoder(body), handler)

    async def start(self, queue: str = "") -> None:
        """Begin to listen; in a queue group each request reaches one of its members."""
        self._subscription = await self._connection.subscribe(self._subject, self._receive, queue)

    async def stop(self, timeout_seconds: float = 10.0) -> None:
        """Stop listening; running handlers have the time to finish, then they are cancelled."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        self._turn_away()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=timeout_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def respond(
        self, reply: str, result: msgspec.Struct, position: int = 0, *, stale: bool = False
    ) -> None:
        """Answer a request. Never raises: the asker repeats what got no answer."""
        try:
            data = encode(Reply(result, position, stale))
        except MitosisError as error:
            self.respond_error(reply, error, position)
        else:
            self._send(reply, data)

    def respond_error(self, reply: str, error: MitosisError, position: int = 0) -> None:
        """Answer a request with an error. Never raises."""
        self._send(reply, error_reply(error, position))

    def _send(self, reply: str, data: bytes) -> None:
        if not reply:
            return
        try:
            self._connection.publish(reply, data)
        except MitosisError as error:
            log.warning("an answer could not be sent: %s", error, extra={"subject": reply})

    def _receive(self, message: Msg) -> None:
        _, kind, *rest = message.subject.split(".", 3)
        guest = kind == "login"
        owner = "" if guest else rest[0]
        verb = ".".join(rest if guest else rest[1:])
        if not _own_inbox(kind, owner, message.reply):
            # Our rights on the answer's subject are wider than the asker's: never lend them.
            log.warning(
                "request on %s wants its answer on a foreign subject %s: dropped",
                message.subject,
                message.reply,
            )
            return
        caller = Caller(owner, verb, "", message.reply, time.monotonic())
        arrived = _Arrived(caller, message.data)
        if self._line is None:
            self._handle(arrived)
        elif not self._line.put(owner, arrived, len(message.data)):
            self._refuse(caller)

    def _handle(self, arrived: "_Arrived") -> None:
        caller, data = arrived
        try:
            if len(data) > self._max_bytes:
                raise TooLarge(
                    f"the request has {len(data)} bytes, at most {self._max_bytes} are possible",
                    size=len(data),
                    limit=self._max_bytes,
                )
            entry = self._handlers.get(caller.verb)
            if entry is None:
                raise InvalidInput(
                    f"there is no {caller.verb!r}: known are {', '.join(sorted(self._handlers))}"
                )
            request = decode_request(entry[0], data)
            caller = msgspec.structs.replace(caller, request_id=request.id)
            outcome = entry[1](caller, request.body)
            if isinstance(outcome, Awaitable):
                self._spawn(caller, outcome)
            else:
                self._answer(caller, outcome)
        except Exception as error:  # noqa: BLE001  the top of the loop: answered and logged
            self._fail(caller, error)

    def _lose_place(self, arrived: "_Arrived") -> None:
        self._refuse(arrived.caller)

    def _refuse(self, caller: Caller) -> None:
        error = overloaded("too many requests wait already")
        self._on_refused(caller, error)
        self.respond_error(caller.reply, error)

    def _turn_away(self) -> None:
        """Tell those who still wait in line that it is closed."""
        if self._line is None:
            return
        self._line.stop()
        while (arrived := self._line.take()) is not None:
            gone = Unavailable("the service has stopped before this was looked at: try again")
            self.respond_error(arrived.caller.reply, gone)

    def _spawn(self, caller: Caller, outcome: Awaitable[Any]) -> None:
        if len(self._running) >= self._max_running:
            if asyncio.iscoroutine(outcome):
                outcome.close()
            error = overloaded(f"{self._max_running} requests are being handled")
            self._on_refused(caller, error)
            raise error
        task = asyncio.create_task(self._finish(caller, outcome), name=f"handle {caller.verb}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _finish(self, caller: Caller, outcome: Awaitable[Any]) -> None:
        try:
            async with asyncio.timeout(self._handler_timeout):
                result = await outcome
            self._answer(caller, result)
        except Exception as error:  # noqa: BLE001  # the top of the task: answered and logged
            self._fail(caller, error)

    def _answer(self, caller: Caller, result: msgspec.Struct | None) -> None:
        if isinstance(result, Reply) and result.result is not None:
            self.respond(caller.reply, result.result, result.position, stale=result.stale)
        elif result is not None:
            self.respond(caller.reply, result)

    def _fail(self, caller: Caller, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            error = Unavailable(f"{caller.verb} took more than {self._handler_timeout:g} s")
        if not isinstance(error, MitosisError):
            log.error("handling %s of %s failed", caller.verb, caller.owner, exc_info=error)
            error = MitosisError("internal error, see the coordinator's log")
        self.respond_error(caller.reply, error)


def overloaded(why: str) -> Overloaded:
    """Return what is said when there is no room for a request, of which nothing was done."""
    return Overloaded(
        f"{why}: nothing was done, try again in {RETRY_AFTER_SECONDS:g} s",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def _own_inbox(kind: str, owner: str, reply: str) -> bool:
    if not reply or reply.startswith(f"{SERVICE_INBOX}."):
        return True
    root = _INBOX_OF.get(kind)
    if root is None:
        return False
    return reply.startswith(f"{root}.{owner}." if owner else f"{root}.")
