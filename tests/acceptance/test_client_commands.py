"""`mito client`: each command as a person types it and as a script reads it."""

import hashlib
import os
import pty
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.testing.waiting import eventually

from .conftest import MITO, Done, Person, Platform, ended, in_shell, side_by_side

Shell = Callable[..., Done]


def error_of(done: Done) -> dict[str, object]:
    """The JSON form of an error, which must be the whole of standard output."""
    assert set(done.json) == {"error"}, done
    assert set(done.json["error"]) == {"code", "message", "details"}, done
    error: dict[str, object] = done.json["error"]
    return error


# --- auth -------------------------------------------------------------------------------------


def test_a_login_is_kept_in_a_private_file_and_says_who_one_is(
    platform: Platform, alice: tuple[str, str], tmp_path: Path
) -> None:
    more = {"HOME": str(tmp_path)}
    done = platform.client("auth", *alice, more=more)
    assert (done.status, done.text, done.err) == (0, f"Logged in as {alice[0]}", "")
    (path,) = tmp_path.rglob("credentials")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert alice[1] not in path.read_text()
    again = platform.client("auth", "--json", more=more)
    assert again.json == {"username": alice[0], "admin": False}


def test_a_password_by_the_environment_is_enough(
    platform: Platform, alice: tuple[str, str], tmp_path: Path
) -> None:
    more = {"HOME": str(tmp_path), "MITO_USER": alice[0], "MITO_PASSWORD": alice[1]}
    assert platform.client("--json", "auth", more=more).json["username"] == alice[0]


def test_a_wrong_password_and_an_unknown_user_cannot_be_told_apart(
    platform: Platform, alice: tuple[str, str], tmp_path: Path
) -> None:
    more = {"HOME": str(tmp_path)}
    wrong, unknown = side_by_side(
        lambda command: platform.client("auth", *command, "no password of theirs", more=more),
        [[alice[0]], ["nobody-of-that-name"]],
    )
    assert (wrong.status, unknown.status) == (4, 4)
    assert wrong.complaint == unknown.complaint
    assert (wrong.out, unknown.out) == (b"", b"")
    as_json = platform.client("auth", alice[0], "no password of hers", "--json", more=more)
    assert (as_json.status, error_of(as_json)["code"]) == (4, "unauthenticated")
    assert not list(tmp_path.rglob("credentials"))


def test_who_is_not_logged_in_is_told_how_to(platform: Platform, tmp_path: Path) -> None:
    done = platform.client("get", "tasks", more={"HOME": str(tmp_path)})
    assert (done.status, done.out) == (4, b"")
    assert "mito client auth" in done.complaint


# --- create -----------------------------------------------------------------------------------


def test_only_an_administrator_creates_users_and_each_name_once(
    platform: Platform, shell: Shell, alice: tuple[str, str], tmp_path: Path
) -> None:
    name = f"carol-{os.urandom(3).hex()}"
    more = {"MITO_USER": alice[0], "MITO_PASSWORD": alice[1], "HOME": str(tmp_path)}
    refused = platform.client("create", "user", "-u", name, "-p", "her password", more=more)
    assert (refused.status, refused.out) == (4, b"")
    assert "admin" in refused.complaint
    made = shell("create", "user", "-u", name, "-p", "her password", "--json")
    assert (made.status, made.json) == (0, {"username": name, "admin": False})
    again = shell("create", "user", "-u", name, "-p", "another password")
    assert again.status == 5
    assert name in again.complaint
    as_carol = {**more, "MITO_USER": name, "MITO_PASSWORD": "her password"}
    assert platform.client("auth", more=as_carol).text == f"Logged in as {name}"


def test_a_group_belongs_to_who_created_it_and_each_name_is_taken_once(shell: Shell) -> None:
    name = f"lab-{os.urandom(3).hex()}"
    assert shell("create", "group", name, "--json").json == {"name": name}
    again = shell("create", "group", name, "--json")
    assert (again.status, error_of(again)["code"]) == (5, "conflict.exists")
    view = shell("get", "group", name, "--json").json
    assert (view["role"], view["members"]) == ("admin", {"mitosis_admin": "admin"})
    assert shell("get", "groups", "--json").json["groups"][name] == "admin"


@pytest.mark.parametrize("noun", [["user", "-p", "a password", "-u"], ["group"]])
@pytest.mark.parametrize("name", ["with blank", "dot.ted", "", "star*", "ü"])
def test_a_name_that_cannot_be_is_refused(shell: Shell, noun: list[str], name: str) -> None:
    done = shell("create", *noun, name)
    assert (done.status, done.out) == (1, b"")
    assert repr(name) in done.complaint


# --- submit and look --------------------------------------------------------------------------


def test_every_option_of_submit_arrives(person: Person) -> None:
    done = person.shell(
        "submit", "-g", person.name, "-t", "gpu,fast", "-l", "run-1", "sweep", "-p", "-7",
        "--timeout", "1h30m", "-e", "A=1,B=x=y", "-e", "C=", "--terminal", "--key", "k-1",
        "--json", "--", "sh", "-c", "echo --json", "--", "-p", "9",
    )  # fmt: skip
    submitted = done.json
    assert submitted == {
        "task": submitted["task"], "group": person.name, "number": 1, "runnable": False,
        "ended": None,
    }  # fmt: skip
    assert person.name in done.complaint  # nobody serves it, and it says so
    task = person.shell("get", "task", submitted["task"], "--json").json
    assert task["spec"]["argv"] == ["sh", "-c", "echo --json", "--", "-p", "9"]
    assert task["spec"]["env"] == {"A": "1", "B": "x=y", "C": ""}
    assert (task["spec"]["priority"], task["spec"]["timeout_seconds"]) == (-7, 5400.0)
    assert (sorted(task["spec"]["tags"]), sorted(task["labels"])) == (
        ["fast", "gpu"], ["run-1", "sweep"],
    )  # fmt: skip
    assert (task["state"], task["outcome"], task["creator"]) == ("ready", None, person.name)
    assert task["created_at"].endswith("Z")


def test_the_same_key_is_the_same_task_and_never_another(person: Person) -> None:
    one = person.shell("submit", "-g", person.name, "--key", "once", "--", "echo", "1")
    two = person.shell("submit", "-g", person.name, "--key", "once", "--", "echo", "1")
    other = person.shell("submit", "-g", person.name, "--key", "once", "--", "echo", "2")
    assert (one.status, two.status, other.status) == (0, 0, 5)
    assert one.text == two.text
    assert person.shell("get", "tasks", "-g", person.name).text == one.text


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2),
        (["-p", "high", "--", "true"], 2),
        (["--timeout", "soon", "--", "true"], 2),
        (["--timeout", "-5s", "--", "true"], 2),
        (["-e", "NO_VALUE", "--", "true"], 2),
        (["--no-such-option", "--", "true"], 2),
        (["-p", "99999999999", "--", "true"], 1),
        (["--timeout", "0s", "--", "true"], 2),
        (["--", ""], 1),
        (["-g", "no-such-group", "--", "true"], 3),
    ],
)
def test_what_cannot_be_submitted_is_refused(
    shell: Shell, arguments: list[str], status: int
) -> None:
    done, as_json = side_by_side(
        lambda command: shell(*command, *arguments), [["submit"], ["submit", "--json"]]
    )
    assert (done.status, done.out) == (status, b"")
    assert done.complaint
    assert (as_json.status, as_json.err) == (status, "")
    assert error_of(as_json)["message"]


def test_a_task_is_found_by_each_of_its_names(person: Person) -> None:
    first, second = (
        person.client.submit_task(SubmitTaskArgs(command=("echo", text), group=person.name))
        for text in "ab"
    )
    names = [first.task, first.task[:8], first.task.upper(), f"{person.name}#1"]
    found = side_by_side(
        lambda command: person.shell(*command, "--json"), [["get", "task", name] for name in names]
    )
    assert [done.json["uuid"] for done in found] == [first.task] * len(names)
    assert person.shell("get", "task", "last", "--json").json["uuid"] == second.task
    lines = person.shell("get", "task", f"{person.name}#2").text.splitlines()
    assert f"Task UUID: {second.task}" in lines
    assert f"Created by {person.name} as #2 in group {person.name}" in lines


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("00000000-0000-8000-8000-000000000000", 3),
        ("mitosis_admin#999999", 3),
        ("no-such-group#1", 3),
        ("abc", 1),
        ("not a name", 1),
    ],
)
def test_a_task_that_is_not_there_is_said_so(shell: Shell, name: str, status: int) -> None:
    done = shell("get", "task", name)
    assert (done.status, done.out) == (status, b"")
    assert name.split("#", maxsplit=1)[0] in done.complaint
    as_json = shell("get", "task", name, "--json")
    assert (as_json.status, bool(error_of(as_json))) == (status, True)


def test_nobody_sees_the_tasks_of_a_group_without_a_role_in_it(
    platform: Platform, person: Person, alice: tuple[str, str], tmp_path: Path
) -> None:
    group = person.name
    task = person.client.submit_task(SubmitTaskArgs(command=("true",))).task
    more = {"MITO_USER": alice[0], "MITO_PASSWORD": alice[1], "HOME": str(tmp_path)}
    commands = [
        ["get", "task", task], ["get", "tasks", "-g", group],
        ["get", "artifact", task, "result"], ["manage", "task", task, "cancel"],
        ["get", "group", group], ["submit", "-g", group, "--", "true"],
    ]  # fmt: skip
    for done in side_by_side(lambda command: platform.client(*command, more=more), commands):
        assert done.status in {3, 4}, done
        assert (done.out, bool(done.complaint)) == (b"", True)
    assert person.client.get_task(task).cancel_requested is False


def test_a_list_of_tasks_can_be_filtered_in_every_way(person: Person) -> None:
    for number in range(4):
        person.client.submit_task(
            SubmitTaskArgs(
                command=("echo", str(number)),
                group=person.name,
                tags=("even",) if number % 2 == 0 else ("odd", "gpu"),
                labels=(f"n{number}", "all"),
            )
        )
    person.client.cancel_task(f"{person.name}#4")

    expected = {
        "": [1, 2, 3, 4],
        "-t even": [1, 3],
        "-t odd,gpu": [2, 4],
        "-l all -l n2": [3],
        "-s ready": [1, 2, 3],
        "-s cancelled,finished": [4],
        "--outcome cancelled": [4],
        f"-c {person.name} -t odd": [2, 4],
        "-c somebody": [],
        "--limit 2": [3, 4],
        "--limit 2 --offset 1": [2, 3],
    }
    found = side_by_side(
        lambda filters: person.shell("get", "tasks", "-g", person.name, "--json", *filters),
        [filters.split() for filters in expected],
    )
    numbers = [[task["number"] for task in done.json["tasks"]] for done in found]
    assert dict(zip(expected, numbers, strict=True)) == expected
    page = person.shell("get", "tasks", "-g", person.name, "--json", "--limit", "1").json
    assert (page["total"], page["counts"]["ready"], page["counts"]["cancelled"]) == (4, 3, 1)
    lines = person.shell("get", "tasks", "-g", person.name)
    assert [len(line) for line in lines.text.splitlines()] == [36] * 4
    assert lines.err == "4 tasks: 3 ready, 1 cancelled\n"
    assert (
        f"as #2 in group {person.name}"
        in person.shell("get", "tasks", "-g", person.name, "-v").text
    )
    assert person.shell("get", "tasks", "-s", "sleeping").status == 2


# --- artifacts --------------------------------------------------------------------------------


def test_each_artifact_is_downloaded_where_it_is_wanted(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    script = "echo res > $MITO_RESULT_DIR/r; echo exe > $MITO_EXEC_DIR/e; echo out; echo err >&2"
    (task,) = ended(admin, in_shell(script, terminal=True))
    kinds = {"result": ("r", "res"), "exec-log": ("e", "exe"), "std-log": ("stdout", "out")}
    assert {one.kind.value for one in task.artifacts} == set(kinds)
    for artifact in task.artifacts:
        kind = artifact.kind.value
        folder = tmp_path / kind
        folder.mkdir()
        done = shell("get", "artifact", task.uuid, kind, "-o", folder)
        path = folder / f"{kind}.tar.gz"
        assert (done.status, done.text) == (0, f"Downloaded {artifact.size_bytes} B to {path}")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == artifact.sha256
        with tarfile.open(path) as archive:
            names = {Path(name).name.partition(".")[0]: name for name in archive.getnames()}
            stream = archive.extractfile(names[kinds[kind][0]])
            assert stream is not None
            assert stream.read().decode().strip() == kinds[kind][1]
    exact = tmp_path / "exact.name"
    as_json = shell("get", "artifact", task.uuid, "result", "-o", exact, "--json").json
    assert (as_json["path"], as_json["size_bytes"]) == (str(exact), exact.stat().st_size)
    link = shell("get", "artifact", task.uuid, "result", "--no-download")
    assert link.text.startswith("http://")
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted([*kinds, "exact.name"])


def test_an_artifact_that_is_not_there_leaves_no_file(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    (task,) = ended(admin, SubmitTaskArgs(command=("true",)))
    done = shell("get", "artifact", task.uuid, "result", "-o", tmp_path / "r.tar.gz")
    assert (done.status, done.out) == (3, b"")
    assert task.uuid in done.complaint
    assert shell("get", "artifact", task.uuid, "core-dump").status == 2
    assert list(tmp_path.iterdir()) == []


# --- cancel -----------------------------------------------------------------------------------


def test_a_waiting_task_is_cancelled_at_once_and_only_once(person: Person) -> None:
    task = person.shell("submit", "-g", person.name, "--", "true").text
    done = person.shell("manage", "task", task, "cancel", "--reason", "no need", "--json")
    assert done.json == {"task": task, "ended": True}
    view = person.shell("get", "task", task, "--json").json
    assert (view["state"], view["outcome"]) == ("cancelled", "cancelled")
    assert "no need" in view["reason"]
    again = person.shell("manage", "task", task, "cancel")
    assert (again.status, again.out) == (5, b"")
    assert task in again.complaint


async def test_a_running_task_is_cancelled_with_all_that_it_started(
    shell: Shell, admin: SyncMitoClient, platform: Platform
) -> None:
    script = "setsid sleep 4321 & (sleep 4321) & sleep 4321"
    task = admin.submit_task(in_shell(script)).task
    await eventually(lambda: len(platform.children("sleep 4321")) >= 3)
    done = shell("manage", "task", task, "cancel")
    assert (done.status, done.text) == (0, f"Task {task} is being stopped")
    (view,) = admin.wait_for_tasks([task])
    assert (view.state, view.outcome) == ("cancelled", "cancelled")
    await eventually(lambda: not platform.children("sleep 4321"), seconds=5)


# --- streams ----------------------------------------------------------------------------------


def test_closed_streams_do_no_harm(platform: Platform, shell: Shell) -> None:
    command = [*MITO, "client", "-c", platform.notice["http"], "auth"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command],
        env=platform.home.environment, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (closed.returncode, closed.stdout) == (
        0,
        b"Logged in as mitosis_admin (administrator)\n",
    )
    silent = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        env=platform.home.environment, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in silent.stderr.decode()


def test_a_reader_that_goes_away_ends_the_command_quietly(
    platform: Platform, shell: Shell, admin: SyncMitoClient
) -> None:
    ended(admin, SubmitTaskArgs(command=("true",)))
    command = [*MITO, "client", "-c", platform.notice["http"], "get", "tasks", "-v"]
    piped = subprocess.run(
        ["sh", "-c", '{ "$@"; echo $? >&2; } | true', "sh", *command],
        env=platform.home.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert piped.stderr.splitlines()[-1] in {"0", "141"}, piped
    assert "Traceback" not in piped.stderr


def test_a_terminal_gets_a_table_and_what_to_do_next(platform: Platform, shell: Shell) -> None:
    def on_terminal(*arguments: str) -> str:
        """What a terminal of 200 columns shows."""
        master, slave = pty.openpty()
        environment = {**platform.home.environment, "TERM": "dumb", "COLUMNS": "200"}
        command = [*MITO, "client", "-c", platform.notice["http"], *arguments]
        process = subprocess.Popen(
            command, env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65_536)
            except OSError:  # the last writer has gone
                break
            if not part:
                break
            shown += part
        os.close(master)
        assert process.wait(60) == 0, shown
        return shown.decode()

    said = on_terminal("submit", "--", "true")
    task = said.splitlines()[0]
    assert f"mito client get task {task}" in said
    table = on_terminal("get", "tasks")
    for word in ("UUID", "STATE", "COMMAND", f" {task[:8]} "):
        assert word in table
    assert task in on_terminal("get", "task", task[:8])
    assert "\x1b[" not in table


def test_json_is_one_value_whatever_the_command(shell: Shell) -> None:
    commands = [["get", "tasks"], ["get", "workers"], ["get", "groups"], ["auth"]]
    for done in side_by_side(lambda command: shell(*command, "--json"), commands):
        assert isinstance(done.json, dict)
    missing = shell("get", "--json")
    assert (missing.status, error_of(missing)["code"]) == (2, "usage")
