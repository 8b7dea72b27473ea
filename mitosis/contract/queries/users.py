"""Reads of accounts."""

import msgspec

from mitosis.domain.roles import Role


class WhoAmI(msgspec.Struct):
    """The account behind the session."""

    username: str
    admin: bool
    groups: dict[str, Role]
