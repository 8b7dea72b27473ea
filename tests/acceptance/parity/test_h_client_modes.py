"""How `mito client` is started, its interactive mode, and its help."""

import asyncio
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pexpect
import pytest

from mitosis._version import __version__
from mitosis.cli.commands import CLIENT
from mitosis.testing.waiting import eventually

from ..conftest import Done, Person, Platform
from .terminals import Terminal, echoes

NINE = ("auth", "create", "get", "submit", "upload", "manage", "shutdown", "quit", "help")
GROUPS = ("create", "get", "submit", "upload", "manage")
# Nothing listens there.
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def terminal(platform: Platform, person: Person, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start `mito client` of the person in a terminal."""
    started: list[Terminal] = []

    def start(*arguments: str, credentials: str = "credentials", **more: str) -> Terminal:
        started.append(
            Terminal(
                "-c", platform.notice["http"], "--credential-path", tmp_path / credentials,
                *arguments, home=tmp_path, **more,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for one in started:
        one.close()


def script(person: Person, *lines: str) -> Done:
    """Run lines in the interactive mode, from standard input."""
    return person.shell("-i", stdin="".join(f"{line}\n" for line in lines).encode())


@pytest.mark.parity("S-116")
def test_a_client_needs_no_configuration_file(person: Person, platform: Platform) -> None:
    home = platform.home.folder
    assert list(home.rglob("config.toml")) == []
    assert person.shell("get", "groups").text == f"{person.name} = Admin"


@pytest.mark.parity("S-117")
def test_the_settings_are_read_from_the_file_of_config(
    person: Person, platform: Platform, tmp_path: Path
) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(
        f"[client]\ncoordinator_addr = {json.dumps(platform.notice['http'])}\n"
        'credential_path = "credentials"\n'
    )
    done = platform.home.run("client", "--config", config, "get", "groups")
    assert (done.status, done.text) == (0, f"{person.name} = Admin")


@pytest.mark.parity("S-118")
def test_the_address_of_the_coordinator_is_the_one_given(
    person: Person, platform: Platform, tmp_path: Path
) -> None:
    options = ["--credential-path", tmp_path / "credentials"]
    there = platform.home.run("client", "-c", platform.notice["http"], *options, "get", "groups")
    options += ["--timeout", "1s"]
    nowhere = platform.home.run("client", "--coordinator", NOWHERE, *options, "get", "groups")
    assert (there.status, nowhere.status) == (0, 6)
    assert NOWHERE in nowhere.complaint


@pytest.mark.parity("S-122", "S-128")
def test_the_interactive_mode_shows_its_prompt(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("-i")
    shown.child.expect_exact("[mito::client]> ")
    shown.send("get groups\r")
    shown.child.expect(r"person-\w+ = Admin")
    shown.ready()


@pytest.mark.parity("S-123", "S-137")
def test_help_and_version_of_the_client_list_its_nine_commands(platform: Platform) -> None:
    long, short = platform.home.run_all([("client", "--help"), ("client", "-h")])
    assert (long.status, long) == (0, short)
    lines = long.text.splitlines()
    assert lines[0] == "Usage: mito client [OPTIONS] [COMMAND]"
    begin = lines.index("Commands:") + 1
    listed = [line.strip().partition(":")[0] for line in lines[begin : begin + len(NINE)]]
    assert tuple(listed) == NINE
    for version in platform.home.run_all([("client", "-V"), ("client", "--version")]):
        assert (version.status, version.text) == (0, f"mito {__version__}")


@pytest.mark.parity("S-129")
def test_ctrl_d_leaves_with_status_0(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("-i").ready()
    shown.send("\x04")
    assert shown.ends() == 0


@pytest.mark.parity("S-130", "S-131", "S-140", "D-101")
@pytest.mark.parametrize("word", ["exit", "quit"])
def test_exit_and_quit_leave_with_status_0(terminal: Callable[..., Terminal], word: str) -> None:
    shown = terminal("-i").ready()
    shown.send(f"{word}\r")
    assert shown.ends() == 0


@pytest.mark.parity("S-132")
def test_ctrl_c_clears_the_line_and_does_not_leave(terminal: Callable[..., Terminal]) -> None:
    shown = terminal("-i").ready()
    shown.send("create group never")
    shown.child.expect("never")
    shown.send("\x03")
    shown.ready()
    shown.send("get groups\r")  # alone on its line: the first one is gone
    shown.child.expect(r"person-\w+ = Admin")
    assert "never" not in shown.child.after
    assert "is no command" not in shown.said


@pytest.mark.parity("S-133")
def test_a_direct_command_runs_and_ends(platform: Platform, shell: Callable[..., Done]) -> None:
    done = shell("create", "user", "-u", f"direct-{os.getpid()}", "-p", "new_password")
    assert (done.status, done.text) == (0, f"Created user direct-{os.getpid()}")
    assert b"mito::client" not in done.out


@pytest.mark.parity("S-134")
def test_a_line_means_the_same_in_both_modes(person: Person) -> None:
    lines = [
        "submit --key once -l a,b -e K=V -- echo 'two words' \"it's\"",
        f"get group {person.name}",
        "get task last",
        "tasks query -l a",
    ]
    direct = [person.shell(*shlex.split(line)) for line in lines]
    assert [done.status for done in direct] == [0] * len(lines), direct
    inside = script(person, *lines)
    assert inside.status == 0, inside.err
    assert inside.out == b"".join(done.out for done in direct)
    assert person.client.get_task("last").spec.argv == ("echo", "two words", "it's")


@pytest.mark.parity("S-135")
def test_help_inside_prints_the_usage_of_each_command(person: Person) -> None:
    done = script(person, "help", *(f"help {name}" for name in GROUPS))
    usages = [line for line in done.text.splitlines() if line.startswith("Usage: ")]
    assert done.status == 0, done.err
    assert len(usages) == 1 + len(GROUPS)
    assert usages[0] == "Usage: mito client [OPTIONS] [COMMAND]"
    for name, usage in zip(GROUPS, usages[1:], strict=True):
        assert usage.startswith(f"Usage: mito client {name} ")


@pytest.mark.parity("S-136")
def test_each_level_of_commands_has_help(person: Person) -> None:
    paths = sorted({
        " ".join(command.path.split()[:depth])
        for command in CLIENT
        for depth in range(1, len(command.path.split()) + 1)
    })  # fmt: skip
    assert {"create", "create user", "get", "get task", "manage task", "submit"} <= set(paths)
    done = script(person, *(f"{path} --help" for path in paths))
    assert done.status == 0, done.err
    text = done.text
    assert text.count("Usage: mito client ") == len(paths)
    assert text.count("Example: mito client ") == len(paths)


def test_tables_show_how_long_ago_something_was_and_the_exact_time_on_request(
    terminal: Callable[..., Terminal], person: Person, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 12_345)
    shown = terminal("-i").ready()
    shown.run("upload attachment file")
    lists = {
        "get attachments": r"file +12\.3 kB +\d+s ago +\d+s ago",
        "users sessions": r"\d+s ago +in \d+[dhm] ",
    }
    for line, form in lists.items():
        said, exact = shown.run(line), shown.run(f"{line} -v")
        assert re.search(form, said), said
        assert not re.search(r"\d{4}-\d\d-\d\dT", said), said
        assert len(re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", exact)) % 2 == 0, exact
        assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", exact), exact
        assert "ago" not in exact, exact


@pytest.mark.parity("V-032", "R-29")
def test_the_history_keeps_lines_of_earlier_sessions_but_no_password(
    terminal: Callable[..., Terminal], person: Person, tmp_path: Path
) -> None:
    path = tmp_path / ".cache" / "mitosis" / "client-history"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"get task abcdef{n}\n" for n in range(1_200)))
    shown = terminal("-i").ready()
    shown.run("get groups")
    for secret in (
        "creat user -u a -p S3cret", "auth a S3cret", "create user -u a -p S3cret",
        "-p S3cret get groups", "login a S3cret", "S3cret", "get tasks --pasword S3cret",
        "admin users create a S3cret",
    ):  # fmt: skip
        shown.run(secret)
    shown.send(f"auth '{person.name}' \"S3cret\r\x03")
    shown.ready()
    shown.send("exit\r")
    assert shown.ends() == 0
    lines = path.read_text().splitlines()
    assert (len(lines), lines[-1]) == (1_000, "get groups")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p for p in path.parent.rglob("*") if p.is_file() and b"S3cret" in p.read_bytes()] == []
    again = terminal("-i").ready()
    again.send("\x1b[A")
    again.child.expect("get groups")


@pytest.mark.parity("V-033")
def test_quoting_is_that_of_a_shell_and_an_odd_quote_ends_nothing(
    terminal: Callable[..., Terminal], person: Person
) -> None:
    shown = terminal("-i").ready()
    shown.send("submit -- echo 'odd\r")
    shown.child.expect_exact("> ")
    shown.send("\x03")
    shown.ready()
    shown.run(r"""submit -- echo 'a  "b"' c\ d "e'f" ''""")
    assert person.client.get_task("last").spec.argv == ("echo", 'a  "b"', "c d", "e'f", "")
    assert person.client.get_tasks().total == 1


@pytest.mark.parity("R-29")
def test_of_pasted_lines_each_is_a_command_and_a_failing_one_ends_the_rest(
    terminal: Callable[..., Terminal], person: Person
) -> None:
    def ran(count: int) -> list[tuple[str, ...]]:
        client = person.client
        asyncio.run(eventually(lambda: client.get_tasks().total >= count, seconds=30))
        return [task.spec.argv for task in client.get_tasks().tasks]

    shown = terminal("-i").ready()
    paste, end = "\x1b[200~", "\x1b[201~"
    shown.run(f"{paste}submit -- echo 0\nsubmit -- echo 1\nsubmit -- echo 2{end}")
    long = "x" * 5_000
    shown.run(f"{paste}submit -- echo 'two\r\nlines'\r\nsubmit -- {long}\r\n\r\nget groups{end}")
    expected: list[tuple[str, ...]] = [("echo", "0"), ("echo", "1"), ("echo", "2")]
    expected += [("echo", "two\nlines"), (long,)]
    assert ran(5) == expected
    assert f"{person.name} = Admin" in shown.said
    wrong = "submit -- echo 3\nsubmti -- echo 4\nsubmit -- echo 5"
    assert "1 more line not run" in shown.run(f"{paste}{wrong}{end}")
    shown.send("submit -- echo 6\rsubmit -- echo 7\r\nsubmit -- echo 8\n")  # as if it were typed
    shown.send("submit -- echo 'two\rtyped lines' \\\rand more\r")
    expected += [("echo", number) for number in "3678"]
    expected += [("echo", "two\ntyped lines", "and", "more")]
    assert ran(10) == expected


@pytest.mark.parity("R-22")
def test_the_interactive_mode_runs_the_lines_of_standard_input_and_ends(person: Person) -> None:
    done = script(person, "submit -- echo a", "", "get tasks", "exit", "submit -- never")
    assert (done.status, done.err) == (0, done.err)
    assert done.err.endswith("1 task: 1 ready\n")
    first, second = done.text.splitlines()
    assert first == second == str(UUID(first))
    assert person.shell("-i", stdin=b"")[:2] == (0, b"")
    wrong = script(person, "get task nonsense#1", "submit -- never")
    assert (wrong.status, wrong.out) == (3, b"")
    assert person.client.get_tasks().total == 1


@pytest.mark.parity("R-22")
def test_submit_never_reads_standard_input(person: Person, platform: Platform) -> None:
    """In a loop over the lines of standard input each line gets its turn."""
    loop = (
        'while read x; do "$PYTHON" -m mitosis client -c "$ADDRESS" --credential-path "$FILE" '
        'submit -- echo "$x"; echo "status $?"; done'
    )
    credentials = person.client._client.config.credential_path
    for path, expected in ((credentials, [0, 0, 0]), (platform.home.folder / "none", [4, 4, 4])):
        done = subprocess.run(
            ["sh", "-c", loop], input=b"a\nb\nc\n", capture_output=True, timeout=60, check=False,
            env={**platform.home.environment, "PYTHON": sys.executable,
                 "ADDRESS": platform.notice["http"], "FILE": str(path)},
        )  # fmt: skip
        statuses = [int(line[7:]) for line in done.stdout.decode().splitlines() if "status" in line]
        assert statuses == expected, done.stderr
    assert [task.spec.argv[1] for task in person.client.get_tasks().tasks] == ["a", "b", "c"]


@pytest.mark.parity("S-122")
def test_one_connection_serves_a_whole_session(
    terminal: Callable[..., Terminal], person: Person
) -> None:
    shown = terminal("-i").ready()
    assert f"{person.name} = Admin" in shown.run("get groups")
    before = sockets(shown)
    shown.run("submit -- x")
    shown.run("get nonsense")
    shown.run("get tasks")
    assert sockets(shown) == before
    assert len(before) == 1


@pytest.mark.parity("S-122")
async def test_a_session_survives_a_restart_of_the_coordinator(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    platform = await make_platform(workers=0).start()
    admin, password = platform.notice["admin_user"], platform.admin_password
    shown = Terminal("-c", platform.notice["http"], "-u", admin, "-i", home=tmp_path,
                     MITO_PASSWORD=password)  # fmt: skip
    try:
        shown.ready()
        assert f"{admin} = Admin" in shown.run("get groups")
        coordinator = platform.child("coordinator")
        os.kill(coordinator, signal.SIGKILL)
        assert "Created group after" in shown.run("create group after")
        assert platform.child("coordinator") != coordinator
        assert "after = Admin" in shown.run("get groups")
    finally:
        shown.close()


# What is pressed or sent at the password prompt, and how the command ends: a status, or minus the
# number of the signal that has ended it.
ENDINGS = [
    ("\x03", None, 130),
    ("\x04", None, 1),
    ("\x1c", None, -signal.SIGQUIT),
    ("", signal.SIGTERM, -signal.SIGTERM),
    ("", signal.SIGHUP, -signal.SIGHUP),
]


@pytest.mark.parity("R-28")
@pytest.mark.parametrize(("keys", "number", "status"), ENDINGS, ids=["C", "D", "\\", "TERM", "HUP"])
def test_whatever_ends_the_password_prompt_leaves_the_terminal_as_it_was(
    terminal: Callable[..., Terminal], tmp_path: Path, keys: str,
    number: signal.Signals | None, status: int,
) -> None:  # fmt: skip
    shown = terminal("-u", "somebody", "get", "tasks", credentials="none")
    shown.child.expect_exact("Password of somebody: ")
    assert not shown.echoes
    shown.send("S3cret")
    shown.send(keys)
    if keys == "\x04":
        shown.send(keys)  # the first one only sends what stands there
    if number is not None:
        os.kill(shown.child.pid, number)
    ended = shown.ends()
    assert ended == status, shown.said
    assert shown.echoes
    assert "S3cret" not in shown.said
    assert "Traceback" not in shown.said
    assert "Password of somebody: \n" in shown.said.replace("^C", "").replace("^\\", "")
    assert [path.name for path in tmp_path.rglob("*") if path.name in {"none", "core"}] == []


@pytest.mark.parity("R-28")
def test_a_pause_at_the_password_prompt_gives_the_shell_its_terminal_back(
    platform: Platform, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "mitosis", "client", "-c", platform.notice["http"]]
    line += ["--credential-path", str(tmp_path / "none"), "-u", "somebody", "get", "tasks"]
    environment = {**platform.home.environment, "PS1": "ready> "}
    modes = "stty -a | tr ' ' '\\n' | grep -x -e echo -e -echo"
    child = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "--noediting", "-i"],
        env=environment, encoding="utf-8", timeout=30, dimensions=(24, 500),
    )  # fmt: skip
    try:
        child.expect_exact("ready> ")
        child.sendline(shlex.join(line))
        child.expect_exact("Password of somebody: ")
        child.send("S3c\x1a")
        child.expect("Stopped")
        child.sendline(modes)
        child.expect_exact("\r\necho\r\n")
        child.sendline("fg")
        child.expect_exact("Password of somebody: ")
        asyncio.run(eventually(lambda: not echoes(child.child_fd), seconds=30))
        child.send("\x03")
        child.expect_exact("ready> ")
        child.sendline(f'echo "status $?"; {modes}')
        child.expect_exact("\r\nstatus 130\r\necho\r\n")
    finally:
        child.close(force=True)


@pytest.mark.parity("R-28")
def test_ctrl_c_at_the_password_prompt_of_the_interactive_mode_stays_in_it(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    shown = terminal("-i", credentials="none").ready()
    shown.send("auth somebody\r")
    shown.child.expect_exact("Password of somebody: ")
    shown.send("S3cret\x03")
    shown.ready()
    assert "is no command" in shown.run("nonsense")
    shown.send("\x04")
    assert shown.ends() == 0
    assert "S3cret" not in shown.said


def sockets(terminal: Terminal) -> set[str]:
    """The sockets that the client has open, by their numbers."""
    links = [str(path.readlink()) for path in Path(f"/proc/{terminal.child.pid}/fd").iterdir()]
    connected = Path(f"/proc/{terminal.child.pid}/net/tcp").read_text().splitlines()[1:]
    numbers = {line.split()[9] for line in connected if line.split()[3] == "01"}
    return {link for link in links if link[len("socket:[") : -1] in numbers}
