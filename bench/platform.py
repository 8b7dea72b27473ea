"""A platform in a scratch folder for one benchmark, as a user would start it."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mitosis import MitoClient
from mitosis.config.client import ClientConfig

START_SECONDS = 90.0


@contextlib.contextmanager
def platform(*, workers: int, slots: int) -> Iterator[tuple[Path, ClientConfig]]:
    """Run `mito up`; yield its data folder and the settings of a client."""
    with tempfile.TemporaryDirectory(prefix="mito-bench-") as scratch:
        folder = Path(scratch)
        ready = folder / "ready.json"
        command = [
            sys.executable, "-m", "mitosis", "up", "--data", str(folder / "data"),
            "--workers", str(workers), "--slots", str(slots), "--ready-file", str(ready),
            "--bind", "127.0.0.1:0", "--nats-port", "0", "--log-level", "warning",
        ]  # fmt: skip
        with subprocess.Popen(command, stderr=None) as up:
            try:
                yield folder / "data", _client_config(_await_ready(up, ready), folder)
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
