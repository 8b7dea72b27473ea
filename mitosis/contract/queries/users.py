"""Reads of accounts."""

from datetime import datetime

import msgspec

from mitosis.contract.queries.pages import DEFAULT_PAGE
from mitosis.domain.roles import Role
from mitosis.domain.user import UserPhase


class WhoAmI(msgspec.Struct):
    """The account behind the session."""

    username: str
    admin: bool
    groups: dict[str, Role]


class ListUsers(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs a platform administrator. Filters; each given one must hold. By name."""

    prefix: str = ""
    states: tuple[UserPhase, ...] = ()
    admins: bool = False
    limit: int = DEFAULT_PAGE
    offset: int = 0


class UserView(msgspec.Struct):
    """An account as it is now.

    Attributes:
        groups: How many groups it has created that are not deleted, the own one included.
        sessions: How many sessions are open and not expired.
        reason: Why it is locked or deleted, as far as it was said.
    """

    username: str
    admin: bool
    state: UserPhase
    reason: str
    groups: int
    group_quota: int
    sessions: int
    created_at: datetime
    updated_at: datetime


class UserPage(msgspec.Struct):
    """`total` counts all that match, whatever the page."""

    users: list[UserView]
    total: int


class ListSessions(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """`username` empty: one's own; those of others need a platform administrator."""

    username: str = ""


class SessionView(msgspec.Struct):
    """An open session. `source` is the address of the login; empty when it is not known."""

    session: str
    opened_at: datetime
    expires_at: datetime
    source: str = ""


class SessionList(msgspec.Struct):
    """Open sessions that are not expired, the newest last."""

    username: str
    sessions: list[SessionView]
