"""Accounts and their sessions, from the events of users. Passwords are no read model."""

from mitosis.contract.queries import SessionView
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
from mitosis.projections.rows import SessionsRow, Tables, UserRow
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
            _fold_sessions(tables, row.name, commit, event)
            return
        case PasswordChanged():
            _fold_sessions(tables, row.name, commit, event)
        case UserStateChanged(state, reason):
            row.state, row.reason = state, reason
            _fold_sessions(tables, row.name, commit, event)
        case AdminChanged(admin):
            row.admin = admin
        case GroupQuotaChanged(quota):
            row.group_quota = quota
        case _:
            raise AssertionError(f"no column for {event.TOPIC}")
    row.updated_at = at
    tables.users.put(row)


def _fold_sessions(tables: Tables, name: str, commit: Commit, event: Event) -> None:
    known = tables.sessions.get(name)
    left = known.sessions if known else []
    match event:
        case SessionOpened(session, expires_at, source):
            left = [*left, SessionView(session, commit.at, expires_at, source)]
        case SessionRevoked("", kept) | PasswordChanged(_, kept):
            left = [one for one in left if one.session == kept]
        case SessionRevoked(session):
            left = [one for one in left if one.session != session]
        case UserStateChanged(state) if state is not UserPhase.ACTIVE:
            left = []
        case _:
            return
    if left or known:
        tables.sessions.put(SessionsRow(name, left))
