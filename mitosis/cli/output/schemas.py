"""The forms of JSON results, as JSON Schema, from the structs that are printed.

`docs/cli-json.md` is made from here, and tests hold what commands print against it.
"""

import importlib
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect

from mitosis.cli.commands import CLIENT, PLATFORM, Command
from mitosis.cli.output.values import LARGEST_NUMBER, plain

ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "object"},
            },
            "required": ["code", "message", "details"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}


def commands() -> list[Command]:
    """Return all commands that print a result."""
    return [command for command in (*CLIENT, *PLATFORM) if command.result]


def struct_of(command: Command) -> type[msgspec.Struct]:
    """Return the struct that a command prints."""
    module, _, name = command.result.partition(":")
    struct: type[msgspec.Struct] = getattr(importlib.import_module(f"mitosis.{module}"), name)
    return struct


def definitions() -> dict[str, dict[str, Any]]:
    """Return the schema of every result and of what they are made of, by name."""
    found: dict[str, dict[str, Any]] = {"Error": ERROR}
    for command in commands():
        _define(inspect.type_info(struct_of(command)), found)
    return dict(sorted(found.items()))


def schema_of(command: Command) -> dict[str, Any]:
    """Return the whole schema of what a command prints."""
    return {"$ref": f"#/$defs/{struct_of(command).__name__}", "$defs": definitions()}


def _define(kind: inspect.Type, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    match kind:
        case inspect.StrType():
            return {"type": "string"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}
        case inspect.FloatType():
            return {"type": "number"}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case inspect.NoneType():
            return {"type": "null"}
        case inspect.AnyType() | inspect.RawType():
            return {}
        case inspect.LiteralType(values):
            return {"enum": list(values)}
        case inspect.EnumType(cls):
            return {"enum": [plain(member) for member in cls]}
        case inspect.UnionType(types):
            return {"anyOf": [_define(one, found) for one in types]}
        case inspect.VarTupleType(item) | inspect.ListType(item) | inspect.CollectionType(item):
            return {"type": "array", "items": _define(item, found)}
        case inspect.DictType(_, value):
            return {"type": "object", "additionalProperties": _define(value, found)}
        case inspect.StructType(cls):
            return _define_struct(cls, kind.fields, found)
    raise TypeError(f"{kind} has no form in JSON results: add one")


def _optional(cls: type[msgspec.Struct]) -> frozenset[str]:
    """Fields that may be absent: of forms that are written as they are stored."""
    return getattr(cls, "OPTIONAL", frozenset())


def _define_struct(
    cls: type[msgspec.Struct], fields: Iterable[inspect.Field], found: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    if cls.__name__ not in found:
        found[cls.__name__] = {}  # it may hold itself
        properties = {field.name: _define(field.type, found) for field in fields}
        found[cls.__name__] = {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name not in _optional(cls)],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}
