"""Reference pages made from the code: `python -m mitosis.testing.reference [--check] [FOLDER]`.

A page is written by hand, with blocks between `<!-- made from ...: NAME -->` and `<!-- end -->`
that are filled in from here. A test fails when a page is stale; `just docs` brings it up to date.
"""

import ast
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from mitosis import errors
from mitosis.cli.commands import CLIENT, PLATFORM
from mitosis.cli.exit_codes import exit_status
from mitosis.cli.output.schemas import commands, definitions, struct_of
from mitosis.cli.output.values import plain
from mitosis.config.example import example
from mitosis.contract import subjects
from mitosis.errors import MitosisError
from mitosis.events import catalogue
from mitosis.services.coordinator.metrics import FAMILIES

SUBJECTS = {
    "user": subjects.user_tail("<name>"),
    "group": subjects.group_tail("<name>"),
    "attachment": subjects.attachment_tail("<group>", "") + "<token of key>",
    "worker": subjects.worker_tail("<uuid>"),
    "task": subjects.task_tail("<group>", "<uuid>"),
    "secret": subjects.secret_tail("<group>", "<id>"),
    "platform": subjects.PLATFORM_TAIL,
}
_BLOCK = re.compile(r"(<!-- made from [^:]+: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str, folder: Path) -> str:
    """Return a page with all its made blocks as the code is now.

    Args:
        page: The text of the page.
        folder: Where the page lies.

    Raises:
        KeyError: A block has a name that nothing here makes.
    """

    def made(match: re.Match[str]) -> str:
        return f"{match[1]}\n{BLOCKS[match[2]](folder)}\n\n{match[3]}"

    return _BLOCK.sub(made, page)


def events_block(_: Path) -> str:
    """Every event: stored name, meaning and fields, by aggregate."""
    parts: list[str] = []
    for aggregate in catalogue.AGGREGATES:
        parts += [f"### {aggregate.title()}: `{subjects.events(SUBJECTS[aggregate])}`", ""]
        parts += ["| stored name | meaning | fields |", "|---|---|---|"]
        parts += [
            f"| `{topic}`<br>{cls.__name__} | {_prose(cls.__doc__)} | {_field_list(cls)} |"
            for topic, cls in catalogue.EVENTS.items()
            if topic.startswith(f"{aggregate}.")
        ]
        parts.append("")
    return "\n".join(parts).rstrip()


def shapes_block(_: Path) -> str:
    """Every struct and enumeration that a field of an event has, in the order of use."""
    rows = ["| type | values or fields |", "|---|---|"]
    for shape in _shapes(catalogue.EVENTS.values()):
        if issubclass(shape, Enum):
            values = ", ".join(f"`{m.value}` {m.name.title()}" if isinstance(m.value, int)
                               else f"`{m.value}`" for m in shape)  # fmt: skip
            rows.append(f"| {shape.__name__} | {values} |")
        else:
            fields = _field_list(shape)
            as_list = " as a list, in this order" if shape.__struct_config__.array_like else ""
            rows.append(f"| {shape.__name__}{as_list} | {fields} |")
    return "\n".join(rows)


def subjects_block(_: Path) -> str:
    """Every subject, as its module draws them."""
    drawing = (subjects.__doc__ or "").partition("\n\n")[2]
    return f"```\n{drawing.strip()}\n```"


def errors_block(_: Path) -> str:
    """Every error: code, class and meaning, children below their parent."""
    rows = ["| code | in the SDK | exit status | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{cls.code}` | {cls.__name__} | {exit_status(cls(''))} | {_prose(cls.__doc__)} |"
        for cls in _family(MitosisError)
    ]
    return "\n".join(rows)


class SpecialError(msgspec.Struct, frozen=True, order=True):
    """An error that one part of the product has of its own, found in the source."""

    code: str
    name: str
    home: str
    meaning: str


@cache
def special_errors() -> list[SpecialError]:
    """Return every class outside of errors.py that has a `code` of its own."""
    package = Path(errors.__file__).parent
    return sorted(
        SpecialError(
            statement.value.value,
            node.name,
            path.parent.relative_to(package).as_posix(),
            _prose(ast.get_docstring(node)),
        )
        for path in package.rglob("*.py")
        if path != Path(errors.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.bases
        for statement in node.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
        and ast.unparse(statement.targets[0]) == "code"
    )


def special_errors_block(_: Path) -> str:
    """Every error that one part of the product has of its own."""
    rows = ["| code | where | meaning |", "|---|---|---|"]
    rows += [f"| `{e.code}` | {e.name} in `{e.home}/` | {e.meaning} |" for e in special_errors()]
    return "\n".join(rows)


def decisions_block(folder: Path) -> str:
    """Every record in the folder, by its first line."""
    rows = ["| record |", "|---|"]
    for path in sorted(folder.glob("[0-9]*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        rows.append(f"| [{title}]({path.name}) |")
    return "\n".join(rows)


def metrics_block(_: Path) -> str:
    """Every metric of the coordinator: name, kind, labels and meaning."""
    rows = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels) or '-'} | "
        f"{one.text} |"
        for one in FAMILIES.values()
    ]
    return "\n".join(rows)


def results_block(_: Path) -> str:
    """Which struct each command prints as JSON."""
    rows = ["| command | prints |", "|---|---|"]
    for command in (*CLIENT, *PLATFORM):
        program = "client " if command in CLIENT else ""
        name = command.result.rpartition(":")[2]
        printed = f"[{name}](#{name.lower()})" if name else "nothing"
        also = "".join(f", `{path}`" for path in command.also)
        rows.append(f"| `{program}{command.path}`{also} | {printed} |")
    return "\n".join(rows)


def result_shapes_block(_: Path) -> str:
    """Every struct that is printed as JSON, or is a part of one."""
    structs = {struct_of(command) for command in commands()}
    parts = {shape for shape in _shapes(structs) if not issubclass(shape, Enum)}
    out: list[str] = []
    for struct in sorted(structs | parts, key=lambda cls: cls.__name__):
        out += [f"#### {struct.__name__}", "", _prose(struct.__doc__), "", "| field | form |"]
        out += ["|---|---|"]
        out += [f"| `{f.name}` | {_type(f.type)} |" for f in inspect_fields(struct)]
        out.append("")
    return "\n".join(out).rstrip()


def result_words_block(_: Path) -> str:
    """The words that fields of printed structs may have."""
    rows = ["| form | words |", "|---|---|"]
    words = {s for s in _shapes({struct_of(c) for c in commands()}) if issubclass(s, Enum)}
    rows += [
        f"| {cls.__name__} | {', '.join(f'`{plain(member)}`' for member in cls)} |"
        for cls in sorted(words, key=lambda cls: cls.__name__)
    ]
    return "\n".join(rows)


def result_schema_block(_: Path) -> str:
    """All of it as one JSON Schema."""
    lines = [f"  {json.dumps(name)}: {json.dumps(form)}" for name, form in definitions().items()]
    dialect = "https://json-schema.org/draft/2020-12/schema"
    whole = [f' "$schema": "{dialect}",', ' "$defs": {', ",\n".join(lines), " }"]
    return "\n".join(["```json", "{", *whole, "}", "```"])


BLOCKS: dict[str, Callable[[Path], str]] = {
    "events": events_block,
    "shapes": shapes_block,
    "subjects": subjects_block,
    "errors": errors_block,
    "special_errors": special_errors_block,
    "decisions": decisions_block,
    "metrics": metrics_block,
    "results": results_block,
    "result_shapes": result_shapes_block,
    "result_words": result_words_block,
    "result_schema": result_schema_block,
}


def _prose(docstring: str | None) -> str:
    prose = re.split(r"\n\s*(?:Args|Attributes):\n", docstring or "")[0]
    text = " ".join(prose.split())
    return text.replace("|", "\\|")


def _field_list(cls: type[msgspec.Struct]) -> str:
    return "<br>".join(_fields(cls)) or "-"


def _fields(cls: type[msgspec.Struct]) -> Iterator[str]:
    for field in inspect_fields(cls):
        default = ""
        if not field.required:
            value = field.default
            if value is msgspec.NODEFAULT:
                value = field.default_factory()
            default = f" = {_value(value)}"
        yield f"`{field.encode_name}`: {_type(field.type)}{default}"


def inspect_fields(cls: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    """Return the fields of a struct with their types."""
    info = inspect.type_info(cls)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{cls.__name__} is no struct")
    return info.fields


def _value(value: Any) -> str:
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}()"
    return f"`{msgspec.json.encode(value).decode()}`"


def _type(kind: inspect.Type) -> str:
    match kind:
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "whole number"
        case inspect.FloatType():
            return "number"
        case inspect.DateTimeType():
            return "time (RFC 3339, UTC)"
        case inspect.NoneType():
            return "nothing"
        case inspect.AnyType() | inspect.RawType():
            return "any value"
        case inspect.LiteralType(values):
            return " or ".join(f"`{value}`" for value in values)
        case inspect.EnumType(cls) | inspect.StructType(cls):
            return cls.__name__
        case inspect.UnionType(types):
            return " or ".join(map(_type, types))
        case inspect.VarTupleType(item) | inspect.ListType(item) | inspect.CollectionType(item):
            return f"list of {_type(item)}"
        case inspect.DictType(key, value):
            return f"map from {_type(key)} to {_type(value)}"
    raise TypeError(f"no words for {kind}: add them")


def _shapes(structs: Iterable[type[msgspec.Struct]]) -> list[Any]:
    found: list[Any] = []
    pending = [field.type for cls in structs for field in inspect_fields(cls)]
    while pending:
        kind = pending.pop(0)
        match kind:
            case inspect.EnumType(cls) if cls not in found:
                found.append(cls)
            case inspect.StructType(cls, fields) if cls not in found:
                found.append(cls)
                pending = [field.type for field in fields] + pending
            case inspect.VarTupleType(item) | inspect.ListType(item) | inspect.CollectionType(item):
                pending.insert(0, item)
            case inspect.DictType(key, value):
                pending[:0] = [key, value]
            case inspect.UnionType(types):
                pending[:0] = types
            case _:
                pass
    return found


def _family(cls: type[MitosisError]) -> Iterator[type[MitosisError]]:
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child)


def _pages(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Every made file, as it is and as it should be; the example of settings lies beside docs/."""
    for path in sorted(folder.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        yield path, page, fill(page, path.parent)
    settings = folder.parent / "config.example.toml"
    if settings.exists():
        yield settings, settings.read_text(encoding="utf-8"), example()


def main(arguments: list[str]) -> int:
    """Bring all pages of a folder up to date; with `--check` only say which are stale."""
    check = "--check" in arguments
    folder = Path(next((text for text in arguments if text != "--check"), "docs"))
    stale = []
    for path, page, filled in _pages(folder):
        if filled != page:
            stale.append(path)
            if not check:
                path.write_text(filled, encoding="utf-8")
    for path in stale:
        sys.stdout.write(f"{path} {'is stale: run just docs' if check else 'brought up to date'}\n")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
