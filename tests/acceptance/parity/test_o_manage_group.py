"""`manage group` and the administration of users and groups, on a running platform."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import GetUsersArgs, SubmitTaskArgs
from mitosis.domain.group import GroupPhase
from mitosis.domain.roles import Role
from mitosis.domain.task import TaskState
from mitosis.domain.user import UserPhase
from mitosis.errors import AuthenticationFailed

from ..conftest import Done, Platform, in_shell
from .machines import machine, soon
from .people import Person, fresh, people, refused

Shell = Callable[..., Done]
ONE_SECOND = 1.0


@pytest.fixture(scope="module")
def trio(
    platform: Platform, admin: SyncMitoClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Person]]:
    """Three users without rights; the first one has a group for each test."""
    with people(platform, admin, tmp_path_factory.mktemp("people"), 3) as made:
        admin.set_group_quota(made[0].name, "100")
        yield made


@pytest.fixture
def lab(trio: list[Person]) -> str:
    """A group of the first one."""
    name = fresh("lab")
    trio[0].client.create_group(name)
    return name


def log_in(platform: Platform, name: str, password: str, path: Path) -> SyncMitoClient:
    """A client of another session of a user."""
    client = SyncMitoClient(
        ClientConfig(coordinator_addr=platform.notice["http"], credential_path=path)
    )
    client.login(name, password)
    return client


def shut_out(client: SyncMitoClient) -> bool:
    """Whether the session of a client is over."""
    try:
        client.whoami()
    except AuthenticationFailed:
        return True
    return False


# --- manage group -----------------------------------------------------------------------------


@pytest.mark.parity("S-202")
def test_help_of_manage_lists_worker_task_group_and_help(platform: Platform) -> None:
    done = platform.client("manage", "--help")
    assert done.status == 0
    listed = {line.strip().partition(":")[0] for line in done.text.splitlines()}
    assert {"worker", "task", "group", "help"} <= listed


@pytest.mark.parity("S-216")
def test_role_names_are_taken_in_each_case_and_shown_in_title_case(
    platform: Platform, trio: list[Person], lab: str
) -> None:
    alice, bob, carol = trio
    others = (bob.name, carol.name, platform.notice["admin_user"])
    for role in Role:
        spelled = (role.name.lower(), role.name.title(), role.name.upper())
        items = [f"{name}:{word}" for name, word in zip(others, spelled, strict=True)]
        done = alice.mito("manage", "group", lab, "update", *items)
        assert done.status == 0, done.err
        expected = dict.fromkeys(others, role) | {alice.name: Role.ADMIN}
        assert alice.client.get_group(lab).members == expected
        for name in others:
            assert f"{name} = {role.label}" in done.text
    for wrong in ("owner", "rEAD"):
        done = alice.mito("manage", "group", lab, "update", f"{bob.name}:{wrong}")
        assert (done.status, done.out) == (2, b""), wrong


@pytest.mark.parity("S-215", "S-220", "D-072")
def test_a_change_of_members_is_done_whole_or_not_and_never_without_an_admin(
    trio: list[Person], lab: str
) -> None:
    alice, bob, carol = trio
    nobody = fresh("nobody")
    partly = alice.mito("manage", "group", lab, "update", f"{bob.name}:write", f"{nobody}:read")
    assert (partly.status, partly.out) == (3, b"")
    assert nobody in partly.complaint
    assert lab not in bob.client.get_groups()
    for last in (["remove", alice.name], ["update", f"{alice.name}:write"]):
        done = alice.mito("manage", "group", lab, *last)
        assert (done.status, done.out) == (5, b"")
        assert "Admin" in done.complaint
    both = alice.mito(
        "manage", "group", lab, "update", f"{bob.name}:admin", f"{carol.name}:write", "--json"
    )
    assert both.json == {"group": lab, "roles": {bob.name: "admin", carol.name: "write"}}
    refused("not_allowed", lambda: carol.client.change_members(lab, {carol.name: Role.ADMIN}))
    assert bob.client.change_members(lab, removed=[alice.name]).changed, "any Admin may"
    assert bob.client.get_group(lab).members == {bob.name: Role.ADMIN, carol.name: Role.WRITE}


@pytest.mark.parity("S-215")
def test_the_grammar_of_version_0_6_changes_members_too(trio: list[Person], lab: str) -> None:
    alice, bob, _ = trio
    assert alice.mito("groups", "update-user", lab, f"{bob.name}:read").status == 0
    assert bob.client.get_groups()[lab] is Role.READ
    assert alice.mito("groups", "remove-user", lab, bob.name).status == 0
    assert lab not in bob.client.get_groups()


@pytest.mark.parity("D-054", "D-057", "D-058")
def test_submitting_needs_write_and_looking_needs_read(trio: list[Person], lab: str) -> None:
    alice, bob, carol = trio
    task = alice.client.submit_task(SubmitTaskArgs(command=("true",), group=lab)).task
    alice.client.change_members(lab, {bob.name: Role.READ})
    assert bob.client.get_task(task).uuid == task
    refused("not_found", lambda: carol.client.get_task(task))
    for one in (bob, carol):
        refused(
            "not_allowed",
            lambda one=one: one.client.submit_task(SubmitTaskArgs(command=("true",), group=lab)),
        )
    refused("not_allowed", lambda: bob.client.cancel_task(task))
    refused("not_found", lambda: carol.client.cancel_task(task))  # not even that there is one
    alice.client.change_members(lab, {bob.name: Role.WRITE})
    assert bob.client.submit_task(SubmitTaskArgs(command=("true",), group=lab)).number == 2
    assert bob.client.cancel_task(task).ended


# --- passwords and states ---------------------------------------------------------------------


def test_a_changed_password_ends_the_other_sessions_within_a_second_and_keeps_this_one(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        other = log_in(platform, one.name, one.password, tmp_path / "other")
        with contextlib.closing(other):
            assert other.whoami().username == one.name
            wrong = one.mito("users", "change-password", "wrong", "new password")
            assert (wrong.status, wrong.out) == (4, b"")
            assert "old password" in wrong.complaint
            done = one.mito("users", "change-password", one.password, "-new password")
            assert done.status == 0, done.err
            soon(lambda: shut_out(other), ONE_SECOND)
        assert one.client.whoami().username == one.name
        again = platform.client("auth", one.name, one.password)
        assert (again.status, again.out) == (4, b"")
        log_in(platform, one.name, "-new password", tmp_path / "new").close()


def test_a_password_that_an_administrator_sets_ends_all_sessions(
    platform: Platform, admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        done = shell("admin", "users", "change-password", one.name, "reset")
        assert done.status == 0, done.err
        soon(lambda: shut_out(one.client), ONE_SECOND)
        log_in(platform, one.name, "reset", tmp_path / "new").close()


def test_a_locked_user_is_out_within_a_second_and_in_again_when_unlocked(
    platform: Platform, admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        assert one.client.whoami().username == one.name
        done = shell("admin", "users", "lock", one.name, "--reason", "on leave")
        assert (done.status, done.text) == (0, f"Locked user {one.name}")
        soon(lambda: shut_out(one.client), ONE_SECOND)
        refused("unauthenticated", lambda: one.client.login(one.name, one.password))
        (view,) = admin.get_users(GetUsersArgs(prefix=one.name)).users
        assert (view.state, view.reason, view.sessions) == (UserPhase.LOCKED, "on leave", 0)
        assert shell("admin", "users", "unlock", one.name).status == 0
        assert one.client.login(one.name, one.password).username == one.name


@pytest.mark.parity("D-073")
def test_a_deleted_user_leaves_no_session_task_or_worker_at_work(
    platform: Platform, admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,), machine(tmp_path / "box") as box:
        box.run_worker("-c", platform.notice["http"], "--credential-path", one.credentials)
        box.registered()
        running = one.client.submit_task(in_shell("exec sleep 600")).task
        soon(lambda: one.client.get_task(running).state is TaskState.RUNNING)
        waiting = one.client.submit_task(SubmitTaskArgs(command=("true",))).task
        assert shell("admin", "users", "delete", one.name).text == f"Deleted user {one.name}"
        soon(lambda: shut_out(one.client), ONE_SECOND)
        for task in (running, waiting):
            soon(lambda task=task: admin.get_task(task).state is TaskState.CANCELLED)
        assert "deleted" in admin.get_task(waiting).reason
        assert box.process.wait() == 0, "its worker has left"
        refused("unauthenticated", lambda: one.client.login(one.name, one.password))
        again = shell("create", "user", "-u", one.name, "-p", "again")
        assert again.status == 5, "the name stays taken"


@pytest.mark.parity("D-074")
def test_administrators_list_users_and_nobody_else_does(
    platform: Platform, admin: SyncMitoClient, shell: Shell, trio: list[Person]
) -> None:
    names = sorted(one.name for one in trio)
    listed = shell("admin", "users", "list", "user-", "--limit", "1000")
    assert set(names) <= set(listed.text.splitlines())
    as_json = shell("admin", "users", "list", names[0], "--json").json
    assert as_json["total"] == 1
    (view,) = as_json["users"]
    assert (view["username"], view["admin"], view["state"]) == (names[0], False, "active")
    by_alice = trio[0].mito("admin", "users", "list")
    assert (by_alice.status, by_alice.out) == (4, b"")


def test_an_administrator_is_made_and_unmade(
    platform: Platform, admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        refused("not_allowed", one.client.get_users)
        assert shell("admin", "users", "promote", one.name).status == 0
        assert one.client.get_users().total > 1
        assert shell("admin", "users", "demote", one.name).status == 0
        refused("not_allowed", one.client.get_users)


# --- quotas and states of groups --------------------------------------------------------------


def test_quotas_are_set_and_moved_in_four_forms(
    admin: SyncMitoClient, shell: Shell, trio: list[Person], lab: str
) -> None:
    alice, bob, _ = trio
    for text, value in (("10", 10), ("+2", 12), ("=8", 8), ("-99", 0)):
        assert admin.set_group_quota(bob.name, text).quota == value
    done = shell("admin", "users", "group-quota", bob.name, "+8", "--json")
    assert done.json == {"username": bob.name, "quota": 8}
    done = shell("admin", "users", "group-quota", bob.name, "-1", "--json")
    assert done.json == {"username": bob.name, "quota": 7}
    sizes = [("=20GiB", 20 * 1024**3), ("+5GB", 20 * 1024**3 + 5 * 1000**3), ("-1TB", 0)]
    for text, value in sizes:
        assert admin.set_storage_quota(lab, text).quota == value
        assert alice.client.get_group(lab).storage_quota_bytes == value
    done = shell("admin", "groups", "storage-quota", lab, "1.5MB", "--json")
    assert done.json == {"group": lab, "quota_bytes": 1_500_000}
    for wrong in (["users", "group-quota", bob.name, "many"],
                  ["groups", "storage-quota", lab, "9999999TB"]):  # fmt: skip
        done = shell("admin", *wrong)
        assert (done.status, done.out) == (1, b"")
        assert wrong[-1] in done.complaint
    refused("not_allowed", lambda: alice.client.set_storage_quota(lab, "+1GB"))


@pytest.mark.parity("D-071", "D-074")
def test_a_locked_group_takes_nothing_and_a_deleted_one_is_gone(
    admin: SyncMitoClient, shell: Shell, trio: list[Person], lab: str
) -> None:
    alice, bob, _ = trio
    alice.client.change_members(lab, {bob.name: Role.READ})
    task = alice.client.submit_task(SubmitTaskArgs(command=("true",), group=lab)).task
    done = shell("admin", "groups", "lock", lab, "--reason", "moving")
    assert (done.status, done.text) == (0, f"Locked group {lab}")
    submit = SubmitTaskArgs(command=("true",), group=lab)
    refused("conflict.state", lambda: alice.client.submit_task(submit))
    assert alice.client.get_task(task).state is TaskState.READY
    assert (alice.client.get_group(lab).state, alice.client.get_group(lab).reason) == (
        "locked", "moving",
    )  # fmt: skip
    assert shell("admin", "groups", "unlock", lab).status == 0
    assert alice.client.submit_task(submit).number == 2
    assert shell("admin", "groups", "delete", lab).text == f"Deleted group {lab}"
    soon(lambda: admin.get_task(task).state is TaskState.CANCELLED)
    for one in (alice, bob):
        assert lab not in one.client.get_groups()
    refused("conflict.state", lambda: alice.client.submit_task(submit))
    refused("not_allowed", lambda: alice.client.get_group(lab))
    refused("conflict.state", lambda: admin.set_group_state(lab, GroupPhase.ACTIVE))


# --- roles on workers -------------------------------------------------------------------------


@pytest.mark.parity("S-217", "S-218", "S-221", "D-055", "D-061")
def test_a_group_may_do_with_a_worker_what_its_role_on_it_says(
    platform: Platform, admin: SyncMitoClient, trio: list[Person], tmp_path: Path
) -> None:
    alice, bob, carol = trio
    roles = {name: fresh(name) for name in ("default", "read", "foreign")}
    for name in ("default", "read"):
        alice.client.create_group(roles[name])
        alice.client.change_members(roles[name], {bob.name: Role.WRITE})
    carol.client.create_group(roles["foreign"])
    serve = ["-c", platform.notice["http"], "--credential-path", alice.credentials]
    with machine(tmp_path / "thief") as thief:
        stolen = thief.run_worker(*serve, "--groups", roles["foreign"])
        assert stolen.wait() != 0, "nobody lets a worker serve a group without Write in it"
        assert roles["foreign"] in stolen.err
    with machine(tmp_path / "box") as box:
        box.run_worker(*serve, "--groups", f"{roles['default']},{roles['read']}:read")
        uuid = box.registered()
        view = bob.client.get_worker(uuid)
        assert view.roles[roles["default"]] is Role.WRITE
        waits, runs = (
            bob.client.submit_task(SubmitTaskArgs(command=("true",), group=roles[name]))
            for name in ("read", "default")
        )
        (done,) = bob.client.wait_for_tasks([runs])
        assert done.worker == uuid
        assert bob.client.get_task(waits.task).state is TaskState.READY, "sent before the other"
        alice.client.change_members(roles["default"], removed=[bob.name])
        assert bob.client.get_worker(uuid).roles == {roles["read"]: Role.READ}, "Read shows it"
        refused("not_allowed", lambda: bob.client.cancel_worker(uuid))
        refused("not_found", lambda: carol.client.get_worker(uuid))
        alice.client.cancel_worker(uuid, force=True)
        assert box.process.wait() == 0


def test_who_loses_write_in_a_group_lends_it_no_worker_any_more(
    platform: Platform, trio: list[Person], lab: str, tmp_path: Path
) -> None:
    alice, bob, _ = trio
    alice.client.change_members(lab, {bob.name: Role.WRITE})
    with machine(tmp_path / "box") as box:
        box.run_worker(
            "-c", platform.notice["http"], "--credential-path", bob.credentials, "--groups", lab
        )
        uuid = box.registered()
        first = alice.client.submit_task(SubmitTaskArgs(command=("true",), group=lab))
        assert alice.client.wait_for_tasks([first])[0].worker == uuid
        alice.client.change_members(lab, removed=[bob.name])
        second = alice.client.submit_task(SubmitTaskArgs(command=("true",), group=lab))
        assert not second.runnable
        own = bob.client.submit_task(SubmitTaskArgs(command=("true",)))
        assert bob.client.wait_for_tasks([own])[0].worker == uuid, "it serves its owner"
        assert alice.client.get_task(second.task).state is TaskState.READY
        bob.client.cancel_worker(uuid, force=True)
        assert box.process.wait() == 0
