"""The stored form: one message is one commit of one aggregate. A promise from the first commit.

The payload is a JSON object whose keys stand in this order:

    {"schema":1,"commit":"<32 hex>","command":"<id or empty>","actor":"user:alice",
     "time":"2026-11-25T17:21:12.123456Z","version":1,"previous":"<64 hex or empty>",
     "events":[["task.submitted@1",{...}],...],"session":"<id>"}

`session` is absent when no user's session asked.

`version` is the version of the aggregate after the first event; `previous` is the digest of the
aggregate's previous commit. An event is `[topic, body]`; a state that is no JSON object is
`[topic, "<base64>", "base64"]` and comes back byte for byte. Pure: no clock, no ids, no I/O.
Decision: docs/decisions/0003-envelope.md.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from mitosis.errors import CorruptData

SCHEMA = 1
BASE64 = "base64"

Body = msgspec.Raw | bytes
"""`Raw`: JSON that the caller has encoded itself (not checked again). `bytes`: any state."""


class Commit(msgspec.Struct, frozen=True):
    """What one command changed in one aggregate, as stored.

    Attributes:
        commit: Unique id, 32 hex digits; tells our own write from another's after a lost answer.
        command: Id of the command that was decided, or empty.
        actor: Who asked: `user:<name>`, `worker:<uuid>` or `system:<part>`.
        time: When it was decided, UTC, by the writer's clock.
        version: Version of the aggregate after the first event; ours start at 1.
        previous: Digest of the aggregate's previous commit; empty for the first.
        events: Pairs of topic and body.
        session: The session of the user who asked, which tells from where (SessionOpened); empty
            for what no session asked for.
    """

    commit: str
    command: str
    actor: str
    time: datetime
    version: int
    previous: str
    events: Sequence[tuple[str, Body]]
    session: str = ""

    @property
    def last_version(self) -> int:
        """Version of the aggregate after the last event (`version - 1` for a commit without)."""
        return self.version + len(self.events) - 1


class _WireEvent(msgspec.Struct, array_like=True, frozen=True):
    topic: str
    body: msgspec.Raw
    encoding: str = ""


class Wire(msgspec.Struct, omit_defaults=True):
    """A commit with its keys in their order; `events`: pairs of stored name and body."""

    schema: int
    commit: str
    command: str
    actor: str
    time: datetime
    version: int
    previous: str
    events: list[Any]
    session: str = ""


class _Incoming(msgspec.Struct):
    commit: str
    command: str
    actor: str
    time: datetime
    version: int
    previous: str
    events: list[_WireEvent]
    session: str = ""


class _Schema(msgspec.Struct):
    schema: int


class _CommitId(msgspec.Struct):
    commit: str


_encode = msgspec.json.Encoder().encode
_decode_schema = msgspec.json.Decoder(_Schema).decode
_decode_commit_id = msgspec.json.Decoder(_CommitId).decode
_decode_wire = msgspec.json.Decoder(_Incoming).decode
_decode_string = msgspec.json.Decoder(str).decode
_decode_any = msgspec.json.Decoder().decode


def encode_commit(commit: Commit) -> bytes:
    """Return the payload to store.

    Raises:
        ValueError: The time has no zone; a stored time is never a guess.
    """
    if commit.time.tzinfo is None:
        msg = f"commit {commit.commit}: the time {commit.time} has no zone; give it in UTC"
        raise ValueError(msg)
    return _encode(
        Wire(
            SCHEMA,
            commit.commit,
            commit.command,
            commit.actor,
            commit.time if commit.time.tzinfo is UTC else commit.time.astimezone(UTC),
            commit.version,
            commit.previous,
            [_wire_event(topic, body) for topic, body in commit.events],
            commit.session,
        )
    )


def decode_commit(subject: str, data: bytes, position: int | None = None) -> Commit:
    """Return the commit of a stored message.

    Args:
        subject: Subject of the message, for error reports.
        data: Its payload.
        position: Stream sequence, for error reports.

    Raises:
        CorruptData: These bytes are no commit, or one of a newer schema.
    """
    try:
        schema = _decode_schema(data).schema
        if schema != SCHEMA:
            raise CorruptData(
                f"{_place(subject, position)} has envelope schema {schema}; this version reads "
                f"schema {SCHEMA}. Use the version of Mitosis that wrote it, or a newer one.",
                subject=subject,
                position=position,
                schema=schema,
            )
        wire = _decode_wire(data)
        return Commit(
            wire.commit,
            wire.command,
            wire.actor,
            wire.time,
            wire.version,
            wire.previous,
            [(event.topic, _body(event)) for event in wire.events],
            wire.session,
        )
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError) as error:
        raise CorruptData(
            f"{_place(subject, position)} is not a commit: {error}. "
            "Run `mito events verify` to see how far the damage goes.",
            subject=subject,
            position=position,
        ) from error


def commit_id(data: bytes) -> str:
    """Return the id of a stored commit, or an empty string if the bytes are no commit."""
    try:
        return _decode_commit_id(data).commit
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def digest(subject: str, payload: bytes) -> str:
    """Return the digest of a stored commit: SHA-256 over subject, newline, payload; lower hex."""
    return sha256(subject.encode() + b"\n" + payload).hexdigest()


def _place(subject: str, position: int | None) -> str:
    return f"the message on {subject}" + ("" if position is None else f" at position {position}")


def _wire_event(topic: str, body: Body) -> tuple[str, msgspec.Raw] | tuple[str, str, str]:
    if isinstance(body, msgspec.Raw):
        return topic, body
    if _is_json_object(body):
        return topic, msgspec.Raw(body)
    return topic, base64.b64encode(body).decode(), BASE64


def _is_json_object(state: bytes) -> bool:
    if not (state.startswith(b"{") and state.endswith(b"}")):
        return False
    try:
        _decode_any(state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _body(event: _WireEvent) -> Body:
    if not event.encoding:
        return event.body
    if event.encoding != BASE64:
        msg = f"unknown encoding {event.encoding!r} of the event {event.topic}"
        raise ValueError(msg)
    return base64.b64decode(_decode_string(event.body), validate=True)
