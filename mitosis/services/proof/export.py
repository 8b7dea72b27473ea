"""History as JSON lines, one a commit, which can be checked without any service.

    {"position":7,"subject":"mito.events.group.lab","commit":{...}}

`commit` has the bytes of the stored payload as they are. Where an event class withholds fields,
they are left out, and the line has the digest of what is stored:

    {"position":1,"subject":"mito.events.user.root","commit":{...},"digest":"<64 hex>",
     "withheld":["user.created@1.password_hash"]}

What is stored and is no JSON stands as `"data":"<base64>"`; what cannot be read and might hold
something secret is left out whole (`"withheld":["commit"]`).
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import BinaryIO, ClassVar

import msgspec

from mitosis.contract import subjects
from mitosis.domain.event import Event
from mitosis.errors import CorruptData
from mitosis.events.catalogue import EVENTS, decode_event
from mitosis.events.envelope import decode_commit, digest
from mitosis.services.proof.walk import Message

MAX_LINE_BYTES = 64 * 1024 * 1024
WHOLE = "commit"
_WITHHOLDING: dict[str, type[Event]] = {t: cls for t, cls in EVENTS.items() if cls.WITHHELD}
_SECRET_KINDS = {topic.partition(".")[0] for topic in _WITHHOLDING}
_HEX = re.compile(r"[0-9a-f]{64}")


class ExportedCommit(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One line of an export: `commit`, `data` or neither; `digest` and `withheld` where needed."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"commit", "data", "digest", "withheld"})
    position: int
    subject: str
    commit: msgspec.Raw = msgspec.Raw(b"")
    data: str = ""
    digest: str = ""
    withheld: tuple[str, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ExportedCommit).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_events = msgspec.json.Decoder(list[list[msgspec.Raw]]).decode
_decode_text = msgspec.json.Decoder(str).decode


def line_of(position: int, subject: str, payload: bytes) -> bytes:
    """Return the line of a stored message, with its line end."""
    line = ExportedCommit(position, subject)
    if _kind(subject) in _SECRET_KINDS:
        line.commit, line.withheld = _stripped(subject, payload)
        line.digest = digest(subject, payload) if line.withheld else ""
    elif _is_line(payload):
        line.commit = msgspec.Raw(payload)
    else:
        line.data = base64.b64encode(payload).decode()
    return _written(line)


def messages(file: BinaryIO) -> Iterator[Message | str]:
    """Yield the messages of an export, and a sentence for each line that is none.

    Raises:
        CorruptData: A line is too long to be one.
    """
    number = 0
    while written := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(written) == MAX_LINE_BYTES:
            raise CorruptData(f"line {number} is longer than {MAX_LINE_BYTES} bytes: no export")
        try:
            line = _decode(written)
            if _written(line) != written:
                yield f"line {number} (position {line.position}) is not as an export writes it"
            yield _message(line)
        except (msgspec.MsgspecError, UnicodeError, binascii.Error, ValueError) as error:
            yield f"line {number} cannot be read: {error}"


def _written(line: ExportedCommit) -> bytes:
    if line.commit:
        return _encode(line) + b"\n"
    fields = msgspec.structs.asdict(line)
    return _encode({key: value for key, value in fields.items() if value}) + b"\n"


def _message(line: ExportedCommit) -> Message:
    if not line.withheld:
        if line.digest or (line.commit and line.data):
            raise ValueError("it has a digest, or data, beside a commit")
        payload = bytes(line.commit) or base64.b64decode(line.data, validate=True)
        return Message(line.position, line.subject, payload, digest(line.subject, payload))
    if not _HEX.fullmatch(line.digest) or _kind(line.subject) not in _SECRET_KINDS:
        raise ValueError("something is withheld that has no reason to be")
    payload = b"" if line.withheld == (WHOLE,) else _filled(line)
    return Message(line.position, line.subject, payload, line.digest, withheld=True)


def _kind(subject: str) -> str:
    return subject.removeprefix(subjects.EVENTS + ".").partition(".")[0]


def _is_line(payload: bytes) -> bool:
    try:
        return b"\n" not in payload and bytes(_decode_raw(payload)) == payload
    except (msgspec.MsgspecError, UnicodeError):
        return False


def _stripped(subject: str, payload: bytes) -> tuple[msgspec.Raw, tuple[str, ...]]:
    """Return a commit without what its events withhold, and what that is."""
    try:
        for topic, body in decode_commit(subject, payload).events:
            decode_event(topic, body)
        keys, withheld = _decode_keys(payload), list[str]()
        events = [_without(event, withheld) for event in _decode_events(keys["events"])]
    except (CorruptData, msgspec.MsgspecError, UnicodeError, KeyError):
        return msgspec.Raw(b""), (WHOLE,)
    if not withheld and _is_line(payload):
        return msgspec.Raw(payload), ()
    return msgspec.Raw(_encode({**keys, "events": events})), tuple(withheld) or (WHOLE,)


def _without(event: list[msgspec.Raw], withheld: list[str]) -> list[msgspec.Raw]:
    topic = _decode_text(event[0])
    if topic not in EVENTS:
        raise CorruptData(f"{topic} is of another version")
    body = _decode_keys(event[1])
    secret = [name for name in EVENTS[topic].WITHHELD if body.pop(name, None) is not None]
    withheld += [f"{topic}.{name}" for name in secret]
    return [event[0], msgspec.Raw(_encode(body)) if secret else event[1]]


def _filled(line: ExportedCommit) -> bytes:
    """Return the commit with an empty text wherever something was withheld.

    Raises:
        ValueError: It was not withheld, or nobody withholds it.
    """
    missing = list(line.withheld)
    keys = _decode_keys(line.commit)
    events = []
    for event in _decode_events(keys.get("events", b"[]")):
        topic = _decode_text(event[0])
        body = _decode_keys(event[1])
        for name in _WITHHOLDING[topic].WITHHELD if topic in _WITHHOLDING else ():
            if f"{topic}.{name}" in missing and name not in body:
                missing.remove(f"{topic}.{name}")
                body[name] = msgspec.Raw(b'""')
        events.append([event[0], msgspec.Raw(_encode(body))])
    if missing:
        raise ValueError(f"{missing[0]!r} is not withheld in it")
    return _encode({**keys, "events": events})
