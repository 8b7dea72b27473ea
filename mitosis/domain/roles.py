"""Roles: what a user is in a group, and what a group is on a worker."""

from collections.abc import Iterable
from enum import IntEnum

from mitosis.domain.names import check_name
from mitosis.domain.nearest import one_of
from mitosis.errors import InvalidInput


class Role(IntEnum):
    """Ordered: Admin includes Write, Write includes Read.

    In a group: Read sees, Write submits and cancels, Admin manages members.
    On a worker: Read sees the worker, Write may have tasks run by it, Admin manages it.
    """

    READ = 1
    WRITE = 2
    ADMIN = 3

    @property
    def label(self) -> str:
        """The name as people see it: Read, Write or Admin."""
        return self.name.title()


def parse_role(text: str) -> Role:
    """Read a role in any of lower, Title or UPPER case.

    Raises:
        InvalidInput: The text names no role.
    """
    try:
        return (
            Role[text.upper()] if text in {text.lower(), text.title(), text.upper()} else _no(text)
        )
    except KeyError:
        return _no(text)


def _no(text: str) -> Role:
    known = one_of(text, [role.name.lower() for role in Role])
    raise InvalidInput(f"{text!r} is no role: {known}", value=text)


def parse_grants(
    items: Iterable[str], default: Role | None = Role.WRITE, what: str = "group"
) -> dict[str, Role]:
    """Read `name` and `name:role` items into a map.

    Args:
        items: One grant each, such as `lab` or `lab:admin`.
        default: Role of an item without one; None makes the role mandatory.
        what: What the names name, `group` or `user`.

    Raises:
        InvalidInput: A malformed item, an unknown role, or a name given twice.
    """
    grants: dict[str, Role] = {}
    for item in items:
        name, colon, role = item.partition(":")
        if not colon and default is None:
            raise InvalidInput(f"{item!r} needs a role: write {item}:read, :write or :admin")
        if colon and not role:
            raise InvalidInput(f"{item!r} has no role behind the colon: write {name}:write")
        check_name(name, what)
        if name in grants:
            raise InvalidInput(f"{name!r} is given twice", value=item)
        grants[name] = parse_role(role) if colon else default  # type: ignore[assignment]
    return grants
