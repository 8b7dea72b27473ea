import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
Mito = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def dead_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens: connecting is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def mito(home: Path, tmp_path: Path) -> Mito:
    """Run the real command line in a process of its own, with an empty home."""
    home.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }

    def run(*tokens: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mitosis", *tokens],
            cwd=tmp_path,
            env=env | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


class Outcome(NamedTuple):
    """What a command line in this process did."""

    returncode: int
    stdout: str
    stderr: str


Here = Callable[..., Outcome]


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Here:
    """Run the command line inside this process, which is ten times cheaper than a new one."""
    from mitosis.cli.main import main

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MITO_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*tokens: str, **variables: str) -> Outcome:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        status = main(tokens)
        streams = capfd.readouterr()
        return Outcome(status, streams.out, streams.err)

    return run
