"""Names and identities: what may be called how, and how a task gets its UUID."""

import functools
import re
import uuid

from mitosis.domain.limits import MAX_PAGE
from mitosis.errors import InvalidInput, TooLarge

# The rule of the original; it also makes every name one safe subject token.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_RANGE = re.compile(r"([A-Za-z0-9_-]{1,255})#([0-9]{1,15})-([0-9]{1,15})", re.ASCII)
_BEGINNING = re.compile(r"[0-9a-f]{6}[0-9a-f-]{0,30}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def check_name(name: str, what: str) -> str:
    """Return `name` if it may name a user or a group.

    Args:
        name: 1 to 255 ASCII letters, digits, `-` or `_`.
        what: `user` or `group`, for the message.

    Raises:
        InvalidInput: The name breaks the rule.
    """
    if not _NAME.fullmatch(name):
        shown = name if len(name) <= 40 else name[:40] + "..."
        raise InvalidInput(
            f"{shown!r} cannot name a {what}: use 1 to 255 letters, digits, '-' or '_'",
            field=what,
        )
    return name


def check_uuid(text: str, what: str) -> str:
    """Return the UUID in its canonical form.

    Raises:
        InvalidInput: The text is no UUID.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise InvalidInput(f"{text[:60]!r} is no UUID of a {what}", field=what) from None


@functools.lru_cache(maxsize=4_096)  # asked twice for each task of a batch
def task_uuid(group: str, user: str, key: str) -> str:
    """Derive the UUID of a task from who submits it where with which idempotency key.

    A UUIDv8 over SHA-256: the same submit is the same task in the store itself, nobody can
    choose a UUID, and short prefixes are spread evenly.

    Args:
        group: Group of the task.
        user: Creator of the task.
        key: Idempotency key; the SDK draws a random one unless the user gives one.
    """
    from hashlib import sha256  # with OpenSSL: no command should pay for it that asks only

    digest = sha256(b"\0".join((group.encode(), user.encode(), key.encode()))).digest()
    number = int.from_bytes(digest[:16])
    number &= ~(0xF << 76) & ~(0x3 << 62)
    text = f"{number | (0x8 << 76) | (0x2 << 62):032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual form of 36 characters."""
    return _UUID.fullmatch(text.lower()) is not None


def parse_task_range(text: str) -> tuple[str, int, int] | None:
    """Read `GROUP#FIRST-LAST`; None for every other name of a task.

    Raises:
        InvalidInput: The first number comes after the last one, or there are more than `MAX_PAGE`.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    group, first, last = found[1], int(found[2]), int(found[3])
    if not 1 <= first <= last:
        raise InvalidInput(f"{text[:80]!r} names no tasks: write the smaller number first, from 1")
    if last - first >= MAX_PAGE:
        raise TooLarge(
            f"{text[:80]!r} names {last - first + 1} tasks, at most {MAX_PAGE} are possible",
            size=last - first + 1, limit=MAX_PAGE,
        )  # fmt: skip
    return group, first, last


def task_may_be_named(text: str) -> bool:
    """Whether a text has one of the forms that name a task.

    A UUID or 6 characters or more of its beginning, `last`, or `GROUP#NUMBER`.
    """
    if text == "last":
        return True
    group, hash_sign, number = text.rpartition("#")
    if hash_sign:
        return _NAME.fullmatch(group) is not None and number.isascii() and number.isdecimal()
    return _BEGINNING.fullmatch(text.lower()) is not None
