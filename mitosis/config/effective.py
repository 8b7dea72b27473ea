"""The settings as they are in effect, for a person who asks: each with its value and origin."""

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from mitosis.config.client import ClientConfig
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import Loaded
from mitosis.config.section import MASK, Section, without_password
from mitosis.config.worker import WorkerConfig
from mitosis.domain.durations import format_duration
from mitosis.domain.roles import Role

SECTIONS: dict[str, type[Section]] = {
    one.SECTION: one for one in (CoordinatorConfig, WorkerConfig, ClientConfig)
}

Plain = str | int | bool | list[str] | None


class Setting(msgspec.Struct, frozen=True):
    """One setting. Secrets are masked.

    Attributes:
        value: As a file has it; None: not set.
        origin: `default`, `FILE:LINE`, the name of a variable, or `option`.
    """

    section: str
    key: str
    value: Plain
    origin: str


class ShownSettings(msgspec.Struct, frozen=True):
    """What `mito config show` prints."""

    settings: list[Setting]


class CheckedFile(msgspec.Struct, frozen=True):
    """A file that can be used, with the number of settings by section."""

    file: str
    settings: dict[str, int]


class ExampleFile(msgspec.Struct, frozen=True):
    """The text of an example file."""

    config: str


def settings_of(loaded: Loaded[Any]) -> list[Setting]:
    """Return every setting of a section, in its order."""
    section: Section = loaded.config
    return [
        Setting(section.SECTION, key, _masked(section, key), loaded.sources[key])
        for key in section.__struct_fields__
    ]


def plain(value: Any) -> Plain:
    """Return a value as a settings file has it."""
    match value:
        case timedelta():
            return format_duration(value.total_seconds())
        case Path():
            return str(value)
        case dict():
            return [f"{name}:{_role(role)}" for name, role in value.items()]
        case tuple():
            return list(value)
        case bool() | int() | str() | None:
            return value
        case _:
            raise TypeError(f"no form for {value!r} in a settings file")


def line_of(key: str, value: Plain) -> str:
    """Return the line of a settings file; a comment for what is not set."""
    if value is None or value == []:
        return f"# {key} is not set"
    return f"{key} = {_toml(value)}"


def lines_of(settings: Iterable[Setting], *, origin: bool) -> list[str]:
    """Return settings in the form of a file, with a comment on where each comes from."""
    lines: list[str] = []
    section = ""
    for setting in settings:
        if setting.section != section:
            lines += [*([""] if lines else []), f"[{setting.section}]"]
            section = setting.section
        line = line_of(setting.key, setting.value)
        lines.append(f"{line:<60}  # {setting.origin}" if origin else line)
    return lines


def file_of(section: Section) -> str:
    """Return the text of a file with all settings that are set, passwords too: a secret."""
    lines = [
        line_of(key, plain(value))
        for key in section.__struct_fields__
        if (value := getattr(section, key)) is not None
    ]
    return "\n".join([f"[{section.SECTION}]", *lines]) + "\n"


def _masked(section: Section, key: str) -> Plain:
    value = getattr(section, key)
    if value and key in section.SECRETS:
        return MASK
    if isinstance(value, str) and key in section.URLS:
        return without_password(value)
    return plain(value)


def _role(role: Role) -> str:
    return role.name.lower()


def _toml(value: Plain) -> str:
    if isinstance(value, str):
        # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value)
