"""Bounds of every input from outside, checked before anything is stored.

Where a number is not ours, its source stands beside it.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from mitosis.errors import InvalidInput, TooLarge

MAX_ARGUMENT_BYTES = 128 * 1024 - 1  # Linux: MAX_ARG_STRLEN, with its final NUL
MAX_ARGUMENTS_BYTES = 768 * 1024  # whole argv and environment; a request is at most 1 MiB
MAX_WRITTEN_BYTES = 832 * 1024  # the same in JSON: with all else that is told of a task in 1 MiB
MAX_ARGUMENTS = 65_536
MAX_TAGS = 64
MAX_TAG_BYTES = 255
MAX_KEY_BYTES = 255
MAX_REASON_BYTES = 1_000
MAX_PRIORITY = 2**31 - 1
MIN_TIMEOUT_SECONDS = 0.001
MAX_TIMEOUT_SECONDS = 10 * 366 * 86_400.0
MAX_SLOTS = 4_096
MAX_WORKER_GROUPS = 256  # groups with a role on one worker
MAX_BATCH = 1_000  # submits in one request
MAX_PAGE = 10_000
MAX_SIZE_BYTES = 2**53 - 1  # 9 PB; above it readers of JSON lose digits
DEFAULT_GROUP_QUOTA = 8  # as in the original; the own group counts as one
DEFAULT_STORAGE_QUOTA_BYTES = 16 * 1000**3  # as in the original
DEFAULT_MAX_LOSSES = 3

_LONGEST_ESCAPE = 6  # bytes of JSON for one, as in \u0001; what stands around it counts as one

T = TypeVar("T")


def check_text(text: str, field: str, limit: int) -> str:
    """Return `text` if it has no NUL and fits in `limit` bytes of UTF-8.

    Raises:
        InvalidInput: NUL byte or lone surrogate. TooLarge: over the limit.
    """
    if "\0" in text:
        raise InvalidInput(
            f"{field} contains a NUL byte, which no program can receive", field=field
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput(f"{field} is not valid UTF-8", field=field) from None
    if size > limit:
        raise TooLarge(
            f"{field} has {size} bytes, at most {limit} are possible",
            field=field, size=size, limit=limit,
        )  # fmt: skip
    return text


def clip_text(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return `text` cut to `limit` bytes of UTF-8, each NUL or lone surrogate replaced.

    For text that must not be refused, such as the last words of a program. A NUL would stop the
    read models: Postgres cannot hold one.
    """
    data = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace")
    part = data[max(0, len(data) - limit) :] if keep_end else data[:limit]
    return part.decode(errors="ignore")


def check_several(items: Iterable[T], field: str) -> tuple[T, ...]:
    """Return what was given as several things.

    Raises:
        InvalidInput: It is one text, which would be taken letter by letter.
    """
    if isinstance(items, str | bytes):
        raise InvalidInput(
            f"{field} is one text, {items[:40]!r}: give a tuple or a list of texts", field=field
        )
    return tuple(items)


def check_tags(tags: Iterable[str], field: str) -> tuple[str, ...]:
    """Return tags or labels sorted and without repetition.

    Raises:
        InvalidInput: Empty, with a comma, a control character or white space around.
        TooLarge: Too many or too long.
    """
    if tags == ():
        return ()
    unique = sorted(set(check_several(tags, field)))
    if len(unique) > MAX_TAGS:
        raise TooLarge(
            f"{len(unique)} {field}, at most {MAX_TAGS} are possible",
            field=field, size=len(unique), limit=MAX_TAGS,
        )  # fmt: skip
    for tag in unique:
        check_text(tag, field, MAX_TAG_BYTES)
        if not tag or tag != tag.strip() or "," in tag or not tag.isprintable():
            raise InvalidInput(
                f"{tag!r} cannot be one of the {field}: no commas, control characters, "
                "or white space around it",
                field=field,
            )
    return tuple(unique)


def check_command(argv: Iterable[str], env: Mapping[str, str]) -> None:
    """Check a command line and its environment against what any Linux can start.

    Raises:
        InvalidInput: Nothing to run, a NUL byte, a malformed variable name.
        TooLarge: One string or the whole is over its bound.
    """
    arguments = check_several(argv, "command")
    if not arguments or not arguments[0]:
        raise InvalidInput("there is no command to run: give it after --", field="command")
    if len(arguments) > MAX_ARGUMENTS:
        raise TooLarge(
            f"the command has {len(arguments)} arguments, at most {MAX_ARGUMENTS} are possible",
            field="command", size=len(arguments), limit=MAX_ARGUMENTS,
        )  # fmt: skip
    total = 0
    for argument in arguments:
        total += len(check_text(argument, "an argument", MAX_ARGUMENT_BYTES).encode()) + 1
    for name, value in env.items():
        if not name or "=" in name:
            raise InvalidInput(f"{name[:40]!r} cannot name an environment variable", field="env")
        pair = check_text(
            f"{name}={value}", f"environment variable {name[:40]!r}", MAX_ARGUMENT_BYTES
        )
        total += len(pair.encode()) + 1
    if total > MAX_ARGUMENTS_BYTES:
        raise TooLarge(
            f"command and environment have {total} bytes, at most {MAX_ARGUMENTS_BYTES} are "
            "possible: put large inputs into a file",
            field="command", size=total, limit=MAX_ARGUMENTS_BYTES,
        )  # fmt: skip
    _check_written(arguments, env, total)


def _check_written(argv: tuple[str, ...], env: Mapping[str, str], total: int) -> None:
    """Check what becomes of a command in JSON: what is larger than a message reaches no worker."""
    if total * _LONGEST_ESCAPE <= MAX_WRITTEN_BYTES:
        return
    written = len(msgspec.json.encode((argv, dict(env))))
    if written > MAX_WRITTEN_BYTES:
        raise TooLarge(
            f"command and environment take {written} bytes in JSON, where a quote, a backslash or "
            f"a line break takes two, at most {MAX_WRITTEN_BYTES} are possible: put large inputs "
            "into a file",
            field="command", size=written, limit=MAX_WRITTEN_BYTES,
        )  # fmt: skip


def check_number(value: float, field: str, low: float, high: float) -> None:
    """Check that a number lies within its bounds (both included); NaN never does.

    Raises:
        InvalidInput: It does not.
    """
    if not low <= value <= high:
        raise InvalidInput(f"{field} is {value}: it must be from {low} to {high}", field=field)
