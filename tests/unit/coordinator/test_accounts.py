"""Users and groups in the coordinator: what is stored, who is let in anew, what is refused."""

import asyncio
from typing import Any

import msgspec
import pytest

from mitosis.contract import commands, wire, work
from mitosis.domain.group import GroupPhase
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.roles import Role
from mitosis.domain.task import TaskState
from mitosis.domain.user import OpenSession, UserPhase
from mitosis.domain.worker import WorkerPhase
from mitosis.services.coordinator.closing import close_deleted


@pytest.fixture
def platform(coordinator):
    """The coordinator with alice, bob, carol and the administrator root; notes changed rights."""
    for name in ("bob", "carol"):
        coordinator.add_user(name)
    coordinator.changed = []
    coordinator.core.rights_changed = lambda names: coordinator.changed.append(sorted(names))
    return coordinator


async def do(platform, owner: str, handler: Any, body: msgspec.Struct) -> Any:
    """Return the result, or the code of the error; a refusal must leave no trace."""
    before = len(platform.store.stored)
    reply = await platform.ask(owner, handler, body)
    platform.store.let_through()
    answer = platform.answer(reply, dict)
    if answer.error is not None:
        assert len(platform.store.stored) == before, "a refused command leaves no trace"
        return answer.error.code
    assert platform.replayed().users == platform.world.users
    assert platform.replayed().groups == platform.world.groups
    return answer.result


def members(platform, **roles: Role) -> commands.ChangeMembers:
    return commands.ChangeMembers("lab", roles)


@pytest.fixture
async def lab(platform):
    """A group of alice."""
    assert await do(platform, "alice", platform.groups.create, commands.CreateGroup("lab"))
    platform.changed.clear()
    return platform


# --- members ----------------------------------------------------------------------------------


async def test_members_are_changed_in_one_commit_and_their_rights_at_once(lab):
    before = len(lab.store.stored)
    body = members(lab, bob=Role.READ, carol=Role.ADMIN)
    assert await do(lab, "alice", lab.groups.change_members, body) == {"changed": True}
    assert lab.store.topics()[before:] == [["group.member_role_set", "group.member_role_set"]]
    assert lab.changed == [["bob", "carol"]]
    assert lab.world.roles_of("bob") == {"bob": Role.ADMIN, "lab": Role.READ}
    assert await do(lab, "alice", lab.groups.change_members, body) == {"changed": False}
    assert lab.changed[1:] == []


@pytest.mark.parametrize(
    ("owner", "body", "code"),
    [
        ("alice", commands.ChangeMembers("lab", {"bob": Role.READ, "nobody": Role.READ}),
         "not_found"),
        ("alice", commands.ChangeMembers("lab", removed=("bob", "nobody")), "not_found"),
        ("alice", commands.ChangeMembers("lab", removed=("alice",)), "conflict.state"),
        ("alice", commands.ChangeMembers("lab", {"alice": Role.WRITE}), "conflict.state"),
        ("alice", commands.ChangeMembers("lab"), "invalid"),
        ("alice", commands.ChangeMembers("lab", {"bob": Role.READ}, ("bob",)), "invalid"),
        ("alice", commands.ChangeMembers("lab", {"a.b": Role.READ}), "invalid"),
        ("alice", commands.ChangeMembers("lab", {f"u{n}": Role.READ for n in range(1001)}),
         "invalid.too_large"),
        ("alice", commands.ChangeMembers("lob", {"bob": Role.READ}), "not_found"),
        ("bob", commands.ChangeMembers("lab", {"bob": Role.ADMIN}), "not_allowed"),
    ],
)  # fmt: skip
async def test_all_or_nothing_of_a_change_of_members(lab, owner, body, code):
    assert await do(lab, owner, lab.groups.change_members, body) == code
    assert lab.world.groups["lab"].members == {"alice": Role.ADMIN}
    assert lab.changed == []


async def test_an_admin_may_hand_the_group_over_in_one_step(lab):
    body = commands.ChangeMembers("lab", {"bob": Role.ADMIN}, ("alice",))
    assert await do(lab, "alice", lab.groups.change_members, body) == {"changed": True}
    assert lab.world.groups["lab"].members == {"bob": Role.ADMIN}
    assert "lab" not in lab.world.roles_of("alice")


async def test_an_admin_who_cannot_log_in_does_not_count_as_the_one_who_is_left(lab):
    await do(lab, "alice", lab.groups.change_members, members(lab, bob=Role.ADMIN))
    await do(lab, "root", lab.users.set_state, commands.ChangeUserState("bob", UserPhase.LOCKED))
    leave = commands.ChangeMembers("lab", removed=("alice",))
    assert await do(lab, "alice", lab.groups.change_members, leave) == "conflict.state"


async def test_a_platform_administrator_may_give_an_orphaned_group_an_admin(lab):
    await do(lab, "root", lab.users.set_state, commands.ChangeUserState("alice", UserPhase.DELETED))
    body = commands.ChangeMembers("lab", {"bob": Role.ADMIN}, ("alice",))
    assert await do(lab, "root", lab.groups.change_members, body) == {"changed": True}
    assert lab.world.groups["lab"].members == {"bob": Role.ADMIN}


@pytest.mark.parametrize("left", [{"roles": {"bob": Role.READ}}, {"removed": ("bob",)}])
async def test_who_may_not_submit_any_more_lends_no_worker_to_the_group(lab, left):
    await do(lab, "alice", lab.groups.change_members, members(lab, bob=Role.WRITE))
    worker = await lab.register("bob", groups={"lab": Role.WRITE})
    before = len(lab.store.stored)
    await do(lab, "alice", lab.groups.change_members, commands.ChangeMembers("lab", **left))
    assert [t for commit in lab.store.topics()[before:] for t in commit][1:] == [
        "worker.roles_removed"
    ]
    assert lab.store.batches[-1] == 2, "stored together or not at all"
    assert lab.world.workers[worker].roles == {"bob": Role.ADMIN}
    pushed = len(lab.pushed())
    await lab.submit("alice", group="lab")
    assert len(lab.pushed()) == pushed, "its tasks, and what is in them, go to others"


# --- passwords and sessions -------------------------------------------------------------------


def log_in(platform, name: str, *sessions: str) -> None:
    now = platform.clock.now()
    for session in sessions:
        unit = platform.core.journal.unit(f"user:{name}")
        unit.run(f"user.{name}", OpenSession(session, now.replace(year=2030), now, "192.0.2.1"))
        unit.close()
    platform.store.let_through()


async def test_a_new_password_ends_all_sessions_but_the_one_that_set_it(platform):
    log_in(platform, "alice", "s1", "s2", "s3")
    reset = commands.ResetPassword("alice", "first")
    assert await do(platform, "root", platform.users.reset_password, reset) == {"changed": True}
    assert platform.world.users["alice"].sessions == {}
    log_in(platform, "alice", "s1", "s2")
    body = commands.ChangePassword("first", "second", "s2")
    assert await do(platform, "alice", platform.users.change_password, body) == {"changed": True}
    assert set(platform.world.users["alice"].sessions) == {"s2"}
    assert platform.world.users["alice"].password_hash == "hash of second"
    assert platform.changed == [["alice"], ["alice"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (commands.ChangePassword("wrong", "new"), "not_allowed"),
        (commands.ChangePassword("hash", ""), "invalid"),
        (commands.ChangePassword("hash", "x" * 1025), "invalid.too_large"),
    ],
)
async def test_a_password_that_may_not_be_changed_stays(platform, body, code):
    assert await do(platform, "alice", platform.users.change_password, body) == code
    assert platform.world.users["alice"].password_hash == "hash"


async def test_a_reset_during_the_check_of_the_old_password_wins(platform):
    reset = commands.ResetPassword("alice", "first")
    await do(platform, "root", platform.users.reset_password, reset)
    slow = platform.users._passwords.hash

    async def hash_after_a_reset(password: str) -> str:
        platform.users._passwords.hash = slow
        again = commands.ResetPassword("alice", "by root")
        await do(platform, "root", platform.users.reset_password, again)
        return await slow(password)

    platform.users._passwords.hash = hash_after_a_reset
    body = commands.ChangePassword("first", "by a thief")
    reply = await platform.ask("alice", platform.users.change_password, body)
    platform.store.let_through()
    assert platform.answer(reply).error.code == "conflict.state"
    assert platform.world.users["alice"].password_hash == "hash of by root"


async def test_one_session_or_all_but_one_are_revoked(platform):
    log_in(platform, "alice", "s1", "s2", "s3", "s4")
    revoke = platform.users.revoke_session
    assert await do(platform, "alice", revoke, commands.RevokeSession("s1")) == {"changed": True}
    assert set(platform.world.users["alice"].sessions) == {"s2", "s3", "s4"}
    assert await do(platform, "alice", revoke, commands.RevokeSession("s1")) == {"changed": False}
    await do(platform, "alice", revoke, commands.RevokeSession(kept_session="s3"))
    assert set(platform.world.users["alice"].sessions) == {"s3"}
    await do(platform, "root", revoke, commands.RevokeSession(username="alice"))
    assert platform.world.users["alice"].sessions == {}
    assert platform.changed == [["alice"]] * 3


# --- states, administrators, quotas -----------------------------------------------------------

ADMIN_ONLY = [
    ("users", "create_user", commands.CreateUser("dave", "password")),
    ("users", "reset_password", commands.ResetPassword("bob", "password")),
    ("users", "set_state", commands.ChangeUserState("bob", UserPhase.LOCKED)),
    ("users", "set_admin", commands.ChangeAdmin("alice", admin=True)),
    ("users", "set_group_quota", commands.ChangeGroupQuota("alice", QuotaChange(99))),
    ("users", "revoke_session", commands.RevokeSession(username="bob")),
    ("groups", "set_storage_quota", commands.ChangeStorageQuota("lab", QuotaChange(99))),
    ("groups", "set_state", commands.ChangeGroupState("lab", GroupPhase.LOCKED)),
]


@pytest.mark.parametrize(("noun", "verb", "body"), ADMIN_ONLY)
async def test_only_a_platform_administrator_may(lab, noun, verb, body):
    log_in(lab, "bob", "s1")
    handler = getattr(getattr(lab, noun), verb)
    assert await do(lab, "alice", handler, body) == "not_allowed"
    assert lab.changed == []
    assert not isinstance(await do(lab, "root", handler, body), str)


async def test_a_locked_user_may_do_nothing_until_unlocked(platform):
    log_in(platform, "alice", "s1")
    lock = commands.ChangeUserState("alice", UserPhase.LOCKED, "on leave")
    await do(platform, "root", platform.users.set_state, lock)
    assert platform.world.users["alice"].sessions == {}
    create = commands.CreateGroup("new")
    assert await do(platform, "alice", platform.groups.create, create) == "unauthenticated"
    unlock = commands.ChangeUserState("alice", UserPhase.ACTIVE)
    await do(platform, "root", platform.users.set_state, unlock)
    assert await do(platform, "alice", platform.groups.create, create) == {"changed": True}


@pytest.mark.parametrize("name", ["nobody", "a.b", ""])
async def test_a_user_that_is_not_there_cannot_be_changed(platform, name):
    body = commands.ChangeUserState(name, UserPhase.LOCKED)
    code = await do(platform, "root", platform.users.set_state, body)
    assert code == ("not_found" if name == "nobody" else "invalid")


async def test_the_last_administrator_stays_one(platform):
    users = platform.users
    for handler, body in (
        (users.set_admin, commands.ChangeAdmin("root", admin=False)),
        (users.set_state, commands.ChangeUserState("root", UserPhase.LOCKED)),
        (users.set_state, commands.ChangeUserState("root", UserPhase.DELETED)),
    ):
        assert await do(platform, "root", handler, body) == "conflict.state"
    await do(platform, "root", users.set_admin, commands.ChangeAdmin("bob", admin=True))
    await do(platform, "root", users.set_admin, commands.ChangeAdmin("root", admin=False))
    assert platform.changed == [["bob"], ["root"]]
    body = commands.ChangeAdmin("root", admin=True)
    assert await do(platform, "root", users.set_admin, body) == "not_allowed"


async def test_a_quota_of_groups_is_set_or_moved(platform):
    change = platform.users.set_group_quota
    for amount, relative, quota in ((2, True, 10), (-4, True, 6), (-99, True, 0), (1, False, 1)):
        body = commands.ChangeGroupQuota("alice", QuotaChange(amount, relative))
        assert await do(platform, "root", change, body) == {"quota": quota}
    create = commands.CreateGroup("one-more")
    assert await do(platform, "alice", platform.groups.create, create) == "limit_reached"
    for amount, relative in ((-1, False), (1_000_001, False), (1_000_000, True)):
        body = commands.ChangeGroupQuota("alice", QuotaChange(amount, relative))
        assert await do(platform, "root", change, body) == "invalid"


async def test_a_quota_of_storage_is_set_or_moved(lab):
    change = lab.groups.set_storage_quota
    for amount, relative, quota in ((5, False, 5), (10, True, 15), (-20, True, 0)):
        body = commands.ChangeStorageQuota("lab", QuotaChange(amount, relative))
        assert await do(lab, "root", change, body) == {"quota": quota}
    for amount in (-1, 2**63):
        body = commands.ChangeStorageQuota("lab", QuotaChange(amount))
        assert await do(lab, "root", change, body) == "invalid"


# --- what goes with the deleted ---------------------------------------------------------------


async def settle(platform) -> None:
    """Let background work run to its end."""
    while platform.core.background:
        platform.store.let_through()
        await asyncio.sleep(0)


async def test_a_deleted_user_leaves_no_task_and_no_worker_at_work(lab):
    await do(lab, "alice", lab.groups.change_members, members(lab, bob=Role.WRITE))
    worker = await lab.register("bob", groups={"lab": Role.WRITE}, slots=2)
    running = [await lab.submit("bob", group="lab"), await lab.submit("alice", group="lab")]
    waiting = [await lab.submit("bob", tags=("gpu",)) for _ in range(600)]
    body = commands.ChangeUserState("bob", UserPhase.DELETED)
    assert await do(lab, "root", lab.users.set_state, body) == {"changed": True}
    await settle(lab)
    assert not set(waiting) & lab.world.tasks.keys()
    assert lab.world.tasks[running[0]].cancel_requested
    assert not lab.world.tasks[running[1]].cancel_requested, "it is of somebody else"
    assert lab.world.workers[worker].phase is WorkerPhase.DRAINING
    sent = [data for subject, data in lab.sent if subject == f"mito.control.{worker}"]
    assert wire.encode(work.CancelAttempt(running[0], 1)) in sent
    assert wire.encode(work.Drain(force=False, reason="user bob was deleted")) in sent
    again = commands.CreateUser("bob", "password")
    assert await do(lab, "root", lab.users.create_user, again) == "conflict.exists"


async def test_tasks_that_wait_for_one_of_a_deleted_user_are_told(lab):
    await do(lab, "alice", lab.groups.change_members, members(lab, bob=Role.WRITE))
    watched = await lab.submit("bob", group="lab")
    by_bob, by_alice, too_late = [
        await lab.submit(owner, group="lab", watch=commands.WatchWanted(watched, state))
        for owner, state in (
            ("bob", "TaskCommitted"), ("alice", "TaskCommitted"), ("alice", "ExecSpawned"),
        )
    ]  # fmt: skip
    await do(lab, "root", lab.users.set_state, commands.ChangeUserState("bob", UserPhase.DELETED))
    await settle(lab)
    assert {watched, by_bob, too_late} & lab.world.tasks.keys() == set(), "cancelled"
    assert lab.world.tasks[by_alice].state is TaskState.READY, "what it waited for has ended"


async def test_a_new_term_goes_on_where_the_former_one_was_interrupted(platform):
    task = await platform.submit("bob")
    body = commands.ChangeUserState("bob", UserPhase.DELETED)
    await platform.ask("root", platform.users.set_state, body)
    for work_left in list(platform.core.background):
        work_left.cancel()
    platform.store.let_through()
    await asyncio.sleep(0)
    assert platform.world.tasks[task].state is TaskState.READY
    platform.core.background.clear()
    close_deleted(platform.core)
    await settle(platform)
    assert task not in platform.world.tasks


async def test_a_locked_group_takes_nothing_and_a_deleted_one_keeps_nothing(lab):
    await do(lab, "alice", lab.groups.change_members, members(lab, bob=Role.ADMIN))
    task = await lab.submit("alice", group="lab")
    own = await lab.submit("alice")
    lock = commands.ChangeGroupState("lab", GroupPhase.LOCKED, "moving house")
    assert await do(lab, "root", lab.groups.set_state, lock) == {"changed": True}
    submit = commands.SubmitTask(("true",), "key", "lab")
    assert await do(lab, "alice", lab.tasks.submit, submit) == "conflict.state"
    more = members(lab, carol=Role.READ)
    assert await do(lab, "alice", lab.groups.change_members, more) == "conflict.state"
    lab.changed.clear()
    delete = commands.ChangeGroupState("lab", GroupPhase.DELETED)
    assert await do(lab, "root", lab.groups.set_state, delete) == {"changed": True}
    await settle(lab)
    assert lab.changed == [["alice", "bob"]]
    assert task not in lab.world.tasks
    assert own in lab.world.tasks
    assert lab.world.roles_of("alice") == {"alice": Role.ADMIN}
    assert lab.world.owned_groups["alice"] == 1, "the quota is free again"
    assert await do(lab, "alice", lab.tasks.submit, submit) == "conflict.state"
    again = commands.CreateGroup("lab")
    assert await do(lab, "alice", lab.groups.create, again) == "conflict.exists"


async def test_the_own_group_lives_as_long_as_its_user(platform):
    delete = commands.ChangeGroupState("alice", GroupPhase.DELETED)
    assert await do(platform, "root", platform.groups.set_state, delete) == "conflict.state"
    gone = commands.ChangeUserState("alice", UserPhase.DELETED)
    await do(platform, "root", platform.users.set_state, gone)
    assert await do(platform, "root", platform.groups.set_state, delete) == {"changed": True}
