"""Typed requests over a connection of either kind; `rpc.py` answers them."""

import functools
from typing import Protocol, TypeVar

import msgspec

from mitosis.contract.wire import Reply, Request, encode, raise_error, reply_decoder
from mitosis.errors import Unavailable

T = TypeVar("T")
_decoder_of = functools.lru_cache(maxsize=512)(reply_decoder)


class Asking(Protocol):
    """What is needed of a connection to ask."""

    @property
    def address(self) -> str:
        """The servers, for messages."""
        ...

    async def request(self, subject: str, data: bytes, timeout_seconds: float) -> bytes:
        """Send a request and return the bytes of the first answer; see `Connection.request`."""
        ...


async def call(
    connection: Asking,
    subject: str,
    body: msgspec.Struct,
    result_type: type[T],
    *,
    command_id: str = "",
    timeout_seconds: float,
) -> Reply[T]:
    """Ask, and return the reply; `reply.result` is never None.

    Args:
        connection: Of the one who asks.
        subject: From `contract.subjects`.
        body: What is wanted.
        result_type: What the answer is.
        command_id: The same id again is the same command.
        timeout_seconds: For everything, also waiting for a lost connection.

    Raises:
        MitosisError: The error that the other side answered, or one of `Connection.request`.
    """
    data = encode(Request(body, command_id))
    answer = await connection.request(subject, data, timeout_seconds)
    try:
        reply: Reply[T] = _decoder_of(result_type).decode(answer)  # type: ignore[arg-type]
    except msgspec.MsgspecError as error:
        raise Unavailable(
            f"the answer of {connection.address} cannot be read ({error}): "
            "use client and coordinator of the same version"
        ) from error
    if reply.error is not None:
        raise_error(reply.error)
    if reply.result is None:
        raise Unavailable(f"the answer of {connection.address} has neither result nor error")
    return reply
