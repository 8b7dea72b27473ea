"""The services of docker-compose.yml in a network of their own, and a session with them."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class Defaults:
    """What was said in a network where everything is at its default address."""

    def __init__(self, lines: list[str], err: str) -> None:
        self.err = err
        self.said: dict[str, str] = dict(line.split("=", 1) for line in lines if "=" in line)


_READY = """
import sys, time, urllib.request
for _ in range(300):
    try:
        with urllib.request.urlopen("http://127.0.0.1:5000/ready", timeout=5) as answer:
            sys.exit(print("ready=" + answer.read().decode()))
    except OSError:
        time.sleep(0.2)
"""
_SESSION = """
"{python}" -m mitosis coordinator --config empty.toml 2>coordinator.err & coordinator=$!
"{python}" ready.py
cat coordinator.err >&2
"{python}" -m mitosis client auth mitosis_admin mitosis_admin >/dev/null
echo "login=$("{python}" -m mitosis client auth --json)"
kill $coordinator; wait $coordinator; echo "status=$?"
"""


@contextlib.contextmanager
def composed() -> Iterator[Defaults]:
    """Start them, run a session, and yield what was said; skips where there is no such network."""
    if subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system allows no network of one's own (unshare --net)")
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    try:
        for command in (
            "openssl genpkey -algorithm ed25519 -out private.pem",
            "openssl pkey -in private.pem -pubout -out public.pem",
        ):
            subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
        (folder / "empty.toml").touch()
        (folder / "ready.py").write_text(_READY)
        (folder / "session.sh").write_text(_SESSION.format(python=sys.executable))
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-m",
             "tests.acceptance.parity.default_addresses", str(ROOT), "sh", "session.sh"],
            cwd=folder, capture_output=True, text=True, timeout=110, check=False,
            env={**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        yield Defaults(done.stdout.splitlines(), done.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
