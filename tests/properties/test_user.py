"""The account under random commands and with sessions that expire."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from mitosis.domain import user
from mitosis.domain.event import Event
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.user import (
    ChangeAdmin,
    ChangeGroupQuota,
    ChangePassword,
    ChangeUserState,
    CreateUser,
    OpenSession,
    RevokeSession,
    User,
    UserPhase,
)
from mitosis.errors import AlreadyExists, LimitReached, Rejection, WrongState
from mitosis.testing.aggregates import AggregateMachine

START = datetime(2026, 1, 1, tzinfo=UTC)
SESSIONS = st.sampled_from(["s1", "s2", "s3", "s4"])


class UserMachine(AggregateMachine):
    aggregate = user
    state_type = User
    news_each_time = (ChangePassword,)  # another hash is another fact, even of the same password

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    @initialize(quota=st.integers(0, 10))
    def create(self, quota: int) -> None:
        self.give(CreateUser("alice", "$argon2id$1", group_quota=quota))

    def check_event(self, event: Event) -> None:
        if self.state is not None:
            assert self.state.phase is not UserPhase.DELETED, "a deleted account never changes"

    @rule()
    def create_again(self) -> None:
        assert isinstance(self.give(CreateUser("alice", "$argon2id$2")), AlreadyExists)

    @rule(session=SESSIONS, life=st.integers(1, 5))
    def log_in(self, session: str, life: int) -> None:
        result = self.give(OpenSession(session, self.now + timedelta(hours=life), self.now))
        if not self.state.active:
            assert isinstance(result, WrongState), "only an active user may log in"
        else:
            assert session in self.state.sessions

    @rule(hours=st.integers(1, 4))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(session=SESSIONS | st.just(""))
    def revoke(self, session: str) -> None:
        if not isinstance(self.give(RevokeSession(session)), Rejection):
            assert session not in self.state.sessions
            assert session or not self.state.sessions

    @rule(kept=SESSIONS)
    def revoke_others(self, kept: str) -> None:
        had = set(self.state.sessions)
        if not isinstance(self.give(RevokeSession(kept_session=kept)), Rejection):
            assert set(self.state.sessions) == had & {kept}

    @rule(kept=SESSIONS | st.just(""))
    def change_password(self, kept: str) -> None:
        had = set(self.state.sessions)
        if not isinstance(self.give(ChangePassword("$argon2id$3", kept)), Rejection):
            assert set(self.state.sessions) == had & {kept}

    @rule(phase=st.sampled_from([UserPhase.ACTIVE, UserPhase.LOCKED] * 3 + [UserPhase.DELETED]))
    def change_state(self, phase: UserPhase) -> None:
        self.give(ChangeUserState(phase, "because"))

    @rule(admin=st.booleans())
    def change_admin(self, admin: bool) -> None:
        self.give(ChangeAdmin(admin))

    @rule(quota=st.integers(-(2**70), 2**70) | st.integers(-1, 1))
    def change_quota(self, quota: int) -> None:
        refused = isinstance(self.give(ChangeGroupQuota(QuotaChange(quota))), Rejection)
        deleted = self.state.phase is UserPhase.DELETED
        assert refused == (deleted or not 0 <= quota <= 1_000_000)

    @invariant()
    def quota_is_never_negative(self) -> None:
        assert self.state.group_quota >= 0

    @invariant()
    def only_an_active_account_has_sessions(self) -> None:
        assert self.state.active or not self.state.sessions


TestUser = UserMachine.TestCase
TestUser.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_sessions_are_bounded_and_expired_ones_make_room() -> None:
    state = user.evolve(None, user.UserCreated("alice", "hash"))
    soon, later = START + timedelta(hours=1), START + timedelta(hours=2)
    for number in range(user.MAX_SESSIONS):
        state = user.evolve(state, user.SessionOpened(f"s{number}", soon))
    with pytest.raises(LimitReached) as refusal:
        user.decide(state, OpenSession("one more", later, START))
    assert refusal.value.details["limit"] == user.MAX_SESSIONS
    events = user.decide(state, OpenSession("one more", later, soon))
    for event in events:
        state = user.evolve(state, event)
    assert list(state.sessions) == ["one more"]
