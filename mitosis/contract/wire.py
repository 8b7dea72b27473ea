"""The wire form of requests and replies: JSON, typed by msgspec, with a bound.

A request carries the id of its command (the same id again is the same command) and a body. A
reply has a result and the position of the commit, or an error with a code (see errors.py).

What somebody asks for is read strictly: a field that this side does not know is a wish that it
cannot fulfil, and is refused rather than forgotten. What workers report is read leniently: a fact
too many must not cost the others.
"""

from typing import Any, Generic, TypeVar

import msgspec

from mitosis.errors import InvalidInput, MitosisError, TooLarge, from_wire

MAX_REQUEST_BYTES = 1024 * 1024  # the default payload limit of nats-server
MAX_ID_CHARS = 100  # it is stored with the commit, and remembered
MAX_ERROR_CHARS = 4_000  # of a message that repeats what it was given
PROTOCOL = 1
_OTHER_VERSION = ": use client and coordinator of the same version"

T = TypeVar("T")


class Request(msgspec.Struct, Generic[T], omit_defaults=True, forbid_unknown_fields=True):
    """What a client or a worker sends.

    Attributes:
        id: Id of the command; repeating a request with the same id has no second effect.
        body: What is wanted.
        protocol: Version of this form.
    """

    body: T
    id: str = ""
    protocol: int = PROTOCOL


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """An error on its way: stable code, sentence for a person, facts for a program."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Reply(msgspec.Struct, Generic[T], omit_defaults=True):
    """What comes back.

    Attributes:
        result: The answer; None when there is an error.
        position: Position of the newest commit that this answer stands on.
        stale: The read model had not caught up in time; the answer may be behind `position`.
        error: What went wrong, or None.
    """

    result: T | None = None
    position: int = 0
    stale: bool = False
    error: ErrorBody | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """A body or a result without content."""


_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """Return the bytes of a message.

    Raises:
        TooLarge: Over the bound of one request. InvalidInput: A text that is no UTF-8, such as an
            argument of a command line may be.
    """
    try:
        data = _encoder.encode(message)
    except UnicodeEncodeError as error:
        # Without the text, which may be a password.
        raise InvalidInput(
            f"nothing was sent: character {error.start + 1} of a text with {len(error.object)} is "
            "not valid UTF-8"
        ) from None
    if len(data) > MAX_REQUEST_BYTES:
        raise TooLarge(
            f"the request has {len(data)} bytes, at most {MAX_REQUEST_BYTES} are possible",
            size=len(data),
            limit=MAX_REQUEST_BYTES,
        )
    return data


def request_decoder(body: type[T]) -> msgspec.json.Decoder[Request[T]]:
    """Return a decoder of requests with this kind of body; make it once."""
    return msgspec.json.Decoder(Request[body])  # type: ignore[valid-type]


def reply_decoder(result: type[T]) -> msgspec.json.Decoder[Reply[T]]:
    """Return a decoder of replies with this kind of result; make it once."""
    return msgspec.json.Decoder(Reply[result])  # type: ignore[valid-type]


def decode_request(decoder: msgspec.json.Decoder[Request[T]], data: bytes) -> Request[T]:
    """Decode and check a request.

    Raises:
        InvalidInput: Not such a request, or of another version of the protocol.
    """
    try:
        request = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        advice = _OTHER_VERSION if "unknown field" in str(error) else ""
        raise InvalidInput(f"the request cannot be read: {error}{advice}") from error
    if len(request.id) > MAX_ID_CHARS or not (request.id.isascii() and request.id.isprintable()):
        raise InvalidInput(
            f"the id of the request must have at most {MAX_ID_CHARS} printable ASCII characters"
        )
    if request.protocol != PROTOCOL:
        raise InvalidInput(
            f"the request has protocol version {request.protocol}, this side speaks {PROTOCOL}"
            f"{_OTHER_VERSION}"
        )
    return request


def error_body(error: MitosisError, longest: int = MAX_ERROR_CHARS) -> ErrorBody:
    """Return the wire form of an error, which may repeat no more than a part of a huge value.

    Args:
        error: The error.
        longest: Characters of the message; a quarter of them of each text in the details.
    """
    details = {
        key: _clipped(value, longest // 4) if isinstance(value, str) else value
        for key, value in error.details.items()
    }
    return ErrorBody(error.code, _clipped(error.message, longest), details)


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def error_reply(error: MitosisError, position: int = 0) -> bytes:
    """Return the bytes of a reply that says what went wrong."""
    return _encoder.encode(Reply[Nothing](error=error_body(error), position=position))


def raise_error(body: ErrorBody) -> None:
    """Raise the error that a reply carries."""
    raise from_wire(body.code, body.message, body.details)
