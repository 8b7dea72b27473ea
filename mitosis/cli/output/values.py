"""Results as JSON: every field, of a fixed type, with the names that people know."""

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

from mitosis.domain.roles import Role
from mitosis.errors import MitosisError

LARGEST_NUMBER = 2**53 - 1  # what every reader of JSON keeps exact


def to_json(value: Any) -> str:
    """Return one line of JSON. Times are RFC 3339 in UTC, roles are words."""
    return msgspec.json.encode(plain(value)).decode()


def error_json(code: str, message: str, details: dict[str, Any]) -> str:
    """Return the JSON form of an error."""
    return to_json({"error": {"code": code, "message": message, "details": details}})


def of_error(error: MitosisError) -> str:
    """Return the JSON form of one of our errors."""
    return error_json(error.code, error.message, error.details)


def plain(value: Any) -> Any:
    """Return the value as dicts, lists, texts and numbers, without leaving out defaults."""
    match value:
        case Role():
            return value.name.lower()
        case Enum():
            return value.value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case str() | int() | float() | None:
            return value
        case _:
            return str(value)
