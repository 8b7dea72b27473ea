"""The command line as a process of its own: statuses, streams, what it imports."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Mito = Callable[..., "subprocess.CompletedProcess[str]"]
Here = Callable[..., Any]  # see conftest.py


def test_help_of_the_client_lists_commands_and_options(here: Here) -> None:
    text = here("client", "--help").stdout
    for word in ("auth", "create", "get", "submit", "manage", "quit", "help", "--coordinator",
                 "--credential-path", "--user", "--password", "--interactive"):  # fmt: skip
        assert word in text


def test_nothing_but_a_group_is_a_usage_error_with_help_on_stderr(here: Here) -> None:
    for tokens in ([], ["client"], ["client", "get"], ["client", "manage", "task"]):
        done = here(*tokens)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Usage: mito" in done.stderr


COMMANDS = [
    ["auth"],
    ["auth", "u", "p"],
    ["create", "user", "-u", "a", "-p", "b"],
    ["create", "group", "g"],
    ["submit", "--", "echo", "hello"],
    ["get", "task", "last"],
    ["get", "tasks"],
    ["get", "artifact", "last", "result"],
    ["get", "worker", "abcdef"],
    ["get", "workers"],
    ["get", "group", "g"],
    ["get", "groups"],
    ["manage", "task", "last", "cancel"],
    ["manage", "worker", "abcdef", "cancel"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("scheme", ["http", "nats"])
def test_without_a_coordinator_each_command_says_so_in_json_with_status_6(
    command: list[str], scheme: str, dead_port: int, here: Here
) -> None:
    done = here(
        "client", "-c", f"{scheme}://127.0.0.1:{dead_port}", "--json", "--timeout", "0.1s", *command
    )
    assert done.returncode == 6
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "unavailable.coordinator"
    assert str(dead_port) in error["message"]
    assert isinstance(error["details"], dict)
    assert done.stderr == ""


def test_without_a_coordinator_a_person_gets_one_line(mito: Mito, dead_port: int) -> None:
    options = ("-c", f"http://127.0.0.1:{dead_port}", "--timeout", "0.1s")
    done = mito("client", *options, "get", "task", "last")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("mito: no coordinator answers at http://127.0.0.1")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "script"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_person_is_told_at_once_that_it_is_tried_again_and_a_script_hears_the_outcome_alone(
    here: Here, dead_port: int, monkeypatch: pytest.MonkeyPatch, terminal: bool, form: list[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    address = f"nats://127.0.0.1:{dead_port}"
    done = here("client", "-c", address, "--timeout", "0.3s", *form, "submit", "--", "x")
    assert done.returncode == 6
    told = [line for line in done.stderr.splitlines() if "trying again for up to 0 s" in line]
    assert len(told) == (terminal and not form)
    assert all("no coordinator answers" in line and "--timeout" in line for line in told)


@pytest.mark.parametrize(
    ("tokens", "status", "code"),
    [
        (["client", "get", "tsk"], 2, "usage"),
        (["client", "submit"], 2, "usage"),
        (["client", "submit", "-e", "A"], 2, "usage"),
        (["demo", "--workers", "1"], 2, "usage"),
        (["up", "--slots", "0"], 2, "usage"),
        (["client"], 2, "usage"),
        (["client", "--config", "nowhere.toml", "get", "groups"], 2, "misconfigured.settings"),
        (["client", "-c", "ftp://x", "get", "groups"], 2, "misconfigured.settings"),
        (["worker", "--config", "nowhere.toml"], 2, "misconfigured.settings"),
        (["coordinator", "--config", "nowhere.toml"], 2, "misconfigured.settings"),
        (["coordinator", "--bind", "nonsense"], 2, "misconfigured.settings"),
        (["nats-config"], 1, "misconfigured"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_in_json_are_one_value_on_stdout(
    here: Here, tokens: list[str], status: int, code: str
) -> None:
    done = here(*tokens, "--json")
    assert (done.returncode, done.stderr) == (status, "")
    assert json.loads(done.stdout)["error"]["code"] == code


def test_a_variable_that_cannot_work_is_named(here: Here) -> None:
    done = here("client", "get", "groups", MITO_TIMEOUT="soon")
    assert done.returncode == 2
    assert "MITO_TIMEOUT: timeout = 'soon'" in done.stderr


def test_a_malformed_submit_is_refused_before_anybody_is_asked(here: Here) -> None:
    for wrong in (["-g", "no/group"], ["-t", "x\ty"], ["-p", "99999999999"], ["-l", "x" * 300]):
        done = here("client", "submit", *wrong, "--json", "--", "x")
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"]["code"].startswith("invalid")


BANNED = {
    "psycopg", "minio", "rich", "jwt", "uvicorn", "starlette", "eventsourcing", "aiohttp",
    "cryptography", "prometheus_client", "uvloop", "urllib3", "asyncio", "nats", "ssl",
}  # fmt: skip
# cyclopts itself imports rich for the text of an error.
FOR_PARSING = {"rich"}
NETWORK = {"nats", "http", "socket", "mitosis.client.client"}

PROBE = """
import sys
from mitosis.cli.main import main
status = main(sys.argv[1:])
names = {name.partition(".")[0] for name in sys.modules}
print(status, *sorted(names), file=sys.stderr)
"""


def imported_by(tokens: list[str], home: Path) -> tuple[int, set[str]]:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *tokens],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    status, *names = done.stderr.splitlines()[-1].split()
    return int(status), set(names)


def test_submit_imports_only_what_it_needs(dead_port: int, tmp_path: Path) -> None:
    address = f"nats://127.0.0.1:{dead_port}"
    options = ["-c", address, "--timeout", "0.1s"]
    status, names = imported_by(["client", *options, "submit", "--", "x"], tmp_path)
    assert status == 6
    assert "socket" in names  # it did try
    assert names & BANNED == set()


def test_a_line_that_cannot_be_parsed_loads_no_network(tmp_path: Path) -> None:
    status, names = imported_by(["client", "submit", "--timeout", "x", "--", "x"], tmp_path)
    assert status == 2
    assert names & ((BANNED | NETWORK) - FOR_PARSING) == set()


def test_importing_the_package_is_cheap(tmp_path: Path) -> None:
    code = (
        "import sys; import mitosis; print(*[m for m in sys.modules if m.startswith('mitosis.')])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["mitosis._version"]


@pytest.mark.parametrize(
    "line", ["client get tsk --json", "client submit -h", "-V", "--version", "-h"]
)
def test_a_reader_that_has_gone_ends_the_command_quietly(line: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "mitosis", *line.split()],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(root)},
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("line", ["client get tsk --json", "--version"])
def test_a_full_disk_at_standard_output_is_an_error(line: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mitosis", *line.split()],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(root)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_closed_streams_do_no_harm(tmp_path: Path, dead_port: int) -> None:
    root = Path(__file__).parents[3]
    address = f"http://127.0.0.1:{dead_port}"
    line = f'exec "{sys.executable}" -m mitosis client -c {address} auth u <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", line],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 1  # no password, and nobody to ask


@pytest.mark.parametrize(
    ("words", "status"), [("-i", 0), ("--password-file - auth u", 1)], ids=["-i", "password-file"]
)
def test_closed_standard_input_is_empty_input(
    tmp_path: Path, dead_port: int, words: str, status: int
) -> None:
    root = Path(__file__).parents[3]
    address = f"http://127.0.0.1:{dead_port}"
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m mitosis client -c {address} {words} <&-'],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (status, "")
    assert (status == 0) == (done.stderr == "")


def test_without_a_terminal_no_password_is_asked_for(here: Here, dead_port: int) -> None:
    done = here("client", "-c", f"http://127.0.0.1:{dead_port}", "auth", "alice")
    assert done.returncode == 1
    assert "MITO_PASSWORD" in done.stderr


def test_nats_config_writes_a_private_file(mito: Mito, tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", "private.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    done = mito("nats-config", "-o", "server.conf", MITO_NATS_PASSWORD="a-secret")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "server.conf"
    assert written.stat().st_mode & 0o777 == 0o600
    assert "a-secret" in written.read_text()
    assert "auth_callout" in written.read_text()
    assert "a-secret" not in done.stdout + done.stderr
