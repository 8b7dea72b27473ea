"""`mito demo`: a real campaign whose every result is right, and nothing left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .conftest import Done, Home

SECONDS = 180.0
ROW = re.compile(r"│\s*0\.\d+\s*│\s*\d+ ms\s*│.*")


def _left_sockets() -> set[str]:
    """Our own sockets that no server listens on any more; seaweedfs puts them into /tmp, always."""
    left = set()
    for path in Path("/tmp").glob("seaweedfs-*.sock"):
        with socket.socket(socket.AF_UNIX) as caller:
            try:
                if path.stat().st_uid != os.getuid():
                    continue
                caller.connect(str(path))
            except ConnectionRefusedError:
                left.add(str(path))
            except FileNotFoundError:
                continue  # another platform has removed its own meanwhile
    return left


def _demo(folder: Path) -> Done:
    home = Home(folder)
    temporary = folder / "tmp"
    temporary.mkdir()
    done = home.run("demo", seconds=SECONDS, more={"TMPDIR": str(temporary)})
    assert home.processes() == []
    assert list(temporary.iterdir()) == []
    assert list(home.folder.rglob("*")) == []
    return done


@pytest.mark.timeout(300)
def test_two_demos_at_once_are_right_and_leave_nothing(scratch: Path) -> None:
    before = _left_sockets()
    folders = [scratch / "demo1", scratch / "demo2"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor() as threads:
        both = list(threads.map(_demo, folders))
    for done in both:
        assert done.status == 0, done
        rows = [line for line in done.text.splitlines() if ROW.match(line)]
        assert len(rows) == 8, done.text
        assert all("agrees" in row for row in rows), done.text
        assert "a cell run on two workers gave the same bytes" in done.text
        assert "Traceback" not in done.err
    assert _left_sockets() <= before


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_demo_that_is_stopped_while_it_starts_says_so_and_leaves_nothing(
    scratch: Path, number: signal.Signals
) -> None:
    own = scratch / f"stopped-{number.name}"
    own.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "mitosis", "demo"],
        env={**os.environ, "HOME": str(own), "TMPDIR": str(own)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stderr is not None
        assert "starting NATS" in demo.stderr.readline()
        demo.send_signal(number)
        assert demo.stderr.read() == "mito: interrupted\n"
    assert demo.returncode == 130
    assert list(own.iterdir()) == []
