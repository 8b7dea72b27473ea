"""Settings from files, environment and options, with the source of each value.

Defaults < the user's file < ./config.toml or --config < MITO_* < options (design, Command line).
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import FieldInfo, fields

from mitosis.config.locations import default_config_file
from mitosis.config.section import Section
from mitosis.config.values import from_text, from_toml
from mitosis.errors import InvalidInput, Misconfigured

SECTIONS = ("coordinator", "worker", "client")
PREFIX = "MITO_"
MAX_FILE_BYTES = 1024 * 1024

S = TypeVar("S", bound=Section)


class ConfigFile(NamedTuple):
    """A file that was read. `given`: the user named it, so it must be about Mitosis."""

    path: Path
    text: str
    given: bool = True


class Loaded(NamedTuple, Generic[S]):
    """The settings, and for each key where its value came from (`default`, a file, ...)."""

    config: S
    sources: dict[str, str]


def load(
    section: type[S],
    *,
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Loaded[S]:
    """Load a section the way the command line does.

    Args:
        section: Which struct.
        config: File that was named by `--config`.
        flags: Values of options by key; None: not given.
        env: Environment; None: that of the process.
        cwd: Where relative paths of options and variables start; None: the present folder.

    Raises:
        Misconfigured: A file that cannot be read, an unknown key, or a value that cannot work.
    """
    values = os.environ if env is None else env
    here = cwd or Path.cwd()
    return combine(section, find_files(config, values, here), values, flags or {}, here)


def find_files(config: Path | None, env: Mapping[str, str], cwd: Path) -> list[ConfigFile]:
    """Read the files that count, weakest first.

    Raises:
        Misconfigured: A file cannot be read, or the named one does not exist.
    """
    found = []
    own = default_config_file(env)
    if own.is_file():
        found.append(ConfigFile(own, _read(own)))
    if config is not None:
        path = cwd / config.expanduser()
        found.append(ConfigFile(path, _read(path)))
    elif (cwd / "config.toml").is_file():
        path = cwd / "config.toml"
        found.append(ConfigFile(path, _read(path), given=False))
    return found


def combine(
    section: type[S],
    files: Sequence[ConfigFile],
    env: Mapping[str, str],
    flags: Mapping[str, Any],
    cwd: Path,
) -> Loaded[S]:
    """Combine all sources. Pure.

    Args:
        section: Which struct.
        files: Weakest first.
        env: `MITO_<KEY>` for each key; an empty value counts as unset.
        flags: Values of options by key; None: not given.
        cwd: Where relative paths of options and variables start.

    Raises:
        Misconfigured: An unknown key, or a value that cannot work.
    """
    known = {field.name: field for field in fields(section)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys(known, "default")
    for file in files:
        for key, value in _from_file(section, known, file).items():
            values[key] = value
            sources[key] = str(file.path)
    for key, field in known.items():
        text = env.get(PREFIX + key.upper(), "")
        if text:
            source = PREFIX + key.upper()
            values[key] = _convert(section, field, text, source, cwd, toml=False)
            sources[key] = source
    for key, value in flags.items():
        if value is not None:
            values[key] = _convert(section, known[key], value, f"option of {key}", cwd, toml=False)
            sources[key] = "option"
    return Loaded(section(**values), sources)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise Misconfigured(f"{path} is larger than {MAX_FILE_BYTES} bytes: no such file is")
        return data.decode()
    except OSError as error:
        reason = error.strerror or str(error)
        raise Misconfigured(f"the config file {path} cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"the config file {path} is not UTF-8: {error}") from error


def _from_file(
    section: type[Section], known: Mapping[str, FieldInfo], file: ConfigFile
) -> dict[str, Any]:
    try:
        tables = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{file.path} is no TOML file: {error}") from error
    # A config.toml that merely lies here may belong to another program.
    if not file.given and not any(name in tables for name in SECTIONS):
        return {}
    for name, table in tables.items():
        if name not in SECTIONS:
            _refuse_key(file, "", name, SECTIONS, "section")
        if not isinstance(table, dict):
            raise Misconfigured(f"{_at(file, '', name)}: {name} must be a section: [{name}]")
    found = {}
    for key, value in tables.get(section.SECTION, {}).items():
        if key not in known:
            _refuse_key(file, section.SECTION, key, known, "key")
        where = _at(file, section.SECTION, key)
        found[key] = _convert(section, known[key], value, where, file.path.parent, toml=True)
    return found


def _convert(
    section: type[Section], field: FieldInfo, value: Any, source: str, base: Path, *, toml: bool
) -> Any:
    try:
        if toml:
            value_read = from_toml(field.type, value, base)
        else:
            value_read = from_text(field.type, value, base) if isinstance(value, str) else value
            if isinstance(value_read, Path):
                value_read = base / value_read.expanduser()
        check = section.CHECKS.get(field.name)
        if check is not None:
            check(value_read)
    except InvalidInput as error:
        shown = section.shown(field.name, value)
        raise Misconfigured(
            f"{source}: {field.name} = {shown}: {error.message}", key=field.name, source=source
        ) from None
    return value_read


def _refuse_key(
    file: ConfigFile, section: str, key: str, known: Sequence[str] | Mapping[str, Any], what: str
) -> None:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    advice = f"did you mean {near[0]!r}?" if near else f"possible are {', '.join(known)}"
    raise Misconfigured(
        f"{_at(file, section, key)}: unknown {what} {key!r}: {advice}",
        key=key,
        source=str(file.path),
    )


_HEADER = re.compile(r"\s*\[\s*([^\[\]#]+?)\s*\]")


def _at(file: ConfigFile, section: str, key: str) -> str:
    """Return `file:line` of a key; of the section when the key is written unusually."""
    table, section_line = "", 1
    wanted = re.compile(rf"\s*(?:{re.escape(section)}\s*\.\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.]")
    for number, line in enumerate(file.text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            table = header[1].strip("\"'")
            if table == (section or key):
                section_line = number
        elif wanted.match(line) and table in {"", section}:
            return f"{file.path}:{number}"
    return f"{file.path}:{section_line}"
