"""The worker under random commands."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from mitosis.domain import worker
from mitosis.domain.event import Event
from mitosis.domain.roles import Role
from mitosis.domain.worker import (
    ChangeWorkerSlots,
    DrainWorker,
    GrantWorkerRoles,
    LeaveWorker,
    LoseWorker,
    PauseWorker,
    RegisterWorker,
    RemoveWorkerRoles,
    ReplaceWorkerLabels,
    ReplaceWorkerTags,
    ResumeWorker,
    Worker,
    WorkerPhase,
)
from mitosis.errors import AlreadyExists, Rejection, WrongState
from mitosis.testing.aggregates import AggregateMachine

GROUPS = st.sampled_from(["lab", "alice"])
ROLES = st.dictionaries(GROUPS, st.sampled_from(Role), max_size=2)
TAGS = st.lists(st.sampled_from(["a", "b"]), max_size=3).map(tuple)


class WorkerMachine(AggregateMachine):
    aggregate = worker
    state_type = Worker

    @initialize(tags=TAGS)
    def register(self, tags: tuple[str, ...]) -> None:
        self.registration = RegisterWorker("w", "alice", {"alice": Role.ADMIN}, 1, 600.0, tags)
        self.give(self.registration)

    def check_event(self, event: Event) -> None:
        if self.state is None:
            return
        assert self.state.phase is not WorkerPhase.GONE, "a worker that is gone never changes"
        if self.state.phase is WorkerPhase.DRAINING:
            assert not isinstance(event, worker.WorkerResumed | worker.WorkerPaused)

    @rule()
    def register_again(self) -> None:
        assert isinstance(self.give(self.registration), AlreadyExists)

    @rule(tags=TAGS)
    def replace_tags(self, tags: tuple[str, ...]) -> None:
        if not isinstance(self.give(ReplaceWorkerTags(tags)), Rejection):
            assert self.state.tags == set(tags)

    @rule(labels=TAGS)
    def replace_labels(self, labels: tuple[str, ...]) -> None:
        self.give(ReplaceWorkerLabels(labels))

    @rule(roles=ROLES)
    def grant(self, roles: dict[str, Role]) -> None:
        if not isinstance(self.give(GrantWorkerRoles(roles)), Rejection):
            assert roles.items() <= self.state.roles.items()
            for group, role in roles.items():
                assert self.state.serves(group) == (role is not Role.READ)

    @rule(groups=st.lists(GROUPS, max_size=2).map(tuple))
    def remove(self, groups: tuple[str, ...]) -> None:
        if not isinstance(self.give(RemoveWorkerRoles(groups)), Rejection):
            assert not any(self.state.serves(group) for group in groups)

    @rule(slots=st.integers(-1, 3) | st.integers(4_095, 4_097))
    def change_slots(self, slots: int) -> None:
        self.give(ChangeWorkerSlots(slots))

    @rule()
    def pause(self) -> None:
        self.give(PauseWorker("lunch"))

    @rule()
    def resume(self) -> None:
        self.give(ResumeWorker())

    @rule(force=st.booleans())
    def drain(self, force: bool) -> None:
        self.give(DrainWorker("maintenance", force))

    @rule(proof=st.sampled_from(["", "the guardian killed its tree"]))
    def vanish(self, proof: str) -> None:
        """Rarely at the start, so that other commands get their turn."""
        if len(self.history) > 6:
            self.give(LoseWorker(proof) if proof else LeaveWorker("bye"))

    @rule()
    def one_that_is_gone_refuses_everything_but_its_end(self) -> None:
        if self.state.phase is WorkerPhase.GONE:
            assert isinstance(self.give(ChangeWorkerSlots(2)), WrongState)
            assert self.give(LeaveWorker()) == self.give(LoseWorker("lease over")) == []

    @invariant()
    def slots_stay_within_bounds(self) -> None:
        assert 1 <= self.state.slots <= 4_096

    @invariant()
    def takes_work_only_in_its_normal_phase(self) -> None:
        assert self.state.takes_work == (self.state.phase is WorkerPhase.NORMAL)


TestWorker = WorkerMachine.TestCase
TestWorker.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
