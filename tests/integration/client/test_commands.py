"""The command line against a platform that answers: streams, shapes, statuses."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pexpect
import pytest

from mitosis.cli.main import main
from mitosis.domain.names import is_uuid
from mitosis.domain.task import Outcome

if TYPE_CHECKING:
    from tests.integration.client.conftest import SmallPlatform

ROOT = Path(__file__).parents[3]


class Done(NamedTuple):
    status: int
    out: str
    err: str


Mito = Callable[..., Awaitable[Done]]


def environment(home: Path, address: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "160",
        "MITO_COORDINATOR_ADDR": address, "TERM": "xterm",
    }  # fmt: skip


@pytest.fixture
def mito(
    tmp_path: Path,
    open_nats_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Mito:
    """Run the command line in a thread: a process each would cost ten times as much."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MITO_", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, value in environment(tmp_path, open_nats_url).items():
        monkeypatch.setenv(name, value)

    async def run(*tokens: str, **variables: str) -> Done:
        with monkeypatch.context() as only_here:
            for name, value in variables.items():
                only_here.setenv(name, value)
            status = await asyncio.to_thread(main, ["client", *tokens])
        return Done(status, *capfd.readouterr())

    return run


async def test_a_session_from_log_in_to_cancel(
    platform: "SmallPlatform", mito: Mito, unknown_task: str
) -> None:
    assert (await mito("auth", "alice", "wrong")).status == 4
    refused = await mito("get", "groups")
    assert (refused.status, refused.out) == (4, "")
    assert "mito client auth USER" in refused.err

    assert await mito("auth", "alice", "right") == Done(0, "Logged in as alice\n", "")
    assert await mito("get", "groups") == Done(0, "alice = Admin\nlab = Read\n", "")

    first = await mito("submit", "-l", "mobile", "-e", "A=1", "--", "echo", "a b")
    assert (first.status, first.err) == (0, "")
    task = first.out.strip()
    assert is_uuid(task)
    second = await mito("submit", "-t", "gpu", "--json", "--", "true")
    assert json.loads(second.out)["number"] == 2
    assert json.loads(second.out)["runnable"] is False
    assert "no registered worker can run" in second.err
    assert "gpu" in second.err

    shown = await mito("get", "task", task)
    assert shown.out.splitlines()[:9] == [
        f"Task UUID: {task}",
        "State: ready",
        "Created by alice as #1 in group alice",
        "Tags: None",
        "Labels: mobile",
        "Timeout: 10m, Priority: 0",
        "Created: 2026-01-02T03:04:05Z, Updated: 2026-01-02T03:04:05Z",
        "Task Spec: echo 'a b'",
        "Environment: A=1",
    ]
    assert shown.out.splitlines()[-2:] == ["Task Result: None", "Artifacts: None"]

    listed = await mito("get", "tasks")
    assert [is_uuid(line) for line in listed.out.splitlines()] == [True, True]
    assert listed.err == "2 tasks: 2 ready\n"
    page = json.loads((await mito("get", "tasks", "--json")).out)
    assert page["tasks"][0]["spec"]["argv"] == ["echo", "a b"]
    assert page["tasks"][0]["created_at"] == "2026-01-02T03:04:05Z"
    assert page["tasks"][0]["exit"] is None

    cancelled = await mito("manage", "task", task, "cancel", "--json")
    assert json.loads(cancelled.out) == {"task": task, "ended": True}
    again = await mito("manage", "task", task, "cancel", "--json")
    assert again.status == 5
    assert json.loads(again.out)["error"]["code"] == "conflict.state"
    unknown = await mito("get", "task", unknown_task)
    assert (unknown.status, unknown.out) == (3, "")
    assert unknown.err == f"mito: there is no task {unknown_task}\n"


async def test_a_password_in_the_environment_logs_in_at_once(
    platform: "SmallPlatform", mito: Mito
) -> None:
    done = await mito("auth", "--json", MITO_USER="alice", MITO_PASSWORD="right")
    assert json.loads(done.out) == {"username": "alice", "admin": False}
    wrong = await mito("-u", "bob", "get", "tasks", "--json", MITO_PASSWORD="wrong")
    assert wrong.status == 4
    assert json.loads(wrong.out)["error"]["code"] == "unauthenticated"


async def test_old_answers_are_pointed_out_on_stderr(platform: "SmallPlatform", mito: Mito) -> None:
    platform.stale = True
    done = await mito("get", "tasks", MITO_USER="alice", MITO_PASSWORD="right")
    assert done.status == 0
    assert "lag behind" in done.err


async def test_ctrl_c_ends_a_command_with_130_and_one_line(
    platform: "SmallPlatform", tmp_path: Path, open_nats_url: str
) -> None:
    platform.silent = 1_000
    login = {"MITO_USER": "alice", "MITO_PASSWORD": "right"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mitosis", "client", "submit", "--", "true",
        env=environment(tmp_path, open_nats_url) | login,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        await platform.asked.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"mito: interrupted\n")


async def test_a_person_at_a_terminal_is_asked_and_sees_a_table(
    platform: "SmallPlatform", mito: Mito, tmp_path: Path, open_nats_url: str
) -> None:
    await mito("submit", "--", "printf", "\x1b[31m", MITO_USER="alice", MITO_PASSWORD="right")
    (task,) = platform.tasks
    platform.end(task, Outcome.SUCCEEDED, tell=False)
    (tmp_path / ".config" / "mitosis" / "credentials").unlink()

    def look() -> str:
        child = pexpect.spawn(
            sys.executable, ["-m", "mitosis", "client", "get", "tasks"], encoding="utf-8",
            env=environment(tmp_path, open_nats_url), timeout=60, dimensions=(40, 160),
        )  # fmt: skip
        child.expect("Username: ")
        child.sendline("alice")
        child.expect("Password of alice: ")
        child.sendline("right")
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
        return str(child.before)

    screen = await asyncio.to_thread(look)
    assert "right" not in screen  # not echoed
    for part in ("UUID", "OUTCOME", task[:8], "finished", "succeeded", "1 task: "):
        assert part in screen
    assert "\\x1b[31m" in screen  # of the command: shown, not obeyed
    assert "\x1b[32m" in screen  # our own green
