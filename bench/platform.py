"""A platform in a scratch folder for one benchmark, as a user would start it."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

from mitosis import MitoClient
from mitosis.config.client import ClientConfig

START_SECONDS = 300.0


class Shape(NamedTuple):
    """How a platform is started; see `mito up`."""

    workers: int
    slots: int = 2
    relaxed: bool = False


class Up(NamedTuple):
    """A platform that serves: its data folder, the settings of a client, its HTTP endpoint."""

    data: Path
    config: ClientConfig
    http: str


@contextlib.contextmanager
def platform(*, workers: int, slots: int, relaxed: bool = False) -> Iterator[Up]:
    """Run `mito up` in a scratch folder, with synced commits unless `relaxed`."""
    with tempfile.TemporaryDirectory(prefix="mito-bench-") as scratch:
        folder = Path(scratch)
        ready = folder / "ready.json"
        command = [
            sys.executable, "-m", "mitosis", "up", "--data", str(folder / "data"),
            "--workers", str(workers), "--slots", str(slots), "--ready-file", str(ready),
            "--bind", "127.0.0.1:0", "--nats-port", "0", "--log-level", "warning",
            *(["--relaxed-sync"] if relaxed else []),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as up:
            try:
                notice = _await_ready(up, ready)
                yield Up(folder / "data", _client_config(notice, folder), notice["http"])
            finally:
                up.terminate()
                up.wait()


def _await_ready(up: "subprocess.Popen[bytes]", ready: Path) -> dict[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if up.poll() is not None:
            raise SystemExit(f"mito up ended with status {up.returncode}")
        if time.monotonic() > deadline:
            raise SystemExit(f"mito up was not ready after {START_SECONDS:g} s")
        time.sleep(0.05)
    notice: dict[str, str] = json.loads(ready.read_text())
    return notice


def _client_config(notice: dict[str, str], folder: Path) -> ClientConfig:
    return ClientConfig(
        coordinator_addr=notice["nats"],
        credential_path=folder / "credentials",
        user=notice["admin_user"],
        password=Path(notice["admin_password_file"]).read_text().strip(),
    )


@contextlib.asynccontextmanager
async def connected(config: ClientConfig) -> AsyncIterator[MitoClient]:
    """Yield a connected client."""
    async with MitoClient(config) as client:
        yield client
