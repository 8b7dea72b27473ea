"""The example file: every key with its default and its meaning, made from the structs."""

import inspect
import re
import textwrap
from pathlib import Path

from mitosis.config.effective import SECTIONS, line_of, plain
from mitosis.config.section import Section

HEAD = """\
# Settings of Mitosis, with their defaults: `mito config example` prints this file.
#
# A service or a client reads its own section. Weakest first: defaults, mitosis/config.toml in the
# user's settings folder, ./config.toml or the file of --config, variables MITO_<KEY> or
# MITO_<SECTION>_<KEY>, options. Paths are relative to this file. Durations: 600s, 10min, 1h 30m,
# 7d, 1year. `mito config check FILE` checks a file, `mito config show --origin` shows what is in
# effect.
"""
_ATTRIBUTE = re.compile(r"^(\w+(?:, \w+)*): (.*)$")


def example() -> str:
    """Return the text of `config.example.toml`."""
    parts = [HEAD]
    for name, section in SECTIONS.items():
        parts.append("\n".join([f"[{name}]", *_lines(section)]) + "\n")
    return "\n".join(parts)


def _lines(section: type[Section]) -> list[str]:
    defaults = section()
    meanings = meanings_of(section)
    lines: list[str] = []
    for key in section.__struct_fields__:
        meaning = meanings.get(key)
        if meaning:
            lines += textwrap.wrap(meaning, 96, initial_indent="# ", subsequent_indent="# ")
        value = getattr(defaults, key)
        lines.append(line_of(key, value.as_posix() if isinstance(value, Path) else plain(value)))
    return lines


def meanings_of(section: type[Section]) -> dict[str, str]:
    """Return what the docstring says of each key; of several that stand together, at the first."""
    found: dict[str, str] = {}
    names: str = ""
    _, _, attributes = inspect.getdoc(section).partition("Attributes:\n")  # type: ignore[union-attr]
    for line in attributes.splitlines():
        begun = _ATTRIBUTE.match(line.strip()) if line[:4].strip() or line[4:5].strip() else None
        if begun:
            names = begun[1].split(", ")[0]
            found[names] = begun[2]
        elif names and line.strip():
            found[names] += " " + line.strip()
    return {key: text[0].upper() + text[1:] for key, text in found.items()}
