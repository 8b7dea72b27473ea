"""The group under random commands."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from mitosis.domain import group
from mitosis.domain.event import Event
from mitosis.domain.group import (
    ChangeGroupState,
    ChangeMembers,
    ChangeStorageQuota,
    CreateGroup,
    Group,
    GroupPhase,
)
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.roles import Role
from mitosis.errors import AlreadyExists, Rejection, WrongState
from mitosis.testing.aggregates import AggregateMachine

USERS = st.sampled_from(["alice", "bob", "carol"])
QUOTAS = st.integers(-(2**70), 2**70) | st.integers(-1, 1)


class GroupMachine(AggregateMachine):
    aggregate = group
    state_type = Group
    news_each_time = (ChangeStorageQuota,)  # a difference is another fact each time

    @initialize(user=USERS)
    def create(self, user: str) -> None:
        self.give(CreateGroup("lab", user))

    def check_event(self, event: Event) -> None:
        if self.state is not None:
            assert self.state.phase is not GroupPhase.DELETED, "a deleted group never changes"

    @rule(user=USERS)
    def create_again(self, user: str) -> None:
        assert isinstance(self.give(CreateGroup("lab", user)), AlreadyExists)

    @rule(user=USERS, role=st.sampled_from(Role))
    def set_role(self, user: str, role: Role) -> None:
        self.give(ChangeMembers({user: role}))

    @rule(user=USERS)
    def remove(self, user: str) -> None:
        self.give(ChangeMembers(removed=(user,)))

    @precondition(lambda self: self.state.phase is not GroupPhase.DELETED)
    @rule(role=st.sampled_from([Role.READ, Role.WRITE]))
    def last_admin_cannot_leave(self, role: Role) -> None:
        admins = [user for user, held in self.state.members.items() if held is Role.ADMIN]
        for user in admins[1:]:
            assert not isinstance(self.give(ChangeMembers({user: role})), Rejection)
        assert isinstance(self.give(ChangeMembers(removed=(admins[0],))), WrongState)
        assert isinstance(self.give(ChangeMembers({admins[0]: role})), WrongState)

    @rule(
        roles=st.dictionaries(USERS, st.sampled_from(Role), max_size=3),
        removed=st.sets(USERS, max_size=3),
    )
    def change_several(self, roles: dict[str, Role], removed: set[str]) -> None:
        before = self.state.members
        if not isinstance(self.give(ChangeMembers(roles, tuple(removed))), Rejection):
            left = {user: role for user, role in before.items() if user not in removed}
            assert self.state.members == left | roles, "all of it"
        else:
            assert self.state.members == before, "or nothing"

    @rule(quota=QUOTAS)
    def change_quota(self, quota: int) -> None:
        refused = isinstance(self.give(ChangeStorageQuota(QuotaChange(quota))), Rejection)
        deleted = self.state.phase is GroupPhase.DELETED
        assert refused == (deleted or not 0 <= quota < 2**53)

    @rule(difference=QUOTAS)
    def change_quota_by(self, difference: int) -> None:
        wanted = max(0, self.state.storage_quota_bytes + difference)
        change = ChangeStorageQuota(QuotaChange(difference, relative=True))
        refused = isinstance(self.give(change), Rejection)
        deleted = self.state.phase is GroupPhase.DELETED
        assert refused == (deleted or wanted >= 2**53)
        assert refused or self.state.storage_quota_bytes == wanted

    @rule(phase=st.sampled_from([GroupPhase.ACTIVE, GroupPhase.LOCKED] * 3 + [GroupPhase.DELETED]))
    def change_state(self, phase: GroupPhase) -> None:
        self.give(ChangeGroupState(phase, "because"))

    @invariant()
    def always_has_an_admin(self) -> None:
        assert Role.ADMIN in self.state.members.values()

    @invariant()
    def quota_is_never_negative(self) -> None:
        assert self.state.storage_quota_bytes >= 0


TestGroup = GroupMachine.TestCase
TestGroup.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
