r"""The group: who may use its tasks and files, and how much it may store.

    (none) --create--> active <--> locked
                          \________/--> deleted (final)

A group always keeps at least one Admin.
"""

from enum import StrEnum
from typing import ClassVar

from msgspec.structs import replace

from mitosis.domain.event import Command, Event
from mitosis.domain.limits import (
    DEFAULT_STORAGE_QUOTA_BYTES,
    MAX_REASON_BYTES,
    MAX_SIZE_BYTES,
    check_number,
    check_text,
)
from mitosis.domain.names import check_name
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.roles import Role
from mitosis.errors import AlreadyExists, InvalidInput, LimitReached, NotFound, WrongState

MAX_MEMBERS = 10_000


class GroupPhase(StrEnum):
    """Whether a group takes tasks and files."""

    ACTIVE = "active"
    LOCKED = "locked"
    DELETED = "deleted"


# --- events (stored form: add fields with defaults only) ---------------------------------------


class GroupCreated(Event, frozen=True):
    """A group was created; its creator is its first Admin."""

    TOPIC: ClassVar[str] = "group.created@1"
    name: str
    creator: str
    storage_quota_bytes: int = DEFAULT_STORAGE_QUOTA_BYTES


class MemberRoleSet(Event, frozen=True):
    """A user became a member of the group, or got another role in it."""

    TOPIC: ClassVar[str] = "group.member_role_set@1"
    user: str
    role: Role


class MemberRemoved(Event, frozen=True):
    """A user is a member of the group no more."""

    TOPIC: ClassVar[str] = "group.member_removed@1"
    user: str


class StorageQuotaChanged(Event, frozen=True):
    """The bytes that the group may store were set anew."""

    TOPIC: ClassVar[str] = "group.storage_quota_changed@1"
    quota_bytes: int


class GroupStateChanged(Event, frozen=True):
    """The group was locked, unlocked or deleted."""

    TOPIC: ClassVar[str] = "group.state_changed@1"
    state: GroupPhase
    reason: str = ""


# --- state ------------------------------------------------------------------------------------


class Group(Command, frozen=True):
    """What decisions about a group need."""

    name: str
    creator: str
    storage_quota_bytes: int
    members: dict[str, Role]
    phase: GroupPhase = GroupPhase.ACTIVE

    @property
    def active(self) -> bool:
        """Whether the group takes tasks and files."""
        return self.phase is GroupPhase.ACTIVE

    @property
    def admins(self) -> set[str]:
        """Members with the role Admin."""
        return {user for user, role in self.members.items() if role is Role.ADMIN}


def evolve(state: Group | None, event: Event) -> Group:
    """Apply a fact. Total: never raises for an event that `decide` made."""
    match event:
        case GroupCreated(name, creator, quota):
            return Group(name, creator, quota, {creator: Role.ADMIN})
        case _ if state is None:
            raise AssertionError(f"{event.TOPIC} before the group was created")
        case MemberRoleSet(user, role):
            return replace(state, members={**state.members, user: role})
        case MemberRemoved(user):
            left = {u: r for u, r in state.members.items() if u != user}
            return replace(state, members=left)
        case StorageQuotaChanged(quota):
            return replace(state, storage_quota_bytes=quota)
        case GroupStateChanged(phase):
            return replace(state, phase=phase)
        case _:
            return state


# --- commands ---------------------------------------------------------------------------------


class CreateGroup(Command, frozen=True):
    """Create a group; `creator` becomes its first Admin."""

    name: str
    creator: str
    storage_quota_bytes: int = DEFAULT_STORAGE_QUOTA_BYTES


class ChangeMembers(Command, frozen=True):
    """Give users a role, and take that of others away; all of it or nothing.

    Whatever the order, an Admin must be left in the end.
    """

    roles: dict[str, Role] = {}
    removed: tuple[str, ...] = ()


class ChangeStorageQuota(Command, frozen=True):
    """Set how many bytes the group may store."""

    quota: QuotaChange


class ChangeGroupState(Command, frozen=True):
    """Lock, unlock or delete the group."""

    state: GroupPhase
    reason: str = ""


def decide(state: Group | None, command: Command) -> list[Event]:
    """Return what the command makes true; nothing for a repeat.

    Raises:
        Rejection: A rule says no.
    """
    match command:
        case CreateGroup(name, creator, quota):
            check_name(name, "group")
            check_number(quota, "storage quota in bytes", 0, MAX_SIZE_BYTES)
            if state is not None:
                raise AlreadyExists(
                    f"group {name!r} exists already: choose another name", name=name
                )
            return [GroupCreated(name, creator, quota)]
        case _ if state is None:
            raise NotFound("no such group")
        case _ if state.phase is GroupPhase.DELETED:
            raise WrongState(f"group {state.name!r} is deleted, which cannot be undone")
        case ChangeMembers(roles, removed):
            return _change_members(state, roles, removed)
        case ChangeStorageQuota(change):
            quota = change.applied_to(state.storage_quota_bytes)
            check_number(quota, "storage quota in bytes", 0, MAX_SIZE_BYTES)
            return [] if quota == state.storage_quota_bytes else [StorageQuotaChanged(quota)]
        case ChangeGroupState(phase, reason):
            check_text(reason, "reason", MAX_REASON_BYTES)
            return [] if phase is state.phase else [GroupStateChanged(phase, reason)]
        case _:
            raise AssertionError(f"no rule for {type(command).__name__}")


def _change_members(state: Group, roles: dict[str, Role], removed: tuple[str, ...]) -> list[Event]:
    twice = sorted(roles.keys() & set(removed))
    if twice:
        raise InvalidInput(f"{twice[0]!r} is both given a role and removed", user=twice[0])
    events: list[Event] = [
        MemberRoleSet(check_name(user, "user"), role)
        for user, role in roles.items()
        if state.members.get(user) is not role
    ]
    events += [MemberRemoved(user) for user in dict.fromkeys(removed) if user in state.members]
    after = state
    for event in events:
        after = evolve(after, event)
    if not after.admins:
        raise WrongState(
            f"{', '.join(sorted(state.admins))!r} is the last Admin of group {state.name!r}: make "
            "somebody else Admin first"
        )
    if len(after.members) > max(MAX_MEMBERS, len(state.members)):
        raise LimitReached(
            f"group {state.name!r} would have {len(after.members)} members, at most {MAX_MEMBERS} "
            "are possible",
            limit=MAX_MEMBERS,
        )
    return events
