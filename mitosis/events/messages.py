"""Requests to JetStream that the store needs: stream info, single messages, all of one subject.

Raw `$JS.API` requests, because nats-py has no batched direct get and its errors hide the code.
Every wait is bounded; what NATS says is mapped to our error tree here and nowhere else.
"""

import asyncio
import base64
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from mitosis.errors import StoreUnavailable

REQUEST_TIMEOUT_SECONDS = 2.0
MAJORITY_SECONDS = 5.0  # a leader hears of the others about every two
_PAUSE_SECONDS = 0.1
WRONG_LAST_SEQUENCE = 10071
WRONG_LAST_SEQUENCE_IN_FLIGHT = (
    10164  # replicas: a checked write to this subject is not applied yet
)
STREAM_NOT_FOUND = 10059
MESSAGE_NOT_FOUND = 10037
_DIRECT_PAGE = 256


class StoredMessage(NamedTuple):
    """A message of the stream: position is its stream sequence."""

    position: int
    subject: str
    payload: bytes


class JetStreamError(StoreUnavailable):
    """JetStream refused a request; `err_code` is its number for the reason."""

    def __init__(self, message: str, err_code: int) -> None:
        super().__init__(message, err_code=err_code)
        self.err_code = err_code


class StreamState(msgspec.Struct):
    """Where a stream begins and ends, as its leader says.

    Attributes:
        quiet_seconds: How long ago the leader last heard of a majority of its replicas; about two
            seconds as a rule, 0 for one that has no others. A leader that was cut off goes on
            answering for more than ten seconds, and does not know what another one stores.
    """

    messages: int
    first_seq: int
    last_seq: int
    quiet_seconds: float = 0.0


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """Answer of JetStream to a publish: a sequence, or an error."""

    seq: int = 0
    error: _Error | None = None


_decode_answer = msgspec.json.Decoder(Answer).decode


def parse_answer(data: bytes) -> Answer:
    """Parse the answer to a publish; unreadable bytes become an error with code 0."""
    try:
        return _decode_answer(data)
    except msgspec.DecodeError:
        return Answer(error=_Error(description=f"unreadable answer {data[:80]!r}"))


async def found_or_made(nc: Client, config: dict[str, Any]) -> dict[str, Any]:
    """Create a stream with these settings if there is none of its name.

    Returns:
        The settings that it has; one that was there may have others.

    Raises:
        StoreUnavailable: JetStream does not answer or cannot create it.
    """
    name = config["name"]
    try:
        answer = await request(nc, f"$JS.API.STREAM.INFO.{name}")
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        answer = await request(nc, f"$JS.API.STREAM.CREATE.{name}", config)
    found: dict[str, Any] = answer["config"]
    return found


async def request(
    nc: Client, subject: str, body: Any = None, timeout: float = REQUEST_TIMEOUT_SECONDS
) -> dict[str, Any]:
    """Ask the JetStream API and return its JSON answer.

    Raises:
        JetStreamError: It answered with an error.
        StoreUnavailable: Nobody answered in time, or the connection is down.
    """
    payload = b"" if body is None else msgspec.json.encode(body)
    reply = await ask(nc, subject, payload, timeout=timeout)
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if error := answer.get("error"):
        description = error.get("description", "unknown error")
        msg = f"JetStream refused {subject}: {description}"
        raise JetStreamError(msg, error.get("err_code", 0))
    return answer


async def ask(
    nc: Client,
    subject: str,
    payload: bytes,
    headers: dict[str, str] | None = None,
    timeout: float = REQUEST_TIMEOUT_SECONDS,
) -> Msg:
    """Send a request and return the raw answer.

    Raises:
        StoreUnavailable: Nobody answered in time, or the connection is down. The request may have
            taken effect.
    """
    try:
        return await nc.request(subject, payload, timeout=timeout, headers=headers)
    except (TimeoutError, NatsError, OSError) as error:
        reason = str(error) or type(error).__name__
        msg = f"NATS did not answer {subject} within {timeout:g} s: {reason}"
        raise StoreUnavailable(msg, subject=subject) from error


async def stream_state(nc: Client, stream: str) -> StreamState:
    """Return first and last sequence of a stream.

    Raises:
        StoreUnavailable: The stream or NATS is not there.
    """
    answer = await request(nc, f"$JS.API.STREAM.INFO.{stream}")
    state = msgspec.convert(answer["state"], StreamState)
    state.quiet_seconds = _quiet_seconds(answer.get("cluster") or {})
    return state


async def stream_end(nc: Client, stream: str, known: int) -> int:
    """Return the last sequence of a stream in which a position was seen before.

    A leader that was cut off goes on answering, and does not have what another one has stored. So
    less than `known` is believed only from one that has heard of a majority since it was asked.

    Args:
        nc: An open connection.
        stream: Name of the stream.
        known: The position that was seen, 0 for none.

    Raises:
        StoreUnavailable: The stream or NATS is not there, or its leader is cut off.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        asked = clock()
        state = await stream_state(nc, stream)
        if state.last_seq >= known or asked - state.quiet_seconds >= began:
            return state.last_seq
        if asked - began > MAJORITY_SECONDS:
            raise StoreUnavailable(
                f"the leader of the stream {stream} does not hear a majority of its replicas, and "
                f"ends at {state.last_seq}, before {known}",
                stream=stream,
            )
        await asyncio.sleep(_PAUSE_SECONDS)


def _quiet_seconds(cluster: dict[str, Any]) -> float:
    """Return how long ago the leader heard of so many others that they are a majority with it."""
    ages = sorted(
        (one.get("active", 0) / 1e9 or math.inf)  # 0: never
        for one in cluster.get("replicas") or []
    )
    return ages[(len(ages) + 1) // 2 - 1] if ages else 0.0


async def age_seconds(nc: Client, stream: str, position: int) -> float:
    """Return how long ago a message was stored, by the server's clock alone.

    Raises:
        StoreUnavailable: The message, the stream or NATS is not there.
    """
    found = await request(nc, f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": position})
    asked = await request(nc, f"$JS.API.STREAM.INFO.{stream}")
    stored_at, now = (
        msgspec.convert(text, datetime) for text in (found["message"]["time"], asked["ts"])
    )
    return max(0.0, (now - stored_at).total_seconds())


async def get_message(nc: Client, stream: str, position: int) -> StoredMessage | None:
    """Return the message at a position as the leader of the stream has it, or None."""
    return await _get(nc, stream, {"seq": position})


async def last_message(nc: Client, stream: str, subject: str) -> StoredMessage | None:
    """Return the last message on a subject (wildcards allowed) as the leader has it, or None."""
    return await _get(nc, stream, {"last_by_subj": subject})


async def next_message(nc: Client, stream: str, subject: str, start: int) -> StoredMessage | None:
    """Return the first message on a subject from a position on, as the leader has it, or None."""
    return await _get(nc, stream, {"seq": start, "next_by_subj": subject})


async def _get(nc: Client, stream: str, body: dict[str, Any]) -> StoredMessage | None:
    try:
        answer = await request(nc, f"$JS.API.STREAM.MSG.GET.{stream}", body)
    except JetStreamError as error:
        if error.err_code == MESSAGE_NOT_FOUND:
            return None
        raise
    found = answer["message"]
    return StoredMessage(found["seq"], found["subject"], base64.b64decode(found.get("data", "")))


async def direct_page(
    nc: Client, stream: str, body: dict[str, Any], timeout: float = REQUEST_TIMEOUT_SECONDS
) -> tuple[list[StoredMessage], bool]:
    """Read one batch by direct get.

    Returns:
        The messages in order, and whether there are more.

    Raises:
        StoreUnavailable: The batch did not end in time, or was refused.
    """
    async with _replies(nc) as (inbox, queue):
        subject = f"$JS.API.DIRECT.GET.{stream}"
        try:
            await nc.publish(subject, msgspec.json.encode(body), reply=inbox)
        except (NatsError, OSError) as error:
            msg = f"the connection to NATS is down: {error}"
            raise StoreUnavailable(msg, subject=subject) from error
        found: list[StoredMessage] = []
        async with _bounded(timeout, f"a read of {stream}"):
            while True:
                message = await queue.get()
                headers = message.headers or {}
                status = headers.get("Status")
                if status is None:
                    found.append(_direct(message))
                elif status == "204":
                    return found, int(headers.get("Nats-Num-Pending", "0")) > 0
                elif status == "404":
                    return found, False
                else:
                    reason = headers.get("Description", "") or "no responders"
                    msg = f"the stream {stream} could not be read: {status} {reason}"
                    raise StoreUnavailable(msg, stream=stream)


async def subject_messages(
    nc: Client, stream: str, subject: str, start: int = 1
) -> AsyncIterator[StoredMessage]:
    """Yield every message of a subject (wildcards allowed) in order, read by direct get."""
    while True:
        page, more = await direct_page(
            nc, stream, {"seq": start, "next_by_subj": subject, "batch": _DIRECT_PAGE}
        )
        for message in page:
            yield message
        if not more or not page:
            return
        start = page[-1].position + 1


def _direct(message: Msg) -> StoredMessage:
    headers = message.headers or {}
    return StoredMessage(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data)


@asynccontextmanager
async def _replies(nc: Client) -> AsyncIterator[tuple[str, asyncio.Queue[Msg]]]:
    """Give an inbox for several answers and the queue in which they arrive."""
    inbox = nc.new_inbox()
    queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def keep(message: Msg) -> None:
        queue.put_nowait(message)

    try:
        subscription = await nc.subscribe(inbox, cb=keep)
    except (NatsError, OSError) as error:
        msg = f"the connection to NATS is down: {error}"
        raise StoreUnavailable(msg) from error
    try:
        yield inbox, queue
    finally:
        if not nc.is_closed:
            await subscription.unsubscribe()


@asynccontextmanager
async def _bounded(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        msg = f"NATS did not finish {what} within {seconds:g} s"
        raise StoreUnavailable(msg) from error
