"""Users and groups as the seed has them: `create`, `auth`, who is what in which group."""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import CreateUserArgs, GetTasksArgs, SubmitTaskArgs
from mitosis.domain.roles import Role
from mitosis.errors import AuthenticationFailed

from ..conftest import Done, Platform, side_by_side
from .people import Person, fresh, people, refused

Shell = Callable[..., Done]


@pytest.fixture(scope="module")
def pair(
    platform: Platform, admin: SyncMitoClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Person]]:
    """Two users without rights."""
    with people(platform, admin, tmp_path_factory.mktemp("people"), 2) as made:
        yield made


# --- what users and groups are for ------------------------------------------------------------


@pytest.mark.parity("S-002", "S-003")
def test_a_created_user_can_log_in_and_act_in_a_group_of_the_same_name(
    shell: Shell, platform: Platform, tmp_path: Path
) -> None:
    name, more = fresh("a"), {"HOME": str(tmp_path)}
    nobody = platform.client("submit", "--", "true", more=more)
    assert (nobody.status, nobody.out) == (4, b"")
    assert shell("create", "user", "-u", name, "-p", "b").status == 0
    assert platform.client("auth", name, "b", more=more).status == 0
    assert platform.client("get", "groups", more=more).text == f"{name} = Admin"
    submitted = platform.client("submit", "--json", "--", "true", more=more).json
    assert submitted["group"] == name


@pytest.mark.parity("S-004", "S-149", "S-150", "S-151", "V-040")
def test_any_user_may_create_groups_and_is_their_admin(pair: list[Person]) -> None:
    alice, _ = pair
    name = fresh("test_group")
    done = alice.mito("create", "group", name)
    assert (done.status, done.text, done.err) == (0, f"Created group {name}", "")
    listed, shown = side_by_side(
        lambda command: alice.mito(*command), [["get", "groups"], ["get", "group", name]]
    )
    assert f"{name} = Admin" in listed.text.splitlines()
    assert f" > {alice.name} = Admin" in shown.text.splitlines()


@pytest.mark.parity("S-005", "S-215", "V-049")
def test_a_user_joins_a_group_by_the_role_that_its_admin_gives(pair: list[Person]) -> None:
    alice, bob = pair
    name = fresh("lab")
    alice.client.create_group(name)
    assert name not in bob.client.get_groups()
    done = alice.mito("manage", "group", name, "update", f"{bob.name}:write")
    assert (done.status, done.text) == (0, f"Updated group {name}: {bob.name} = Write")
    assert f"{name} = Write" in bob.mito("get", "groups").text.splitlines()
    done = alice.mito("manage", "group", name, "remove", bob.name)
    assert (done.status, done.text) == (0, f"Removed from group {name}: {bob.name}")
    assert name not in bob.client.get_groups()


# --- auth and create --------------------------------------------------------------------------


@pytest.mark.parity("S-138", "V-040")
def test_auth_takes_name_and_password_and_refuses_wrong_ones(
    platform: Platform, pair: list[Person], tmp_path: Path
) -> None:
    alice, _ = pair
    more = {"HOME": str(tmp_path)}
    right = platform.client("auth", alice.name, alice.password, more=more)
    assert (right.status, right.text, right.err) == (0, f"Logged in as {alice.name}", "")
    wrong = platform.client("auth", alice.name, alice.password + "x", more=more)
    assert (wrong.status, wrong.out) == (4, b"")
    assert "wrong user name or password" in wrong.complaint


@pytest.mark.parity("S-141")
def test_help_of_create_lists_user_group_and_help(platform: Platform) -> None:
    done = platform.client("create", "--help")
    assert done.status == 0
    listed = {line.strip().partition(":")[0] for line in done.text.splitlines()}
    assert {"user", "group", "help"} <= listed


@pytest.mark.parity("S-142", "S-146", "S-147")
def test_only_administrators_create_users_and_a_name_is_taken_once(
    shell: Shell, pair: list[Person]
) -> None:
    alice, _ = pair
    user, group = fresh("user"), fresh("group")
    alice.client.create_group(group)
    by_alice = alice.mito("create", "user", "-u", user, "-p", "secret")
    assert (by_alice.status, by_alice.out) == (4, b"")
    assert "administrator" in by_alice.complaint
    made = shell("create", "user", "--username", user, "--password", "secret")
    assert (made.status, made.text) == (0, f"Created user {user}")
    for taken in (user, group):
        again = shell("create", "user", "-u", taken, "-p", "other")
        assert (again.status, again.out) == (5, b"")
        assert taken in again.complaint


@pytest.mark.parity("S-143", "S-144")
def test_name_and_password_of_a_new_user_are_required(shell: Shell) -> None:
    name = fresh("half")
    done = side_by_side(
        lambda command: shell("create", "user", *command), [["-u", name], ["-p", "secret"]]
    )
    for one, missing in zip(done, ("--password", "--username"), strict=True):
        assert (one.status, one.out) == (2, b"")
        assert missing in one.complaint


@pytest.mark.parity("S-145")
def test_an_admin_that_was_created_as_one_creates_users(
    shell: Shell, platform: Platform, tmp_path: Path
) -> None:
    chief, other = fresh("chief"), fresh("other")
    assert shell("create", "user", "-u", chief, "-p", "secret", "--admin").status == 0
    config = ClientConfig(
        coordinator_addr=platform.notice["http"],
        credential_path=tmp_path / "c",
        user=chief,
        password="secret",
    )
    with SyncMitoClient(config) as client:
        assert client.whoami().admin
        client.create_user(CreateUserArgs(username=other, password="secret"))


@pytest.mark.parity("S-148")
def test_the_example_of_create_user_works(shell: Shell, admin: SyncMitoClient) -> None:
    done = shell("create", "user", "-u", "test_user_name", "-p", "test_user_password")
    assert (done.status, done.text) == (0, "Created user test_user_name")
    assert shell("-u", "test_user_name", "-p", "test_user_password", "get", "groups").text == (
        "test_user_name = Admin"
    )


@pytest.mark.parity("S-152")
def test_a_group_that_exists_is_not_created_again(pair: list[Person]) -> None:
    alice, bob = pair
    name = fresh("lab")
    alice.client.create_group(name)
    for one, taken in ((alice, name), (bob, name), (bob, alice.name)):
        done = one.mito("create", "group", taken)
        assert (done.status, done.out) == (5, b"")
        assert taken in done.complaint
    assert name not in bob.client.get_groups()


@pytest.mark.parity("V-028")
def test_names_are_1_to_255_letters_digits_dashes_and_underscores(
    admin: SyncMitoClient, pair: list[Person]
) -> None:
    alice, _ = pair
    longest = secrets.token_hex(128)[:255]
    for good in (longest, f"-{secrets.token_hex(3)}", f"_A-z_9{secrets.token_hex(3)}"):
        admin.create_user(CreateUserArgs(username=good, password="secret"))
        assert good in [one.username for one in admin.get_users().users] or len(good) == 255
    for bad in ("", "a" * 256, "a b", "a.b", "a/b", "a*", ">", "\u00e4", "a\n", "a\0b"):
        refused("invalid", lambda bad=bad: alice.client.create_group(bad))
        refused(
            "invalid",
            lambda bad=bad: admin.create_user(CreateUserArgs(username=bad, password="secret")),
        )


@pytest.mark.parity("V-030")
def test_a_user_has_eight_groups_of_which_the_own_one_counts(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        names = [fresh("g") for _ in range(8)]
        for name in names[:7]:
            one.client.create_group(name)
        refused("limit_reached", lambda: one.client.create_group(names[7]))
        assert sorted(one.client.get_groups()) == sorted([one.name, *names[:7]])
        assert admin.set_group_quota(one.name, "+1").quota == 9
        one.client.create_group(names[7])


# --- get group, get groups --------------------------------------------------------------------


@pytest.mark.parity("S-188", "V-045")
def test_get_group_tells_everything_and_its_members_to_admins_only(pair: list[Person]) -> None:
    alice, bob = pair
    name = fresh("lab")
    alice.client.create_group(name)
    alice.client.change_members(name, {bob.name: Role.READ})
    for _ in range(3):
        alice.client.submit_task(SubmitTaskArgs(command=("true",), group=name))
    by_alice, by_bob = (one.mito("get", "group", name).text.splitlines() for one in (alice, bob))
    expected = [
        f"Group Name: {name}", f"Created by {alice.name}", "State: active", "Task Count: 3",
        "Storage (used/total): 0 B / 16.0 GB", "Worker Count: 0",
    ]  # fmt: skip
    for lines in (by_alice, by_bob):
        assert [line for line in lines if line in expected] == expected
        assert [line for line in lines if line.startswith("Created: ") and ", Updated: " in line]
    members = sorted([f" > {alice.name} = Admin", f" > {bob.name} = Read"])
    assert [line for line in by_alice if line.startswith(" > ")] == members
    assert [line for line in by_bob if line.startswith(" > ")] == []


@pytest.mark.parity("S-189", "V-046")
def test_get_groups_prints_each_group_with_the_role_in_it(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 2) as (one, other):
        names = {role: fresh(role.label.lower()) for role in Role}
        for role, name in names.items():
            other.client.create_group(name)
            other.client.change_members(name, {one.name: role})
        foreign = fresh("foreign")
        other.client.create_group(foreign)
        lines = one.mito("get", "groups").text.splitlines()
        assert sorted(lines) == sorted(
            [f"{one.name} = Admin", *(f"{name} = {role.label}" for role, name in names.items())]
        )


@pytest.mark.parity("F-49")
def test_groups_whose_names_begin_alike_keep_their_own_tasks(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    with people(platform, admin, tmp_path, 1) as (one,):
        stem = secrets.token_hex(3)
        groups = [f"{stem}team", f"{stem}team-a", f"{stem}team_a", f"{stem}Team"]
        submitted: dict[str, list[str]] = {}
        for group in groups:
            one.client.create_group(group)
            tasks = [SubmitTaskArgs(command=("true",), group=group)] * 10
            submitted[group] = [task.task for task in one.client.submit_many(tasks)]
        assert set(groups) < set(one.client.get_groups())
        for group in groups:
            view = one.client.get_group(group)
            assert (view.name, view.task_count) == (group, 10)
            pages = [
                one.client.get_tasks(GetTasksArgs(group=group, limit=4, offset=at)).tasks
                for at in (8, 4, 0)
            ]
            assert [task.uuid for page in pages for task in page] == submitted[group]


# --- sessions ---------------------------------------------------------------------------------


@pytest.mark.parity("D-064", "D-065")
def test_another_login_ends_no_session_with_or_without_retain(
    platform: Platform, pair: list[Person], tmp_path: Path
) -> None:
    alice, _ = pair
    for number, more in enumerate(([], ["--retain"])):
        login = ["login", alice.name, alice.password, *more]
        done = platform.client("--credential-path", tmp_path / str(number), *login)
        assert done.status == 0, done.err
    for path in (alice.credentials, tmp_path / "0", tmp_path / "1"):
        config = ClientConfig(coordinator_addr=platform.notice["http"], credential_path=path)
        with SyncMitoClient(config) as client:
            assert client.whoami().username == alice.name
    assert len(alice.client.get_sessions().sessions) >= 3


@pytest.mark.parity("D-064")
def test_a_session_that_is_revoked_is_over_and_the_others_are_not(
    platform: Platform, pair: list[Person], tmp_path: Path
) -> None:
    alice, _ = pair
    config = ClientConfig(coordinator_addr=platform.notice["http"], credential_path=tmp_path / "c")
    with contextlib.closing(SyncMitoClient(config)) as other:
        session = other.login(alice.name, alice.password).session
        assert session in [one.session for one in alice.client.get_sessions().sessions]
        assert alice.client.revoke_sessions(session).changed
        with pytest.raises(AuthenticationFailed):
            other.whoami()
    assert alice.client.whoami().username == alice.name
    assert session not in [one.session for one in alice.client.get_sessions().sessions]
