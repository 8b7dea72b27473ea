"""What is printed, for programs and for people: one JSON value, plain text off a terminal."""

import json
import math
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from mitosis import SyncMitoClient
from mitosis.cli.commands import CLIENT
from mitosis.cli.lines import command_of, words_of
from mitosis.cli.output.schemas import ERROR, definitions, schema_of
from mitosis.config.client import GetWorkersArgs, SubmitTaskArgs

from ..conftest import Done, Person, Platform, ended, side_by_side
from .terminals import Terminal

LARGEST = 2**53 - 1
NOWHERE = "http://127.0.0.1:9"
# Commands whose effect other tests cannot live with, or that end the session they run in. All
# print a form that another command here prints too. Or it prints a value for each line.
ELSEWHERE = {
    "shutdown": "ends the platform",
    "manage worker cancel": "ends a worker of the platform",
    "logout": "ends the session",
    "login": "is auth with what is missing asked for",
    "follow": "prints a line for each piece, whose form test_following.py checks",
    "watch": "prints a line for each change, whose form test_watching.py checks",
    "wait": "ends as the tasks have; test_waiting.py checks its form",
    "top": "is about all that happens; test_top.py checks its form",
    **{
        f"history {what}": "below, line by line"
        for what in (
            "task",
            "worker",
            "group",
            "user",
            "attachment",
            "runs",
            "readers",
        )
    },
}


def check(value: Any, schema: dict[str, Any]) -> None:
    """Fail with every place at which a value differs from its documented form."""
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(value)
    for number in numbers(value):
        assert math.isfinite(number)
        assert abs(number) <= LARGEST


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    match value:
        case bool() | str() | None:
            return
        case int() | float():
            yield value
        case dict():
            for item in value.values():
                yield from numbers(item)
        case list():
            for item in value:
                yield from numbers(item)


@pytest.mark.parity("F-50", "R-31", "D-087")
@pytest.mark.parametrize("way", ["in one session", "each by itself"])
def test_every_command_prints_one_json_value_of_its_documented_form(
    platform: Platform, shell: Callable[..., Done], tmp_path: Path, way: str
) -> None:
    """All in one process, each line prints one line.

    Commands of a session share a connection with an event loop; one by itself asks in place.
    """
    lines = script(platform, tmp_path)
    ran = [command_of(words_of(line)) for line in lines]
    printing = [command for command in CLIENT if command.result]
    assert {c.path for c in printing} - {c.path for c in ran if c} == set(ELSEWHERE)

    text = "".join(f"{line}\n" for line in lines).encode()
    if way == "in one session":
        done = shell("--json", "-i", stdin=text)
    else:
        done = one_by_one(platform, text)
    assert done.status == 0, (done.text.splitlines()[-1:], done.err)
    printed = done.out.splitlines()
    assert len(printed) == len(lines)
    for line, command, value in zip(lines, ran, printed, strict=True):
        assert command is not None
        check(json.loads(value), schema_of(command)), line


def one_by_one(platform: Platform, lines: bytes) -> Done:
    """Run each line as a command line of its own, all in one process."""
    program = """
import shlex, sys
from mitosis.cli.main import main
for line in sys.stdin:
    status = main(["client", *sys.argv[1:], *shlex.split(line)])
    if status:
        sys.exit(f"{status} of {line}")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "-c", platform.notice["http"], "--json"],
        env=platform.home.environment, cwd=platform.home.folder,
        input=lines, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr.decode())


def script(platform: Platform, folder: Path) -> list[str]:
    """A line for each command, in an order in which each one works."""
    mark = secrets.token_hex(4)
    user, group, password = f"u-{mark}", f"g-{mark}", secrets.token_hex(16)
    admin, secret = platform.notice["admin_user"], platform.admin_password
    file = folder / "file"
    file.write_bytes(b"x" * 100)
    with SyncMitoClient(platform.config()) as client:
        worker = client.get_workers(GetWorkersArgs(limit=1)).workers[0]
    tags, labels = " ".join(worker.tags), " ".join(worker.labels)
    return [
        f"auth {admin} {secret}",
        f"create user -u {user} -p {password}",
        f"create group {group}",
        f"manage group {group} update {user}:write",
        f"submit -g {group} -l 'a=1',@x -e K=V --secret-env S=1234 --terminal -- echo '=1+2' ",
        "get task last",
        "get tasks",
        f"get tasks -g {group} -v",
        f"manage task {group}#1 update-labels one two",
        f"manage task {group}#1 change -p 3",
        f"manage task {group}#1 erase-secrets",
        f"upload artifact {group}#1 result {file}",
        f"tasks artifacts upload {file} {group}#1 exec-log",
        f"get artifact {group}#1 result -o {folder}/out.tar.gz",
        f"tasks artifacts delete {group}#1 result",
        f"manage task {group}#1 cancel",
        f"rerun {group}#1 --secret-env S=5678 --yes",
        f"diff {group}#1 {group}#1",
        f"explain {group}#1",
        f"upload attachment -g {group} {file} key",
        f"get attachment {group} key -o {folder}/key",
        f"get attachment {group} key --no-download",
        f"get attachment-meta {group} key",
        f"get attachments -g {group}",
        f"groups attachments get -g {group} key",
        f"groups attachments download -g {group} key -o {folder}/key2",
        f"groups attachments query -g {group}",
        f"groups attachments delete -g {group} key",
        f"get group {group}",
        "get groups",
        f"get worker {worker.uuid}",
        "get workers --all",
        f"manage worker {worker.uuid} update-tags {tags}",
        f"manage worker {worker.uuid} update-labels {labels}",
        f"manage worker {worker.uuid} update-roles {admin}:admin",
        f"manage worker {worker.uuid} update-roles {group}:read",
        f"manage worker {worker.uuid} remove-roles {group}",
        f"manage worker {worker.uuid} update-slots {worker.slots}",
        f"manage worker {worker.uuid} pause",
        f"manage worker {worker.uuid} resume",
        f"manage group {group} remove {user}",
        "users sessions",
        f"users change-password {secret} {secret}",
        "users revoke-sessions --others",
        f"admin users create {user}-2 {password}",
        "admin users list",
        f"admin users promote {user}",
        f"admin users demote {user}",
        f"admin users group-quota {user} +1",
        f"admin users change-password {user} {password}x",
        f"admin users sessions {user}",
        f"admin users revoke-sessions {user}",
        f"admin users lock {user}",
        f"admin users unlock {user}",
        f"admin users delete {user}",
        f"admin groups storage-quota {group} =20GiB",
        f"admin groups lock {group}",
        f"admin groups unlock {group}",
        f"admin groups delete {group}",
    ]


def test_each_line_of_a_history_has_its_documented_form(
    platform: Platform, admin: SyncMitoClient, shell: Callable[..., Done], tmp_path: Path
) -> None:
    name, file = platform.notice["admin_user"], tmp_path / "file"
    file.write_bytes(b"x")
    key = f"key-{secrets.token_hex(4)}"
    admin.upload_attachment(file, key)
    (task,) = ended(admin, SubmitTaskArgs(command=("true",)))
    asked = {
        "task": (task.uuid,), "worker": (task.worker,), "group": (name,), "user": (name,),
        "attachment": (key,), "runs": (task.worker,), "readers": (task.uuid,),
    }  # fmt: skip
    done = side_by_side(
        lambda command: shell("history", *command, "--json"),
        [(what, *names) for what, names in asked.items()],
    )
    for what, one in zip(asked, done, strict=True):
        assert one.status == 0, one
        form = schema_of(next(c for c in CLIENT if c.path == f"history {what}"))
        lines = one.out.splitlines()
        assert lines, what
        for line in lines:
            check(json.loads(line), form)


@pytest.mark.parity("F-50")
def test_a_list_stays_a_list_and_an_error_is_one_value_too(person: Person) -> None:
    tasks = next(command for command in CLIENT if command.path == "get tasks")
    task = next(command for command in CLIENT if command.path == "get task")
    for count in range(3):
        page = person.shell("get", "tasks", "--json")
        assert len(page.json["tasks"]) == page.json["total"] == count
        check(page.json, schema_of(tasks))
        submitted = person.client.submit_task(SubmitTaskArgs(command=("x",)))
    one = person.shell("--json", "get", "task", submitted.task)
    check(one.json, schema_of(task))
    for arguments, status, code in (
        (("get", "task", "00000000-0000-8000-8000-000000000000"), 3, "not_found"),
        (("get", "tsk", "x"), 2, "usage"),
        (("-c", NOWHERE, "--timeout", "1s", "get", "tasks"), 6, "unavailable.coordinator"),
    ):
        failed = direct(*arguments) if arguments[0] == "-c" else person.shell("--json", *arguments)
        assert failed.status == status
        check(failed.json, {**ERROR, "$defs": definitions()})
        assert failed.json["error"]["code"] == code
        assert failed.err == ""


def direct(*arguments: str) -> Done:
    """Run `mito client --json` with an address of its own."""
    command = [sys.executable, "-m", "mitosis", "client", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    return Done(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.parity("R-31")
def test_what_readers_of_json_do_to_a_result_changes_nothing(
    person: Person, shell: Callable[..., Done]
) -> None:
    texts = ("=1+2", "a,b", 'quote"', "\u2028", "two\nlines", "100%", "back\\slash", "日本")
    submitted = person.client.submit_task(SubmitTaskArgs(command=("echo", *texts)))
    done = person.shell("get", "task", submitted.task, "--json")
    assert tuple(done.json["spec"]["argv"][1:]) == texts
    if jq := shutil.which("jq"):
        read = subprocess.run([jq, "-c", "."], input=done.out, capture_output=True, check=True)
        assert json.loads(read.stdout) == done.json
    group = f"big-{secrets.token_hex(4)}"
    assert shell("create", "group", group).status == 0
    largest = shell("admin", "groups", "storage-quota", group, f"={LARGEST}", "--json")
    assert largest.json["quota_bytes"] == LARGEST
    assert shell("admin", "groups", "storage-quota", group, f"={LARGEST + 1}").status in {1, 2}
    warned = person.shell("submit", "-t", "nobody-has-it", "--json", "--", "x")
    assert warned.status == 0
    assert set(warned.json) >= {"task", "runnable"}


PLACES = [
    {"NO_COLOR": "1"},
    {"TERM": "dumb"},
    {"TERM": "xterm-256color", "COLUMNS": "20"},
    {"FORCE_COLOR": "1", "COLUMNS": "20"},
]


@pytest.mark.parity("F-52")
def test_off_a_terminal_lines_are_whole_and_plain(person: Person) -> None:
    argv = ("echo", *("long" * 30 for _ in range(5)))
    submitted = person.client.submit_task(SubmitTaskArgs(command=argv))
    for more in PLACES:
        listed = person.shell("get", "tasks", more=more)
        assert listed.out == f"{submitted.task}\n".encode()
    shown = person.shell("get", "task", submitted.task, more=PLACES[2])
    assert shown.out.endswith(b"\n")
    assert b"\x1b" not in shown.out + shown.err.encode()
    assert f"Task Spec: {' '.join(argv)}\n" in shown.out.decode()
    help_text = person.shell("submit", "--help", more=PLACES[2])
    assert b"\x1b" not in help_text.out
    assert max(map(len, help_text.text.splitlines())) > 80


@pytest.mark.parity("F-52")
def test_without_a_terminal_nobody_is_asked_and_closed_streams_do_no_harm(
    platform: Platform, person: Person, tmp_path: Path
) -> None:
    mito = [sys.executable, "-m", "mitosis", "client", "-c", platform.notice["http"]]
    cron = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    asked = subprocess.run(
        [*mito, "--credential-path", str(tmp_path / "none"), "get", "tasks"],
        env=cron, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    assert (asked.returncode, asked.stdout) == (4, b"")
    assert asked.stderr.startswith(b"mito: ")
    assert b"assword of" not in asked.stderr
    known = [*mito, "--credential-path", str(tmp_path / "credentials"), "get", "groups"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *known], env=cron, capture_output=True, check=False
    )
    assert (closed.returncode, closed.stdout) == (0, f"{person.name} = Admin\n".encode())


@pytest.mark.parity("F-52")
def test_colour_is_for_terminals_that_want_it(
    platform: Platform, person: Person, tmp_path: Path
) -> None:
    person.client.submit_task(SubmitTaskArgs(command=("x",)))
    options = ["-c", platform.notice["http"], "--credential-path", tmp_path / "credentials"]

    def shown(**more: str) -> str:
        terminal = Terminal(*options, "get", "tasks", home=tmp_path, **more)
        assert terminal.ends() == 0
        terminal.close()
        return "".join(terminal._shown)

    assert "\x1b[" in shown()
    assert "\x1b[3" not in shown(NO_COLOR="1")
    assert "\x1b" not in shown(term="dumb")


@pytest.mark.parity("D-086", "D-087")
def test_errors_have_a_status_of_their_own_and_go_to_standard_error(
    person: Person, platform: Platform
) -> None:
    submitted = person.client.submit_task(SubmitTaskArgs(command=("x",)))
    person.client.cancel_task(submitted.task)
    expected = {
        ("get", "task", "nonsense#1"): 3,
        ("manage", "task", submitted.task, "cancel"): 5,
        ("create", "user", "-u", "x", "-p", "y" * 20): 4,
        ("get", "tasks", "--limit", "many"): 2,
        ("upload", "attachment", "/nowhere"): 1,
    }
    for arguments, status in expected.items():
        done = person.shell(*arguments)
        assert (done.status, done.out) == (status, b""), done
        assert done.complaint


@pytest.mark.parity("D-104")
def test_a_history_that_cannot_be_kept_ends_nothing(
    platform: Platform, person: Person, tmp_path: Path
) -> None:
    (tmp_path / ".cache").write_text("no folder")
    terminal = Terminal(
        "-c", platform.notice["http"], "--credential-path", tmp_path / "credentials", "-i",
        home=tmp_path,
    )  # fmt: skip
    try:
        terminal.ready()
        assert f"{person.name} = Admin" in terminal.run("get groups")
        assert f"{person.name} = Admin" in terminal.run("get groups")
        assert terminal.said.count("the history") == 1
    finally:
        terminal.close()


@pytest.mark.parity("S-178")
def test_help_of_get_lists_what_can_be_got(platform: Platform) -> None:
    done = platform.home.run("client", "get", "--help")
    listed = set(re.findall(r"^  ([a-z-]+):", done.text, re.MULTILINE))
    assert listed >= {
        "task", "tasks", "attachment-meta", "attachments", "worker", "workers", "group", "groups",
        "artifact", "attachment", "help",
    }  # fmt: skip
