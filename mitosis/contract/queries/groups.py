"""Reads of groups."""

from datetime import datetime

import msgspec

from mitosis.contract.queries.pages import AsOf
from mitosis.domain.roles import Role


class GetGroup(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Read in the group."""

    name: str
    as_of: AsOf = None


class GroupView(msgspec.Struct):
    """One group as it is now.

    `members` only for its Admins; `reason`: why it is locked or deleted, as far as it was said.
    """

    name: str
    creator: str
    state: str
    role: Role
    members: dict[str, Role] | None
    task_count: int
    worker_count: int
    storage_used_bytes: int
    storage_quota_bytes: int
    created_at: datetime
    updated_at: datetime
    reason: str = ""


class ListGroups(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Of those in which the user has a role."""

    as_of: AsOf = None


class GroupList(msgspec.Struct):
    """All groups in which the user has a role."""

    groups: dict[str, Role]
