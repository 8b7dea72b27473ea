"""Large files, interrupted and broken transfers; parts of the platform are stopped and killed."""

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetAttachmentsArgs
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.testing.waiting import eventually

from .conftest import MITO, Platform, ended, in_shell
from .parity.terminals import Terminal

MIB = 1 << 20
LARGE = 200 * MIB


@pytest.fixture(scope="module")
def fragile() -> Iterator[Platform]:
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    platform = Platform(folder, workers=1, slots=1)
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            yield runner.run(platform.start())
        finally:
            platform.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def client(fragile: Platform) -> Iterator[SyncMitoClient]:
    done = fragile.client("auth", fragile.notice["admin_user"], fragile.admin_password)
    assert done.status == 0, done.err
    with SyncMitoClient(fragile.config()) as one:
        yield one


@pytest.fixture(scope="module")
def own(fragile: Platform) -> str:
    """The group of the one who acts."""
    return fragile.notice["admin_user"]


@pytest.fixture(scope="module")
def large(fragile: Platform) -> Path:
    """Far above one part; mostly a hole, with different bytes in each part."""
    path = fragile.home.folder / "large.bin"
    with path.open("wb") as out:
        for offset in range(0, LARGE, 50 * MIB):
            out.seek(offset)
            out.write(os.urandom(1000))
        out.truncate(LARGE)
    return path


def checksum(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def peak_kib(platform: Platform, *arguments: str | Path) -> int:
    """The largest memory that `mito client` had; it must succeed."""
    command = [*MITO, "client", "-c", platform.notice["http"], *map(str, arguments)]
    process = subprocess.Popen(
        command, env=platform.home.environment, cwd=platform.home.folder,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss


@pytest.mark.parity("D-051")
def test_a_large_file_goes_in_parts_and_comes_back_with_the_memory_of_a_small_one(
    fragile: Platform, client: SyncMitoClient, large: Path, tmp_path: Path, own: str
) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"1")
    usual = peak_kib(fragile, "upload", "attachment", small, "small")
    assert peak_kib(fragile, "upload", "attachment", large, "large") < usual + 16 * 1024
    usual = peak_kib(fragile, "get", "attachment", own, "small", "-o", tmp_path / "1")
    back = tmp_path / "back"
    peak = peak_kib(fragile, "get", "attachment", own, "large", "-o", back)
    assert peak < usual + 16 * 1024
    assert checksum(back) == checksum(large)
    assert client.get_attachment_meta(own, "large").sha256 == checksum(large)


def test_an_output_of_a_task_may_be_large(client: SyncMitoClient, tmp_path: Path) -> None:
    script = 'head -c 70000000 /dev/urandom | tee "$MITO_RESULT_DIR/big" | sha256sum'
    (view,) = ended(client, in_shell(script))
    assert (view.outcome, view.warnings) == (Outcome.SUCCEEDED, [])
    path = client.get_artifact(view.uuid, ArtifactKind.RESULT, tmp_path)
    assert path.stat().st_size > 64 * MIB
    with tarfile.open(path) as tar:
        content = tar.extractfile("result/big")
        assert content is not None
        assert view.exit is not None
        assert hashlib.file_digest(content, "sha256").hexdigest() in view.exit.stdout_tail


def test_ctrl_c_ends_an_upload_at_once_and_leaves_nothing_stored_or_reserved(
    fragile: Platform, client: SyncMitoClient, large: Path, own: str
) -> None:
    used = client.get_group(own).storage_used_bytes
    client.set_storage_quota(own, f"={used + LARGE}")
    arguments = ("-c", fragile.notice["http"], "upload", "attachment", large, "interrupted")
    terminal = Terminal(*arguments, home=fragile.home.folder)
    try:
        terminal.child.expect(r"Uploading large\.bin.* MB/s.*\d:\d\d:\d\d")
        terminal.send("\x03")
        assert terminal.ends() == 130
    finally:
        terminal.close()
    assert "interrupted" in terminal.said
    assert client.get_attachments(GetAttachmentsArgs(prefix="interrupted")).total == 0
    # All of the quota is free again, not in an hour.
    client.upload_attachment(large, "fits")
    assert client.get_group(own).storage_used_bytes == used + LARGE
    client.delete_attachment(own, "fits")
    client.set_storage_quota(own, "=16GB")


@pytest.mark.parity("D-051")
async def test_ctrl_c_ends_a_download_at_once_and_leaves_no_partial_file(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path, own: str
) -> None:
    """The store is stopped, so the command waits for bytes that do not come."""
    source, folder = tmp_path / "source", tmp_path / "into"
    source.write_bytes(b"content")
    folder.mkdir()
    (folder / "wanted").write_text("older")
    client.upload_attachment(source, "wanted")
    store = fragile.child("weed", "-s3.port")
    os.kill(store, signal.SIGSTOP)
    running = fragile.home.start(
        "client", "-c", fragile.notice["http"], "get", "attachment", own, "wanted",
        "-o", folder,
    )  # fmt: skip
    try:
        await eventually(lambda: len(list(folder.iterdir())) == 2, seconds=30)
        running.process.send_signal(signal.SIGINT)
        assert running.wait(5) == 130
        assert running.err == "mito: interrupted\n"
    finally:
        running.close()
        os.kill(store, signal.SIGCONT)
    assert [path.name for path in folder.iterdir()] == ["wanted"]
    assert (folder / "wanted").read_text() == "older"
    client.get_attachment(own, "wanted", folder)
    assert (folder / "wanted").read_text() == "content"


@pytest.mark.parity("D-080")
def test_a_coordinator_that_is_killed_during_an_upload_costs_a_new_beginning_and_no_more(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path, own: str
) -> None:
    """What was there stays until the new file is whole, and the sum stays exact."""
    source = tmp_path / "source"
    source.write_bytes(b"old")
    client.upload_attachment(source, "replaced")
    used = client.get_group(own).storage_used_bytes
    source.write_bytes(os.urandom(20 * MIB))
    killed: list[int] = []
    seen: list[int] = []

    def kill_once(done: int, _: int) -> None:
        seen.append(done)
        if not killed and done > MIB:
            killed.append(fragile.child("mitosis coordinator"))
            os.kill(killed[0], signal.SIGKILL)

    done = client.upload_attachment(source, "replaced", progress=kill_once)
    assert killed
    assert (done.size_bytes, done.replaced) == (20 * MIB, True)
    assert fragile.child("mitosis coordinator") != killed[0]
    assert client.get_group(own).storage_used_bytes == used + 20 * MIB - len(b"old")
    assert client.get_attachment(own, "replaced", tmp_path / "back").read_bytes() == (
        source.read_bytes()
    )
