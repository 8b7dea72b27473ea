"""What commands print as JSON that is no answer of the platform as it stands."""

import msgspec

from mitosis.domain.group import GroupPhase
from mitosis.domain.roles import Role
from mitosis.domain.user import UserPhase


class NamedUser(msgspec.Struct, frozen=True):
    """The user whom the command was about."""

    username: str


class UserRights(msgspec.Struct, frozen=True):
    """Whether the user is a platform administrator."""

    username: str
    admin: bool


class UserState(msgspec.Struct, frozen=True):
    """Whether the account may be used."""

    username: str
    state: UserPhase


class UserQuota(msgspec.Struct, frozen=True):
    """How many groups the user may have."""

    username: str
    quota: int


class NamedGroup(msgspec.Struct, frozen=True):
    """The group that was created."""

    name: str


class SetRoles(msgspec.Struct, frozen=True):
    """The roles that were given."""

    group: str
    roles: dict[str, Role]


class RemovedMembers(msgspec.Struct, frozen=True):
    """The users who have no role in the group now."""

    group: str
    removed: tuple[str, ...]


class StorageQuota(msgspec.Struct, frozen=True):
    """How many bytes the group may store."""

    group: str
    quota_bytes: int


class GroupState(msgspec.Struct, frozen=True):
    """Whether the group takes tasks and files."""

    group: str
    state: GroupPhase


class ServerConfig(msgspec.Struct, frozen=True):
    """Where the configuration for nats-server was written to, or else the configuration."""

    path: str | None = None
    config: str | None = None
