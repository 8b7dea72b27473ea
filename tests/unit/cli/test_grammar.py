"""The seed's examples, parsed by the real apps: which function is called with which values."""

import importlib
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from cyclopts import CycloptsError, Parameter

from mitosis.cli import grammar
from mitosis.cli.commands import CLIENT, PLATFORM, listed
from mitosis.cli.grammar import take_json
from mitosis.cli.main import root_app
from mitosis.cli.wording import said
from mitosis.config.client import NO_WATCH, WatchArgs
from mitosis.config.values import usable_cores
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.domain.user import UserPhase

Here = Callable[..., Any]  # see conftest.py
UUID = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"


def parse(line: list[str]) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    tokens = line
    if line[:1] == ["client"]:
        _, command = grammar.split_options(line[1:])
        tokens = ["client", *grammar.verb_first(command)]
    command_function, bound, _ = root_app().parse_args(
        tokens, exit_on_error=False, print_error=False
    )
    return command_function.__name__, bound.args, bound.kwargs


EXAMPLES = [
    (
        "client submit -- echo hello",
        ("submit", ("echo", "hello"), {}),
    ),
    (
        "client submit -g test_group -t wireless,4g -l mobile,video -e TEST_KEY=1,TEST_VAL=2 "
        "-- echo hello",
        (
            "submit",
            ("echo", "hello"),
            {
                "group": "test_group",
                "tags": ("wireless", "4g"),
                "labels": ("mobile", "video"),
                "envs": ("TEST_KEY=1", "TEST_VAL=2"),
            },
        ),
    ),
    (
        "client submit -p -3 --timeout 1h30m --terminal -- python3 -c x -v -- --json",
        (
            "submit",
            ("python3", "-c", "x", "-v", "--", "--json"),
            {"priority": -3, "timeout": timedelta(minutes=90), "terminal": True},
        ),
    ),
    (
        "client submit -e A=1 -e B=x=y C= -t a b -t c -l -- env",
        (
            "submit",
            ("env",),
            {"envs": ("A=1", "B=x=y", "C="), "tags": ("a", "b", "c"), "labels": ()},
        ),
    ),
    (
        "client create user -u test_user_name -p test_user_password",
        ("create_user", (), {"username": "test_user_name", "password": "test_user_password"}),
    ),
    (
        "client create user --username a --password b --admin",
        ("create_user", (), {"username": "a", "password": "b", "admin": True}),
    ),
    ("client create group test_group", ("create_group", ("test_group",), {})),
    (f"client get task {UUID}", ("get_task", (UUID,), {})),
    ("client get task lab#12", ("get_task", ("lab#12",), {})),
    ("client get tasks -l mobile", ("get_tasks", (), {"labels": ("mobile",)})),
    (
        "client get tasks -c bob -g lab -t a,b -s finished,CANCELLED --outcome lost --limit 5 "
        "--offset 2 -v",
        (
            "get_tasks",
            (),
            {
                "creators": ("bob",),
                "group": "lab",
                "tags": ("a", "b"),
                "state": ("finished", "cancelled"),
                "outcome": (Outcome.LOST,),
                "limit": 5,
                "offset": 2,
                "verbose": True,
            },
        ),
    ),
    (f"client get artifact {UUID} result", ("get_artifact", (UUID, ArtifactKind.RESULT), {})),
    (
        f"client get artifact {UUID} std-log -o out",
        ("get_artifact", (UUID, ArtifactKind.STD_LOG), {"output": Path("out")}),
    ),
    (f"client get worker {UUID}", ("get_worker", (UUID,), {})),
    ("client get workers -t wired", ("get_workers", (), {"tags": ("wired",)})),
    ("client get group lab", ("get_group", ("lab",), {})),
    ("client get groups", ("get_groups", (), {})),
    (
        f"client manage task {UUID} update-labels mobile video,x",
        ("update_labels", (UUID, "mobile", "video,x"), {}),
    ),
    (f"client tasks update-labels {UUID} a", ("update_labels", (UUID, "a"), {})),
    (
        f"client manage task {UUID} change --terminal -- echo world",
        ("change_task", (UUID, "echo", "world"), {"terminal": True}),
    ),
    (
        f"client tasks change {UUID} -t -p -1 --timeout 1h --no-terminal -e A=1 --watch none",
        (
            "change_task",
            (UUID,),
            {
                "tags": (),
                "priority": -1,
                "timeout": timedelta(hours=1),
                "terminal": False,
                "envs": ("A=1",),
                "watch": NO_WATCH,
            },
        ),
    ),
    (
        f"client submit --watch {UUID},ExecSpawned --watch-timeout 5min -- true",
        (
            "submit",
            ("true",),
            {
                "watch": WatchArgs(UUID, ExecutionState.EXEC_SPAWNED),
                "watch_timeout": timedelta(minutes=5),
            },
        ),
    ),
    (
        "client tasks query -c a,b -e !=0 -p >=-3 --count -s unknown --before 7",
        (
            "get_tasks",
            (),
            {
                "creators": ("a", "b"),
                "exit_status": "!=0",
                "priority": ">=-3",
                "count": True,
                "state": ("unknown",),
                "before": 7,
            },
        ),
    ),
    (f"client manage task {UUID} cancel", ("cancel_task", (UUID,), {})),
    (f"client manage task cancel {UUID}", ("cancel_task", (UUID,), {})),
    (f"client manage worker {UUID} cancel -f", ("cancel_worker", (UUID,), {"force": True})),
    ("client auth u p", ("auth", ("u", "p"), {})),
    (
        "client manage group lab update bob:read carol:ADMIN",
        ("update_members", ("lab", "bob:read", "carol:ADMIN"), {}),
    ),
    ("client groups update-user lab bob:read", ("update_members", ("lab", "bob:read"), {})),
    ("client manage group lab remove bob carol", ("remove_members", ("lab", "bob", "carol"), {})),
    ("client groups remove-user lab bob", ("remove_members", ("lab", "bob"), {})),
    ("client shutdown", ("shutdown", (), {})),
    ("client shutdown -secret", ("shutdown", ("-secret",), {})),
    ("client admin shutdown secret", ("shutdown", ("secret",), {})),
    ("client users change-password a -b", ("change_password", ("a", "-b"), {})),
    ("client admin users create u -p --admin", ("create", ("u", "-p"), {"admin": True})),
    ("client admin users group-quota u -3", ("set_group_quota", ("u", "-3"), {})),
    ("client admin groups storage-quota g -5GB", ("set_storage_quota", ("g", "-5GB"), {})),
    ("client admin groups storage-quota g =20GiB", ("set_storage_quota", ("g", "=20GiB"), {})),
    (
        "client admin users list al -s locked,deleted --admins",
        (
            "list_users",
            ("al",),
            {"state": (UserPhase.LOCKED, UserPhase.DELETED), "admins": True},
        ),
    ),
    ("client -u me -p pw get task last", ("get_task", ("last",), {})),
    (
        "worker --config w.toml --groups group1,group2:write,group3:read,group4:admin -t a b",
        (
            "worker",
            (),
            {
                "config": Path("w.toml"),
                "groups": ("group1", "group2:write", "group3:read", "group4:admin"),
                "tags": ("a", "b"),
            },
        ),
    ),
    (
        "worker -c http://h:1 -u u -p p --polling-interval 5m --heartbeat-interval 30s "
        "--lifetime 1year --file-log --log-path l --credential-path c",
        (
            "worker",
            (),
            {
                "coordinator_addr": "http://h:1",
                "user": "u",
                "password": "p",
                "polling_interval": timedelta(minutes=5),
                "heartbeat_interval": timedelta(seconds=30),
                "lifetime": timedelta(seconds=31_557_600),
                "file_log": True,
                "log_path": Path("l"),
                "credential_path": Path("c"),
            },
        ),
    ),
    (
        "coordinator --config c.toml --bind 0.0.0.0:8000 --db postgres://h/d --s3 http://h "
        "--s3-access-key a --s3-secret-key b --redis redis://h --redis-worker-password x "
        "--redis-client-password y --admin-user u --admin-password p "
        "--access-token-private-path k --access-token-public-path q "
        "--access-token-expires-in 2s --heartbeat-timeout 3s --log-path l --file-log",
        (
            "coordinator",
            (),
            {
                "config": Path("c.toml"),
                "bind": "0.0.0.0:8000",
                "db_url": "postgres://h/d",
                "s3_url": "http://h",
                "s3_access_key": "a",
                "s3_secret_key": "b",
                "redis_url": "redis://h",
                "redis_worker_password": "x",
                "redis_client_password": "y",
                "admin_user": "u",
                "admin_password": "p",
                "access_token_private_path": Path("k"),
                "access_token_public_path": Path("q"),
                "access_token_expires_in": timedelta(seconds=2),
                "heartbeat_timeout": timedelta(seconds=3),
                "log_path": Path("l"),
                "file_log": True,
            },
        ),
    ),
    (
        "up --data d --workers 3 --ready-file r",
        ("up", (), {"data": Path("d"), "workers": 3, "ready_file": Path("r")}),
    ),
    ("up --slots auto", ("up", (), {"slots": usable_cores()})),
    ("worker --slots auto", ("worker", (), {"slots": usable_cores()})),
]  # fmt: skip


@pytest.mark.parametrize(("line", "call"), EXAMPLES, ids=[line for line, _ in EXAMPLES])
def test_an_example_of_the_seed_is_understood(
    line: str, call: tuple[str, tuple[Any, ...], dict[str, Any]]
) -> None:
    assert parse(line.split()) == call


WRONG = [
    ("client create user -u a", "create user needs --password"),
    ("client create user -p a", "create user needs --username"),
    ("client submit -e NOVALUE -- x", "'NOVALUE' is no NAME=VALUE"),
    ("client submit -e A=1,B -- x", "'B' is no NAME=VALUE"),
    ("client submit --timeout abc -- x", "'abc' is no duration"),
    ("client submit --timeout -1s -- x", "'-1s' is no duration"),
    ("client submit -e A=1,A=2 -- x", "A is given twice"),
    ("client submit -e =x -- x", "'=x' has no proper name"),
    ("client submit -e NO_PROXY=localhost,127.0.0.1 -- x", r"'127.0.0.1' .* write it as \\,"),
    ("client submit --timeout 30 -- x", "write 30s, 30min or 30h"),
    ("client submit --watch no-comma -- x", "'no-comma' is no UUID,STATE"),
    ("client submit --watch lab,ExecSpawned -- x", "'lab' before the comma"),
    (f"client submit --watch {UUID},execspawned -- x", "did you mean 'ExecSpawned'"),
    (f"client submit --watch {UUID},Nonsense -- x", "[Uu]se one of WorkerExited"),
    ("client get tasks -e three", "'three' is no condition on the exit status"),
    ("client submit -p high -- x", "high"),
    ("client submit --no-terminal -- x", "--no-terminal"),
    ("client get artifact x stdout", "[Uu]se one of result, exec-log, std-log"),
    ("client get tasks -s waiting", "[Uu]se one of pending, ready"),
    ("client get task", "mito client get task needs TASK"),
    ("client get task a b", "'b' is too much for mito client get task: .* needs quotes"),
    ("client manage task cancel a b", "'b' is too much for mito client manage task TASK cancel"),
    ("coordinator now", "mito coordinator takes nothing but options: 'now' is too much"),
    ("config check", "mito config check needs FILE"),
    ("client get tasks --limit", "--limit needs a value"),
    ("client get tasks --limit 1.5", "--limit: '1.5' is no whole number"),
    ("client manage worker update-slots w 2x", "'2x' is no whole number"),
    ("coordinator --file-log=maybe", "--file-log is on or off: write true or false, not 'maybe'"),
    ("client submit -p 1 -p 2 -- x", "-p is given twice"),
    ("client get tasks --sort number", "^mito client get tasks has no option --sort$"),
    ("client get tasks --limit=2 --bogus=1", "has no option --bogus$"),
    ("client create user --usernme a -p b", "has no option --usernme: did you mean --username?"),
    ("client get task x -u alice", "-u is an option of the client and stands before its command"),
    ("--bogus", "^mito has no option --bogus$"),
    ("worker -g a:wat", "'wat' is no role"),
    ("worker --slots some", "a whole number, or auto"),
    ("worker --max-memory lots", "'lots' is no size"),
    ("worker -g a,a", "given twice"),
    ("client admin users list -s loked", "locked"),
]


@pytest.mark.parametrize(("line", "message"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_line_is_refused_and_says_why(line: str, message: str) -> None:
    with pytest.raises((CycloptsError, ValueError)) as refused:
        parse(line.split())
    error = refused.value
    assert re.search(message, said(error) if isinstance(error, CycloptsError) else str(error))


def test_options_of_the_client_stand_before_its_command() -> None:
    options = ["--config", "c", "-u", "me", "-ppw", "--timeout=3s", "-i"]
    command = ["submit", "-p", "3", "--", "-u", "x"]
    assert grammar.split_options(options + command) == (options, command)


def test_json_belongs_to_us_only_before_the_dashes() -> None:
    assert take_json(["client", "--json", "get"]) == (["client", "get"], True)
    assert take_json(["submit", "--", "x", "--json"]) == (["submit", "--", "x", "--json"], False)


def test_a_name_that_is_also_a_verb_stays_a_name() -> None:
    assert grammar.verb_first(["manage", "task", "cancel", "cancel"]) == [
        "manage", "task", "cancel", "cancel",
    ]  # fmt: skip
    assert grammar.verb_first(["manage", "task", "--help"]) == ["manage", "task", "--help"]


HELP = [
    ("help", "--help"),
    ("help client get", "client get --help"),
    ("client help", "client --help"),
    ("client -c x help get task", "client -c x get task --help"),
    ("client get help task", "client get task --help"),
    ("client help manage task abc cancel", "client manage task cancel abc --help"),
    ("client auth help", "client auth help"),  # a user of this name
    ("client submit -- help", "client submit -- help"),
]


@pytest.mark.parametrize(("line", "meant"), HELP, ids=[line for line, _ in HELP])
def test_help_stands_before_what_it_is_about(line: str, meant: str) -> None:
    assert grammar.help_last(line.split()) == meant.split()


def test_who_asks_for_help_about_a_verb_need_give_no_name() -> None:
    assert grammar.verb_first(["manage", "task", "x", "-h"]) == ["manage", "task", "-h"]
    assert grammar.verb_first(["manage", "task", "x"]) == ["manage", "task"]


TYPOS = [
    ("clint get tasks", "did you mean 'client'?"),
    ("client gett tasks", "did you mean 'get'?"),
    ("client get tsks", "did you mean 'tasks'?"),
    ("client help get tsks", "did you mean 'tasks'?"),
    ("client tsks --help", "did you mean 'tasks'?"),
    ("client manage task abc cancle", "did you mean 'cancel'?"),
    ("client manage tsk abc cancel", "did you mean 'task'?"),
    ("client get tasks --stat ready", "did you mean --state?"),
    ("client --usr alice get tasks", "mito client has no option --usr: did you mean --user?"),
    ("client get tasks -s raedy", "did you mean 'ready'?"),
    ("client get tasks --outcome lsot", "did you mean 'lost'?"),
    ("client get artifact x resutl", "did you mean 'result'?"),
    ("worker -g lab:wirte", "did you mean 'write'?"),
]


@pytest.mark.parametrize(("line", "advice"), TYPOS, ids=[line for line, _ in TYPOS])
def test_a_mistyped_word_gets_the_nearest_one(line: str, advice: str, here: Here) -> None:
    done = here(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert advice in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_shows_defaults_and_is_not_broken_into_lines_off_a_terminal(here: Here) -> None:
    text = here("client", "submit", "--help", COLUMNS="20").stdout
    assert "--timeout DURATION: The timeout of the task. [default: 10m]" in text
    assert "--priority, -p NUMBER: The priority of the task. [default: 0]" in text
    assert '""' not in text
    assert "()" not in text


def test_help_names_the_arguments_of_every_command_and_breaks_no_line_off_a_terminal(
    here: Here,
) -> None:
    for path in listed((*PLATFORM, *CLIENT)):
        words = path.split()
        in_client = path not in {command.path for command in PLATFORM}
        text = here(*(["client"] if in_client else []), *words, "--help").stdout
        assert "ARGS" not in text, path
        assert "STR" not in text.split(), path
        entries = [line for line in text.splitlines() if line.startswith("  ")]
        assert all(": " in line for line in entries), path


@pytest.mark.parametrize("number", ["1.5", "0x10", "1_000", "٣", "1e3", "", "9" * 31])
def test_a_number_that_is_no_whole_one_in_decimal_digits_is_refused_and_never_rounded(
    number: str,
) -> None:
    with pytest.raises(CycloptsError, match="is no whole number"):
        parse(["client", "submit", f"--priority={number}", "--", "true"])


def test_no_option_leaves_the_reading_of_numbers_to_the_library() -> None:
    """It rounds 1.5 to 2, and reads 0x10 and 1_000."""
    for command in (*PLATFORM, *CLIENT):
        module, _, function = command.home.partition(":")
        code = getattr(importlib.import_module(f"mitosis.cli.{module}"), function)
        for name, hint in get_type_hints(code, include_extras=True).items():
            plain, *how = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            numbers = int in {plain, *get_args(plain)} and name != "return"
            read = any(isinstance(one, Parameter) and one.converter for one in how)
            assert read or not numbers, f"{command.path} {name}"
