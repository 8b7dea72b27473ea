"""`mito up` on a host that nobody has prepared (R-25)."""

import asyncio
import contextlib
import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mitosis import ClientConfig, SyncMitoClient
from mitosis.config.client import GetTasksArgs
from mitosis.domain.task import Outcome
from mitosis.testing.waiting import eventually

from .conftest import MITO, Home, Running, ended, in_shell

LONG = "données de l'été " + "x" * 110  # a relative folder, longer than a socket's path may be

# A user namespace makes the user root in it, as in a container, and allows the mount.
_MOUNTED = (
    'mkdir -p "$0" && mount -t tmpfs -o noexec,size=600m tmpfs "$0" && cd "$0/.." && exec "$@"'
)


class Bare(NamedTuple):
    """A platform, and how to read what it wrote."""

    running: Running
    notice: dict[str, str]
    password: str


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    """As root of a namespace, on a noexec mount, with a locale that is not there and no HOME."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    home = Home(folder)
    ready = folder / "ready.json"
    environment = {**home.environment, "LC_ALL": "xx_YY.UTF-8", "LANG": "C"}
    del environment["HOME"]
    command = [
        *MITO, "up", "--data", f"{LONG}/data", "--bind", "127.0.0.1:0", "--nats-port", "0",
        "--ready-file", str(ready),
    ]  # fmt: skip
    data = home.folder / LONG
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode == 0:
        command = [*namespace, "sh", "-c", _MOUNTED, str(data), *command]
    running = Running(command, environment, home.folder)
    try:

        def serves() -> bool:
            assert not running.ended(), running.err
            return ready.exists()

        asyncio.run(eventually(serves, seconds=90))
        notice = json.loads(ready.read_bytes())
        root = Path(f"/proc/{running.process.pid}/root")  # the mount is in its namespace only
        file = Path(f"{root}{notice['admin_password_file']}")
        yield Bare(running, notice, file.read_text().strip())
    finally:
        if not running.ended():
            running.stop()
        running.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parity("R-25")
def test_a_platform_serves_on_a_host_that_nobody_has_prepared(bare: Bare, tmp_path: Path) -> None:
    config = ClientConfig(
        coordinator_addr=bare.notice["nats"],
        credential_path=tmp_path / f"credentials-{secrets.token_hex(4)}",
        user=bare.notice["admin_user"],
        password=bare.password,
    )
    assert len(bare.notice["data"]) > 120
    assert "été" in bare.notice["data"]
    with contextlib.closing(SyncMitoClient(config)) as client:
        (view,) = ended(client, in_shell("echo 日本 > $MITO_RESULT_DIR/é", labels=("日本",)))
        assert view.outcome is Outcome.SUCCEEDED
        (found,) = client.get_tasks(GetTasksArgs(labels=("日本",))).tasks
        assert found.uuid == view.uuid
        assert client.get_tasks(GetTasksArgs(labels=("本日",))).tasks == []
    assert bare.running.stop() == 0
    assert "Traceback" not in bare.running.err


@pytest.mark.parity("R-25")
def test_a_data_folder_that_cannot_be_is_named_in_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (home.folder / "file").touch()
    places = ["/proc/none", str(home.folder / "file"), str(home.folder / "file" / "below")]
    for done, place in zip(
        home.run_all([["up", "--data", p] for p in places]), places, strict=True
    ):
        assert done.status == 1, done
        assert place in done.complaint
        assert "Traceback" not in done.err


@pytest.mark.parity("R-25")
def test_an_account_that_is_in_no_list_and_has_no_home_is_served_too(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tmp_path.chmod(0o755)
    environment = {**home.environment}
    del environment["HOME"]
    command = [*MITO, "config", "show", "--json", "client"]
    if (
        shutil.which("setpriv")
        and subprocess.run(["id", "-u"], capture_output=True, check=True).stdout == b"0\n"
    ):
        command = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", *command]
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"]
