"""The attachment: a file of a group under a key, replaced by storing again."""

import re
import unicodedata
from typing import ClassVar

from mitosis.domain.event import Command, Event
from mitosis.domain.limits import MAX_SIZE_BYTES, check_number, check_text
from mitosis.errors import InvalidInput, NotFound

MAX_KEY_BYTES = 1_023  # S3 object names, with the group before it
_CONTROLS = frozenset({"Cc", "Zl", "Zp"})
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class AttachmentStored(Event, frozen=True):
    """The file under the key is what `object_name` names in S3; no other object exists for it.

    `freed_bytes` is the size of the file that it replaces.
    """

    TOPIC: ClassVar[str] = "attachment.stored@1"
    group: str
    key: str
    object_name: str
    size_bytes: int
    sha256: str
    freed_bytes: int = 0


class AttachmentDeleted(Event, frozen=True):
    """The file under the key was deleted; its `freed_bytes` go back to the group's quota."""

    TOPIC: ClassVar[str] = "attachment.deleted@1"
    object_name: str
    freed_bytes: int = 0


class Attachment(Command, frozen=True):
    """The file as it is now; `object_name` empty: deleted."""

    group: str
    key: str
    object_name: str
    size_bytes: int
    sha256: str


def evolve(state: Attachment | None, event: Event) -> Attachment:
    """Apply a fact. Total: never raises for an event that `decide` made."""
    match event:
        case AttachmentStored(group, key, object_name, size, sha256):
            return Attachment(group, key, object_name, size, sha256)
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the attachment was stored")
        case AttachmentDeleted():
            return Attachment(state.group, state.key, "", 0, "")
        case _:
            return state


class StoreAttachment(Command, frozen=True):
    """Name the object that holds the file's bytes; a new object replaces the old one."""

    group: str
    key: str
    object_name: str
    size_bytes: int
    sha256: str


class DeleteAttachment(Command, frozen=True):
    """Delete the file that is under the key now."""


def decide(state: Attachment | None, command: Command) -> list[Event]:
    """Return what the command makes true; nothing for a repeat.

    Raises:
        Rejection: A rule says no.
    """
    match command:
        case StoreAttachment(group, key, object_name, size, sha256):
            check_key(group, key)
            check_number(size, "size in bytes", 0, MAX_SIZE_BYTES)
            check_sha256(sha256)
            if state is not None and state.object_name == object_name:
                return []
            freed = state.size_bytes if state else 0
            return [AttachmentStored(group, key, object_name, size, sha256, freed)]
        case DeleteAttachment():
            if state is None or not state.object_name:
                raise NotFound("no such attachment")
            return [AttachmentDeleted(state.object_name, state.size_bytes)]
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")


def check_key(group: str, key: str) -> None:
    """Check the key of an attachment.

    Raises:
        InvalidInput: Empty, with an empty, `.` or `..` part (so also a slash at an end), or with
            characters that no line of a list could show. TooLarge: over 1023 bytes, with the name
            of the group.
    """
    check_text(f"{group}/{key}", "the key with its group", MAX_KEY_BYTES)
    if any(part in {"", ".", ".."} for part in key.split("/")):
        raise InvalidInput(
            f"{key!r} cannot be a key: it has an empty, '.' or '..' part, as in a//b, /a, a/ or "
            "a/../b",
            field="key",
        )
    if any(unicodedata.category(c) in _CONTROLS for c in key):
        raise InvalidInput(
            f"{key!r} cannot be a key: it has control characters or line ends", field="key"
        )


def check_sha256(text: str) -> None:
    """Check a checksum in hexadecimal form.

    Raises:
        InvalidInput: Not 64 lower-case hexadecimal digits.
    """
    if not _SHA256.fullmatch(text):
        raise InvalidInput(f"{text[:80]!r} is no SHA-256 in hexadecimal form", field="sha256")
