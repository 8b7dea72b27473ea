"""From what a person wrote to the value of a setting.

A file gives TOML values, the environment gives text, options give either. A text stays a text
where a text is wanted, however it looks: a password of digits is no number.
"""

import types
from datetime import timedelta
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from mitosis.domain.durations import parse_duration
from mitosis.domain.roles import Role, parse_grants
from mitosis.errors import InvalidInput

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


def from_toml(wanted: Any, value: object, base: Path) -> Any:
    """Return the setting for a value of a file in the folder `base`.

    Raises:
        InvalidInput: Another form is expected; the message says which.
    """
    kind = _without_none(wanted)
    if kind in {bool, int}:
        if type(value) is not kind:
            raise InvalidInput(_EXPECTED[kind])
        return value
    if _is_list(kind):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return _items(kind, value)
        if not isinstance(value, str):
            raise InvalidInput('expected a list of strings such as ["a", "b"]')
    elif not isinstance(value, str):
        raise InvalidInput(_EXPECTED[kind])
    return from_text(wanted, value, base)


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
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise InvalidInput(_EXPECTED[int]) from None
    raise InvalidInput(_EXPECTED[kind])


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
