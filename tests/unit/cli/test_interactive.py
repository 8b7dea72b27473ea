"""The interactive mode in a pseudo-terminal, as a person sees it."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).parents[3]
PROMPT = r"\[mito::client\]> "


@pytest.fixture
def shell(tmp_path: Path) -> Iterator["pexpect.spawn[str]"]:
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TERM": "dumb",
    }  # fmt: skip
    child = pexpect.spawn(
        sys.executable, ["-m", "mitosis", "client", "-i"], env=env, encoding="utf-8", timeout=30,
        cwd=str(tmp_path),
    )  # fmt: skip
    child.expect(PROMPT)
    yield child
    if child.isalive():  # `close` gives it a tenth of a second to die, which a busy machine may not
        child.kill(signal.SIGKILL)
        child.wait()
    child.close()


def leaves(child: "pexpect.spawn[str]") -> bool:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus == 0


@pytest.mark.parametrize("word", ["exit", "quit", "\x04"])
def test_it_is_left_by_exit_quit_and_ctrl_d(shell: "pexpect.spawn[str]", word: str) -> None:
    shell.send(word if word == "\x04" else f"{word}\r")
    assert leaves(shell)


def test_ctrl_c_clears_the_line_and_stays(shell: "pexpect.spawn[str]") -> None:
    shell.send("get tsk")
    shell.expect("get tsk")
    shell.send("\x03")
    shell.expect(PROMPT)
    shell.send("\x03")
    shell.expect(PROMPT)
    shell.send("help create\r")
    shell.expect("Create a new user or group")
    shell.expect(PROMPT)


def test_a_wrong_line_does_not_end_it(shell: "pexpect.spawn[str]") -> None:
    shell.send("get tsk\r")
    shell.expect("did you mean 'task'")
    shell.expect(PROMPT)
    shell.send('get "task\r')
    shell.expect_exact('"task\r\n')
    shell.send("\x03")  # as in a shell: the way out of a quote that was not meant
    shell.expect(PROMPT)
    shell.send("get tsk\r")
    shell.expect("did you mean 'task'")
    shell.expect(PROMPT)


def test_the_history_keeps_lines_but_no_passwords(
    shell: "pexpect.spawn[str]", tmp_path: Path
) -> None:
    shell.send("help get\r")
    shell.expect(PROMPT)
    shell.send("create user -u a -p s3cr3t --wrong\r")
    shell.expect(PROMPT)
    shell.send("quit\r")
    assert leaves(shell)
    history = tmp_path / ".cache" / "mitosis" / "client-history"
    assert history.read_text().splitlines() == ["help get"]
    assert history.stat().st_mode & 0o777 == 0o600
