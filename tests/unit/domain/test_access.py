import pytest

from mitosis.domain.access import need_admin, need_role, need_worker_role, role_on_worker
from mitosis.domain.group import Group, GroupPhase
from mitosis.domain.roles import Role
from mitosis.domain.user import User
from mitosis.domain.worker import Worker
from mitosis.errors import MitosisError, NotAllowed, NotFound, WrongState

ALICE = User("alice", "hash", False, 8)
BOB = User("bob", "hash", False, 8)
ROOT = User("root", "hash", True, 8)
LAB = Group("lab", "alice", 10, {"alice": Role.ADMIN, "bob": Role.READ})
WORKER = Worker("w", "alice", {"lab": Role.WRITE, "alice": Role.ADMIN}, 1, 600.0)


def test_only_an_administrator_passes_as_one() -> None:
    need_admin(ROOT, "creating a user")
    with pytest.raises(NotAllowed, match="creating a user needs a platform administrator"):
        need_admin(ALICE, "creating a user")


@pytest.mark.parametrize(("user", "highest"), [(ALICE, Role.ADMIN), (BOB, Role.READ)])
def test_a_role_includes_the_lower_ones_and_no_higher(user: User, highest: Role) -> None:
    for role in Role:
        if role <= highest:
            assert need_role(user, LAB, "lab", role, "this") is LAB
        else:
            with pytest.raises(NotAllowed) as refusal:
                need_role(user, LAB, "lab", role, "this")
            assert refusal.value.details == {"group": "lab", "needed": role.label}


def test_no_role_and_no_group_are_told_apart() -> None:
    with pytest.raises(NotAllowed, match="'root' has no role there"):
        need_role(ROOT, LAB, "lab", Role.READ, "this")
    with pytest.raises(NotFound, match="no group 'lob'"):
        need_role(ROOT, None, "lob", Role.READ, "this")


def test_a_locked_group_can_be_read_but_not_changed() -> None:
    locked = Group("lab", "alice", 10, LAB.members, GroupPhase.LOCKED)
    need_role(ALICE, locked, "lab", Role.READ, "this")
    with pytest.raises(WrongState, match="is locked"):
        need_role(ALICE, locked, "lab", Role.WRITE, "this")


@pytest.mark.parametrize(
    ("user", "memberships", "role"),
    [
        (ALICE, {}, Role.ADMIN),
        (ROOT, {}, Role.ADMIN),
        (BOB, {}, None),
        (BOB, {"other": Role.ADMIN}, None),
        (BOB, {"lab": Role.READ}, Role.READ),
        (BOB, {"lab": Role.ADMIN}, Role.WRITE),
        (BOB, {"lab": Role.READ, "alice": Role.ADMIN}, Role.ADMIN),
    ],
)
def test_a_group_gives_the_smaller_of_two_roles_on_a_worker(
    user: User, memberships: dict[str, Role], role: Role | None
) -> None:
    assert role_on_worker(user, memberships, WORKER) is role


@pytest.mark.parametrize(
    ("memberships", "worker", "error"),
    [
        ({"lab": Role.WRITE}, None, NotFound),
        ({}, WORKER, NotFound),  # what one may not see does not exist
        ({"lab": Role.ADMIN}, WORKER, NotAllowed),
    ],
)
def test_a_worker_that_one_may_not_manage_is_refused(
    memberships: dict[str, Role], worker: Worker | None, error: type[MitosisError]
) -> None:
    with pytest.raises(error):
        need_worker_role(BOB, memberships, worker, "w", Role.ADMIN)
    assert need_worker_role(ALICE, {}, WORKER, "w", Role.ADMIN) is WORKER
