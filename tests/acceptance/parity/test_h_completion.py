"""Completion in real shells, from a real platform and without one."""

import asyncio
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis.config.client import SubmitTaskArgs
from mitosis.testing.waiting import eventually

from ..conftest import Person, Platform
from .terminals import Terminal

CPU_SECONDS = 0.3  # that one TAB may take, with the start of Python
# Calls the function of the script as bash does at a TAB, then shows what it would insert.
BASH = """
source "$SCRIPT"; COMP_LINE=$1; COMP_POINT=${#1}; word=${1##*[ =:]}
_mito mito "$word"; printf '%s\\n' "${COMPREPLY[@]}"
"""


class Shell:
    """A person's shell with completion installed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        folder = home / "bin"
        folder.mkdir(parents=True)
        mito = folder / "mito"
        mito.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mitosis "$@"\n')
        mito.chmod(0o755)
        kept = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
        path = f"{folder}:{os.environ['PATH']}"
        self.environment = {**kept, "PATH": path, "HOME": str(home), "LANG": "C.UTF-8"}

    def install(self, shell: str = "bash") -> str:
        """Install completion; the path of its script."""
        done = self._run(["mito", "--install-completion", shell])
        return done.split(" is in ")[1].split(", loaded by ")[0]

    def bash(self, line: str) -> list[str]:
        """What bash would insert for a line with the cursor at its end; nothing else is said."""
        script = self.home / ".local/share/mitosis/completion/mito.bash"
        self.environment["SCRIPT"] = str(script)
        out = self._run(["bash", "--norc", "--noprofile", "-c", BASH, "bash", line])
        return [text for text in out.split("\n") if text]

    def fish(self, line: str) -> list[str]:
        """The candidates of fish."""
        return self._run(["fish", "-c", 'complete -C "$argv[1]"', line]).splitlines()

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=self.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        if command[0] != "mito":
            assert done.stderr == ""
        return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Shell:
    made = Shell(tmp_path / "home")
    made.install()
    return made


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address at which connections are taken and never answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"nats://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parity("R-34")
def test_names_of_the_platform_are_offered_quoted_and_never_run(
    home: Shell, person: Person, platform: Platform, tmp_path: Path
) -> None:
    labels = ("a:b", "x;$(touch pwned)", "two words")
    submitted = person.client.submit_task(SubmitTaskArgs(command=("x",), labels=labels))
    mito = f"mito client -c {platform.notice['http']} --credential-path {tmp_path}/credentials"
    tasks = f"{mito} get task {submitted.task[:4]}"
    asyncio.run(eventually(lambda: home.bash(tasks) == [submitted.task], seconds=30))
    assert home.bash(f"{mito} get group person") == [person.name]
    assert home.bash(f"{mito} submit -g person") == [person.name]
    inserted = {"a:b", "x\\;\\$\\(touch\\ pwned\\)", "two\\ words"}
    assert set(home.bash(f"{mito} get tasks -l ")) == inserted
    assert list(tmp_path.rglob("pwned")) == []
    if shutil.which("fish"):
        home.install("fish")
        assert home.fish(f"{mito} get group per") == [f"{person.name}\tAdmin"]
    kept = [path for path in home.home.rglob(".cache/mitosis/completion/*") if path.is_file()]
    assert kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


@pytest.mark.parity("R-34")
@pytest.mark.parametrize("where", ["down", "black hole", "not logged in"])
def test_without_an_answer_fixed_words_are_offered_at_once_and_nothing_is_said(
    home: Shell, platform: Platform, black_hole: str, where: str
) -> None:
    address = {"down": "http://127.0.0.1:9", "black hole": black_hole}.get(
        where, platform.notice["http"]
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert home.bash(f"mito client -c {address} get tasks -s re") == ["ready"]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS
    assert home.bash(f"mito client -c {address} get task ") == ["last"]
    assert home.bash(f"mito client -c {address} manage wor") == ["worker"]
    assert home.bash(f"mito client -c {address} get artifact last re") == ["result"]


@pytest.mark.parity("R-34")
def test_a_password_on_the_line_is_told_to_nobody(
    home: Shell, platform: Platform, tmp_path: Path
) -> None:
    secret = secrets.token_hex(16)
    mito = f"mito client -c {platform.notice['http']} -u somebody -p {secret}"
    assert home.bash(f"{mito} get tasks -s re") == ["ready"]
    argv = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if _readable(p)]
    assert [line for line in argv if secret.encode() in line] == []
    kept = [path for path in home.home.rglob("*") if path.is_file()]
    assert [path for path in kept if secret.encode() in path.read_bytes()] == []


@pytest.mark.parity("R-34")
def test_the_interactive_mode_completes_the_same(
    person: Person, platform: Platform, tmp_path: Path
) -> None:
    shown = Terminal(
        "-c", platform.notice["http"], "--credential-path", tmp_path / "credentials", "-i",
        home=tmp_path,
    )  # fmt: skip
    try:
        shown.ready()

        def offered() -> bool:
            return f"Group Name: {person.name}" in shown.run("get group per\t")

        assert "Create a new group" in shown.run("help crea\tgrou\t")
        asyncio.run(eventually(offered, seconds=30))
    finally:
        shown.close()


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
