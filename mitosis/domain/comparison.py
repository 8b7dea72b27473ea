"""Comparing numbers in a filter: `5`, `=5`, `!=0`, `<10`, `>=2`. Numbers, never texts."""

import re
from enum import StrEnum

import msgspec

from mitosis.errors import InvalidInput

_FORM = re.compile(r"\s*(=|!=|<=|<|>=|>)?\s*(-?\d{1,18})\s*", re.ASCII)


class Operator(StrEnum):
    """How to compare."""

    EQUAL = "="
    UNEQUAL = "!="
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="


class Comparison(msgspec.Struct, frozen=True):
    """With what, and how, a number is compared."""

    operator: Operator
    number: int


def parse_comparison(text: str, field: str) -> Comparison:
    """Read a comparison; without an operator it is `=`.

    Raises:
        InvalidInput: Of another form.
    """
    match = _FORM.fullmatch(text) if len(text) <= 40 else None
    if match is None:
        raise InvalidInput(
            f"{text[:40]!r} is no condition on {field}: write a number, after =, !=, <, <=, > or "
            ">= if another than = is meant, such as '!=0'",
            field=field,
        )
    return Comparison(Operator(match[1] or "="), int(match[2]))
