"""Commands about groups."""

import msgspec

from mitosis.domain.group import GroupPhase
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.roles import Role


class CreateGroup(msgspec.Struct, forbid_unknown_fields=True):
    """The one who creates it becomes Admin."""

    name: str


class ChangeMembers(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Admin in the group, or a platform administrator. All of it, or nothing.

    Every user must exist, and an active Admin must be left in the end.
    """

    group: str
    roles: dict[str, Role] = {}
    removed: tuple[str, ...] = ()


class ChangeStorageQuota(msgspec.Struct, forbid_unknown_fields=True):
    """Needs a platform administrator. The amount is in bytes."""

    group: str
    change: QuotaChange


class ChangeGroupState(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs a platform administrator. A locked group takes no tasks, files or members.

    Deleted is for ever: the tasks of the group are cancelled, and nobody has a role in it.
    """

    group: str
    state: GroupPhase
    reason: str = ""
