"""Accounts, from the events of users. Passwords and sessions are not read models."""

from mitosis.domain.event import Event
from mitosis.domain.user import (
    AdminChanged,
    GroupQuotaChanged,
    PasswordChanged,
    SessionOpened,
    SessionRevoked,
    UserCreated,
    UserPhase,
    UserStateChanged,
)
from mitosis.projections.commit import Commit
from mitosis.projections.rows import Tables, UserRow
from mitosis.projections.sequence import out_of_order


def fold(tables: Tables, commit: Commit, event: Event) -> None:
    """Apply an event of a user.

    Raises:
        CorruptData: An event of a user that was never created.
    """
    at = commit.at
    if isinstance(event, UserCreated):
        tables.users.put(
            UserRow(event.name, event.admin, UserPhase.ACTIVE, event.group_quota, at, at)
        )
        return
    row = tables.users.get(commit.tail.partition(".")[2])
    if row is None:
        raise out_of_order(commit, event)
    match event:
        case SessionOpened() | SessionRevoked():
            return
        case PasswordChanged():
            pass
        case UserStateChanged(state):
            row.state = state
        case AdminChanged(admin):
            row.admin = admin
        case GroupQuotaChanged(quota):
            row.group_quota = quota
        case _:
            raise AssertionError(f"no column for {event.TOPIC}")
    row.updated_at = at
    tables.users.put(row)
