"""Groups and their members, from the events of groups."""

from mitosis.domain.event import Event
from mitosis.domain.group import (
    GroupCreated,
    GroupPhase,
    GroupStateChanged,
    MemberRemoved,
    MemberRoleSet,
    StorageQuotaChanged,
)
from mitosis.domain.roles import Role
from mitosis.projections.commit import Commit
from mitosis.projections.rows import GroupRow, MemberRow, Tables
from mitosis.projections.sequence import out_of_order


def fold(tables: Tables, commit: Commit, event: Event) -> None:
    """Apply an event of a group.

    Raises:
        CorruptData: An event of a group that was never created.
    """
    at = commit.at
    if isinstance(event, GroupCreated):
        tables.groups.put(
            GroupRow(
                event.name, event.creator, GroupPhase.ACTIVE, event.storage_quota_bytes, at, at
            )
        )
        tables.members.put(MemberRow(event.name, event.creator, Role.ADMIN))
        tables.use_of(event.name)
        return
    row = tables.groups.get(commit.tail.partition(".")[2])
    if row is None:
        raise out_of_order(commit, event)
    match event:
        case MemberRoleSet(user, role):
            tables.members.put(MemberRow(row.name, user, role))
        case MemberRemoved(user):
            tables.members.drop(row.name, user)
        case StorageQuotaChanged(quota):
            row.storage_quota_bytes = quota
        case GroupStateChanged(state, reason):
            row.state, row.reason = state, reason
        case _:
            raise AssertionError(f"no column for {event.TOPIC}")
    row.updated_at = at
    tables.groups.put(row)
