"""Aggregate id <-> subject, one to one.

Our own ids are tails of subjects (`task.lab.<uuid>`) and stay readable. The ids of other
applications of the library are escaped behind a first token that no tail of ours begins with:
a UUID as `_u.<hex>`, any other text as `_s.<percent-encoded>`.
"""

import re
from urllib.parse import quote, unquote
from uuid import UUID

_TAIL = re.compile(r"[^\s.*>_\x00-\x20][^\s.*>\x00-\x20]*(\.[^\s.*>\x00-\x20]+)*")


def to_tail(originator_id: UUID | str) -> str:
    """Return the tail of the subject of an aggregate."""
    if isinstance(originator_id, UUID):
        return f"_u.{originator_id.hex}"
    if _TAIL.fullmatch(originator_id):
        return originator_id
    return f"_s.{escape(originator_id)}"


def from_tail(tail: str) -> UUID | str:
    """Return the id of the aggregate with this tail."""
    if tail.startswith("_u."):
        return UUID(hex=tail[3:])
    if tail.startswith("_s."):
        return unquote(tail[3:].replace("=", "%")).removeprefix("-")
    return tail


def escape(text: str) -> str:
    """Return one subject token for any text; never empty."""
    return quote("-" + text, safe="").replace(".", "%2E").replace("%", "=")
