r"""The user: an account with a password, sessions and a quota of groups.

    (none) --create--> active <--> locked
                          \________/--> deleted (final; the name stays taken)

Only an active user may log in or act. A password change ends all other sessions.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from msgspec.structs import replace

from mitosis.domain.event import Command, Event
from mitosis.domain.limits import DEFAULT_GROUP_QUOTA, MAX_REASON_BYTES, check_number, check_text
from mitosis.domain.names import check_name
from mitosis.domain.quotas import QuotaChange
from mitosis.errors import AlreadyExists, LimitReached, NotFound, WrongState

MAX_SESSIONS = 1_000
MAX_GROUP_QUOTA = 1_000_000
MAX_SOURCE_BYTES = 64  # an IPv6 address with its zone


class UserPhase(StrEnum):
    """Whether an account may be used."""

    ACTIVE = "active"
    LOCKED = "locked"
    DELETED = "deleted"


# --- events (stored form: add fields with defaults only) ---------------------------------------


class UserCreated(Event, frozen=True):
    """An account was created.

    `password_hash` is an Argon2id string; it never leaves the store in an outward form.
    """

    TOPIC: ClassVar[str] = "user.created@1"
    WITHHELD: ClassVar[tuple[str, ...]] = ("password_hash",)
    name: str
    password_hash: str
    admin: bool = False
    group_quota: int = DEFAULT_GROUP_QUOTA


class PasswordChanged(Event, frozen=True):
    """The password was changed; all sessions but `kept_session` end with it."""

    TOPIC: ClassVar[str] = "user.password_changed@1"
    WITHHELD: ClassVar[tuple[str, ...]] = ("password_hash",)
    password_hash: str
    kept_session: str = ""


class UserStateChanged(Event, frozen=True):
    """The account was locked, unlocked or deleted; but for unlocking, all sessions end with it."""

    TOPIC: ClassVar[str] = "user.state_changed@1"
    state: UserPhase
    reason: str = ""


class AdminChanged(Event, frozen=True):
    """The user became a platform administrator, or is none any more."""

    TOPIC: ClassVar[str] = "user.admin_changed@1"
    admin: bool


class GroupQuotaChanged(Event, frozen=True):
    """The number of groups that the user may have was set anew."""

    TOPIC: ClassVar[str] = "user.group_quota_changed@1"
    quota: int


class SessionOpened(Event, frozen=True):
    """The user logged in; the session ends at `expires_at` unless it is revoked before.

    `source` is the address that the login came from, empty when it is not known.
    """

    TOPIC: ClassVar[str] = "user.session_opened@1"
    session: str
    expires_at: datetime
    source: str = ""


class SessionRevoked(Event, frozen=True):
    """A session was ended before its time; `session` empty: all of them but `kept_session`."""

    TOPIC: ClassVar[str] = "user.session_revoked@1"
    session: str = ""
    kept_session: str = ""


# --- state ------------------------------------------------------------------------------------


class User(Command, frozen=True):
    """What decisions about an account need. `sessions` maps id -> expiry."""

    name: str
    password_hash: str
    admin: bool
    group_quota: int
    phase: UserPhase = UserPhase.ACTIVE
    sessions: dict[str, datetime] = {}

    @property
    def active(self) -> bool:
        """Whether the account may be used."""
        return self.phase is UserPhase.ACTIVE


def evolve(state: User | None, event: Event) -> User:
    """Apply a fact. Total: never raises for an event that `decide` made."""
    match event:
        case UserCreated(name, password_hash, admin, quota):
            return User(name, password_hash, admin, quota)
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the user was created")
        case PasswordChanged(password_hash, kept):
            return replace(state, password_hash=password_hash, sessions=_only(state, kept))
        case UserStateChanged(phase):
            sessions = state.sessions if phase is UserPhase.ACTIVE else {}
            return replace(state, phase=phase, sessions=sessions)
        case AdminChanged(admin):
            return replace(state, admin=admin)
        case GroupQuotaChanged(quota):
            return replace(state, group_quota=quota)
        case SessionOpened(session, expires_at):
            return replace(state, sessions={**state.sessions, session: expires_at})
        case SessionRevoked("", kept):
            return replace(state, sessions=_only(state, kept))
        case SessionRevoked(session):
            left = {s: t for s, t in state.sessions.items() if s != session}
            return replace(state, sessions=left)
        case _:
            return state


def _only(state: User, session: str) -> dict[str, datetime]:
    return {s: t for s, t in state.sessions.items() if s == session}


# --- commands ---------------------------------------------------------------------------------


class CreateUser(Command, frozen=True):
    """Create an account."""

    name: str
    password_hash: str
    admin: bool = False
    group_quota: int = DEFAULT_GROUP_QUOTA


class ChangePassword(Command, frozen=True):
    """Replace the password; all sessions but `kept_session` end."""

    password_hash: str
    kept_session: str = ""


class ChangeUserState(Command, frozen=True):
    """Lock, unlock or delete the account."""

    state: UserPhase
    reason: str = ""


class ChangeAdmin(Command, frozen=True):
    """Make the user a platform administrator, or take it back."""

    admin: bool


class ChangeGroupQuota(Command, frozen=True):
    """Set how many groups the user may have; the own group counts as one."""

    quota: QuotaChange


class OpenSession(Command, frozen=True):
    """Log the user in; `now` lets expired sessions make room."""

    session: str
    expires_at: datetime
    now: datetime
    source: str = ""


class RevokeSession(Command, frozen=True):
    """End a session; `session` empty: all of them but `kept_session`."""

    session: str = ""
    kept_session: str = ""


def decide(state: User | None, command: Command) -> list[Event]:
    """Return what the command makes true; nothing for a repeat.

    Raises:
        Rejection: A rule says no.
    """
    match command:
        case CreateUser(name, password_hash, admin, quota):
            check_name(name, "user")
            check_number(quota, "group quota", 0, MAX_GROUP_QUOTA)
            if state is not None:
                raise AlreadyExists(f"user {name!r} exists already: choose another name", name=name)
            return [UserCreated(name, password_hash, admin, quota)]
        case _ if state is None:
            raise NotFound("no such user")
        case _ if state.phase is UserPhase.DELETED:
            raise WrongState(f"user {state.name!r} is deleted, which cannot be undone")
        case ChangePassword(password_hash, kept):
            return [PasswordChanged(password_hash, kept)]
        case ChangeUserState(phase, reason):
            check_text(reason, "reason", MAX_REASON_BYTES)
            return [] if phase is state.phase else [UserStateChanged(phase, reason)]
        case ChangeAdmin(admin):
            return [] if admin == state.admin else [AdminChanged(admin)]
        case ChangeGroupQuota(change):
            quota = change.applied_to(state.group_quota)
            check_number(quota, "group quota", 0, MAX_GROUP_QUOTA)
            return [] if quota == state.group_quota else [GroupQuotaChanged(quota)]
        case OpenSession():
            return _open_session(state, command)
        case RevokeSession("", kept):
            return [SessionRevoked("", kept)] if state.sessions.keys() - {kept} else []
        case RevokeSession(session):
            return [SessionRevoked(session)] if session in state.sessions else []
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")


def _open_session(state: User, command: OpenSession) -> list[Event]:
    if not state.active:
        raise WrongState(f"user {state.name!r} is {state.phase}: ask an administrator")
    if command.session in state.sessions:
        return []
    expired = [s for s, expires_at in state.sessions.items() if expires_at <= command.now]
    if len(state.sessions) - len(expired) >= MAX_SESSIONS:
        raise LimitReached(
            f"user {state.name!r} has {MAX_SESSIONS} open sessions: revoke some of them first",
            limit=MAX_SESSIONS,
        )
    revoked: list[Event] = [SessionRevoked(session) for session in expired]
    source = check_text(command.source, "source", MAX_SOURCE_BYTES)
    return [*revoked, SessionOpened(command.session, command.expires_at, source)]
