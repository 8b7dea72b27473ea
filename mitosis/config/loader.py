"""Settings from files, environment and options, with the source of each value.

Defaults < the user's file < ./config.toml or --config < MITO_* < options (design, Command line).
Of two variables the one for this service alone is the stronger: MITO_COORDINATOR_BIND, MITO_BIND.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec.structs import FieldInfo, fields

from mitosis.config.files import ConfigFile, read_file
from mitosis.config.locations import default_config_file
from mitosis.config.log_filter import is_log_filter
from mitosis.config.section import Section
from mitosis.config.values import from_text, from_toml, is_switch
from mitosis.errors import InvalidInput, InvalidSettings

SECTIONS = ("coordinator", "worker", "client")

S = TypeVar("S", bound=Section)


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
        InvalidSettings: A file that cannot be read, an unknown key, or a value that cannot work.
    """
    values = os.environ if env is None else env
    here = cwd or Path.cwd()
    return combine(section, find_files(config, values, here), values, flags or {}, here)


def find_files(config: Path | None, env: Mapping[str, str], cwd: Path) -> list[ConfigFile]:
    """Read the files that count, weakest first.

    Raises:
        InvalidSettings: A file cannot be read, or the named one does not exist.
    """
    found = []
    own = default_config_file(env)
    if _is_there(own):
        found.append(ConfigFile(own, read_file(own)))
    if config is not None:
        path = cwd / config.expanduser()
        found.append(ConfigFile(path, read_file(path)))
    elif _is_there(cwd / "config.toml"):
        path = cwd / "config.toml"
        found.append(ConfigFile(path, read_file(path), given=False))
    return found


def _is_there(path: Path) -> bool:
    """Whether there is a file where nobody has named one.

    A folder that may not be looked into is somebody else's: without HOME, and as root of a user
    namespace only, it would be that of the real root.
    """
    try:
        return path.is_file()
    except PermissionError:
        return False


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
        env: `MITO_<SECTION>_<KEY>` and `MITO_<KEY>`; an empty value counts as unset.
        flags: Values of options by key; None: not given.
        cwd: Where relative paths of options and variables start.

    Raises:
        InvalidSettings: An unknown key, or a value that cannot work.
    """
    known = {field.name: field for field in fields(section)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys(known, "default")
    for file in files:
        table = read_section(section, file)
        for problem in table.problems:
            raise problem
        values |= table.values
        sources |= table.sources
    for key, field in known.items():
        found = _variable(section, key, env)
        if found is not None:
            values[key] = _convert(section, field, env[found], found, cwd)
            sources[key] = found
    for key, value in flags.items():
        if value is not None:
            values[key] = _convert(section, known[key], value, f"option of {key}", cwd)
            sources[key] = "option"
    return Loaded(section(**values), sources)


class Table(NamedTuple):
    """What one file says about one section, and everything that is wrong with it."""

    values: dict[str, Any]
    sources: dict[str, str]
    problems: list[InvalidSettings]


def read_section(section: type[Section], file: ConfigFile) -> Table:
    """Read one section of a file; what is wrong is in `problems`, in the order of the file."""
    found = Table({}, {}, [])
    try:
        tables = file.tables()
    except InvalidSettings as error:
        return Table({}, {}, [error])
    # A config.toml that merely lies here may belong to another program.
    if not file.given and not any(name in tables for name in SECTIONS):
        return found
    found.problems.extend(_wrong_sections(file, tables))
    known = {field.name: field for field in fields(section)}
    table = tables.get(section.SECTION, {})
    for key, value in table.items() if isinstance(table, dict) else ():
        place = file.place(section.SECTION, key)
        if key not in known:
            found.problems.append(_unknown(file, section.SECTION, key, known, "key"))
            continue
        try:
            where = file.at(place)
            found.values[key] = _convert_toml(section, known[key], value, where, file.path.parent)
            found.sources[key] = f"{file.path}:{place.line}"
        except InvalidSettings as problem:
            problem.details |= {"source": str(file.path), **place._asdict()}
            found.problems.append(problem)
    return found


def _wrong_sections(file: ConfigFile, tables: Mapping[str, Any]) -> Iterator[InvalidSettings]:
    for name, table in tables.items():
        if name not in SECTIONS:
            yield _unknown(file, "", name, SECTIONS, "section")
        elif not isinstance(table, dict):
            yield file.refused(file.place("", name), f"{name} must be a section: [{name}]")


def _variable(section: type[Section], key: str, env: Mapping[str, str]) -> str | None:
    """Return the strongest variable that says something about a key."""
    return next((v for v in section.variables(key) if env.get(v) and _concerns(key, v, env)), None)


def _concerns(key: str, variable: str, env: Mapping[str, str]) -> bool:
    """Whether a variable is about a key: MITO_FILE_LOG is a switch or, as before, a level."""
    text = env[variable]
    if variable == "MITO_FILE_LOG":
        return (key == "file_log_level") == (is_log_filter(text) and not is_switch(text))
    # Another program's filter must not stop this one.
    return variable != "RUST_LOG" or is_log_filter(text)


def _convert_toml(
    section: type[Section], field: FieldInfo, value: Any, source: str, base: Path
) -> Any:
    with _refused(section, field.name, value, source):
        return _checked(section, field.name, from_toml(field.type, value, base))


def _convert(section: type[Section], field: FieldInfo, value: Any, source: str, base: Path) -> Any:
    with _refused(section, field.name, value, source):
        read = from_text(field.type, value, base) if isinstance(value, str) else value
        if isinstance(read, Path):
            read = base / read.expanduser()
        return _checked(section, field.name, read)


def _checked(section: type[Section], key: str, value: Any) -> Any:
    check = section.CHECKS.get(key)
    if check is not None:
        check(value)
    return value


@contextmanager
def _refused(section: type[Section], key: str, value: Any, source: str) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        shown = section.shown(key, value)
        # A check that repeats the value in its own words must not show what is masked.
        said = error.message if shown == repr(value) else error.message.replace(str(value), shown)
        raise InvalidSettings(
            f"{source}: {key} = {shown}: {said}", key=key, source=source
        ) from None


def _unknown(
    file: ConfigFile, section: str, key: str, known: Sequence[str] | Mapping[str, Any], what: str
) -> InvalidSettings:
    import difflib  # for a sentence about a mistake

    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    advice = f"did you mean {near[0]!r}?" if near else f"possible are {', '.join(known)}"
    return file.refused(file.place(section, key), f"unknown {what} {key!r}: {advice}", key=key)
