"""From what a person wrote to the value of a setting.

A file gives TOML values, the environment gives text, options give either. A text stays a text
where a text is wanted, however it looks: a password of digits is no number.
"""

import os
import types
from datetime import timedelta
from pathlib import Path
from typing import Any, NewType, Union, get_args, get_origin

from mitosis.domain.durations import parse_duration, parse_size
from mitosis.domain.roles import Role, parse_grants
from mitosis.errors import InvalidInput

ByteSize = NewType("ByteSize", int)
"""A setting in bytes, written as a size such as `2GiB`."""

Slots = NewType("Slots", int)
"""A number of tasks at once; written `auto`, the cores that this process may use."""

_TRUE = frozenset({"true", "1", "yes", "on"})
AUTO = "auto"
_FALSE = frozenset({"false", "0", "no", "off"})


def from_toml(wanted: Any, value: object, base: Path) -> Any:
    """Return the setting for a value of a file in the folder `base`.

    Raises:
        InvalidInput: Another form is expected; the message says which.
    """
    kind = _without_none(wanted)
    if kind is ByteSize and type(value) is int:
        return ByteSize(value)
    if kind in {bool, int} or (kind is Slots and value != AUTO):
        if type(value) is not (bool if kind is bool else int):
            raise InvalidInput(_EXPECTED[kind])
        return value
    if _is_list(kind):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return _items(kind, value)
        # `a,b` is for variables, which have no lists: in a file it would be the name of one thing.
        items = split_list(value) if isinstance(value, str) else ["a", "b"]
        raise InvalidInput(f"expected a list of strings: write {_shown(items)}")
    if not isinstance(value, str):
        raise InvalidInput(_EXPECTED[kind])
    return from_text(wanted, value, base)


def _shown(items: list[str]) -> str:
    import json  # for a sentence about a mistake

    return json.dumps(items)


def from_text(wanted: Any, text: str, base: Path) -> Any:
    """Return the setting for a text; relative paths start at `base`.

    Raises:
        InvalidInput: Another form is expected; the message says which.
    """
    kind = _without_none(wanted)
    if kind is str:
        return text
    if kind is Path:
        if not text:
            raise InvalidInput(_EXPECTED[Path])
        return base / Path(text).expanduser()
    if kind is timedelta:
        return timedelta(seconds=parse_duration(text))
    if _is_list(kind):
        return _items(kind, split_list(text))
    if kind is bool and is_switch(text):
        return text.lower() in _TRUE
    if kind is ByteSize:
        return ByteSize(parse_size(text))
    if kind is Slots and text == AUTO:
        return Slots(usable_cores())
    if kind in {int, Slots}:
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(_EXPECTED[kind]) from None
    raise InvalidInput(_EXPECTED[kind])


def usable_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def is_switch(text: str) -> bool:
    """Whether a text is one of the words for true and false."""
    return text.lower() in _TRUE | _FALSE


def split_list(text: str) -> list[str]:
    """Take `a,b` apart; white space around items and empty items vanish."""
    return [item.strip() for item in text.split(",") if item.strip()]


_EXPECTED: dict[Any, str] = {
    str: 'expected a string in quotes, such as "text"',
    bool: "expected true or false",
    int: "expected a whole number",
    Slots: "expected a whole number, or auto",
    ByteSize: 'expected a size in quotes, such as "500MB" or "2GiB"',
    Path: 'expected a path in quotes, such as "folder/file"',
    timedelta: 'expected a duration in quotes, such as "600s", "10min" or "7d"',
}


def _without_none(wanted: Any) -> Any:
    if get_origin(wanted) in {Union, types.UnionType}:
        return next(arg for arg in get_args(wanted) if arg is not type(None))
    return wanted


def _is_list(kind: Any) -> bool:
    return get_origin(kind) in {tuple, dict}


def _items(kind: Any, items: list[str]) -> tuple[str, ...] | dict[str, Role]:
    return parse_grants(items) if get_origin(kind) is dict else tuple(items)
