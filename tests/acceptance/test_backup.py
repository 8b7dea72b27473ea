"""Backup and restore by `mito`: a data folder that is lost, and an older stream put back."""

import asyncio
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.domain.task import ArtifactKind, Outcome

from .conftest import Done, Platform, ended, in_shell

RESULT = in_shell("echo $MITO_TASK_UUID > $MITO_RESULT_DIR/it; echo done")


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mito-test-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def put_file(client: SyncMitoClient, folder: Path, key: str, content: bytes) -> None:
    path = folder / "to-upload"
    path.write_bytes(content)
    client.upload_attachment(path, key)


def get_file(client: SyncMitoClient, folder: Path, key: str) -> bytes:
    group = client.get_attachments().attachments[0].group
    return client.get_attachment(group, key, folder / f"downloaded-{key}").read_bytes()


def operate(platform: Platform, verb: str, *arguments: str | Path) -> Done:
    return platform.home.run(verb, *arguments, "--json", seconds=180)


async def test_a_lost_data_folder_comes_back_with_all_that_the_backup_has(
    folder: Path,
) -> None:
    platform = Platform(folder / "a", workers=1, slots=2)
    backup = folder / "backup"
    try:
        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            put_file(client, folder, "input", b"some bytes")
            tasks = ended(client, *[RESULT] * 3)
            client.create_group("quiet")
            waiting = client.submit_task(SubmitTaskArgs(command=("true",), group="quiet"))
            checksum = client.get_artifact_link(tasks[0].uuid, ArtifactKind.RESULT).sha256
            done = operate(platform, "backup", backup, "--data", platform.data)  # it runs meanwhile
            assert (done.status, done.json["objects"], done.err) == (0, 4, ""), done
            lost = client.submit_task(in_shell("true"))
        modes = {stat.S_IMODE(path.lstat().st_mode) for path in [backup, *backup.rglob("*")]}
        assert modes == {0o700, 0o600}
        refused = operate(platform, "restore", backup, "--data", platform.data)
        assert (refused.status, "is in use by process" in refused.json["error"]["message"]) == (
            1, True,
        ), refused  # fmt: skip
        platform.supervisor.stop()
        shutil.rmtree(platform.data)
        restored = operate(platform, "restore", backup, "--data", platform.data)
        assert restored.status == 0, restored
        assert (restored.json["objects"], restored.json["missing"]) == (4, 0)
        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            views = [client.get_task(task.uuid) for task in tasks]
            assert views == tasks
            assert get_file(client, folder, "input") == b"some bytes"
            link = client.get_artifact_link(tasks[0].uuid, ArtifactKind.RESULT)
            assert link.sha256 == checksum
            path = client.get_artifact(tasks[0].uuid, ArtifactKind.RESULT, folder)
            assert path.stat().st_size > 0
            client.cancel_task(waiting.task)
            assert not [t for t in client.get_tasks().tasks if t.uuid == lost.task]
            # The next number is given again: that task is not in this history.
            (later,) = ended(client, RESULT)
            assert (later.number, later.outcome) == (lost.number, Outcome.SUCCEEDED)
        config = platform.data / "config" / "coordinator.toml"
        verified = operate(platform, "events", "verify", "--config", config)
        assert verified.status == 0, verified
        assert "Traceback" not in platform.supervisor.err
    finally:
        platform.close()


@pytest.mark.timeout(300)  # three starts of a platform, and one that is refused after five tries
async def test_an_older_stream_is_refused_by_name_and_brought_up_to_date_from_the_archive(
    folder: Path,
) -> None:
    platform = Platform(folder / "b", workers=1, slots=2)
    backup, older = folder / "backup", folder / "older"
    store = platform.data / "nats" / "jetstream"
    try:
        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            first = ended(client, RESULT)
        platform.supervisor.stop()
        done = operate(platform, "backup", backup, "--data", platform.data)  # its servers are run
        assert done.status == 0, done
        shutil.copytree(store, older)
        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            put_file(client, folder, "later", b"newer than the backup")
            later = ended(client, RESULT)
        platform.supervisor.stop()

        shutil.rmtree(store)
        older.rename(store)
        running = platform.home.start(*platform.arguments)
        try:
            status = await asyncio.to_thread(running.wait, 120)
            assert status == 6  # the platform does not serve
            assert "its archive has commits up to" in running.err
            assert f"ends at position {done.json['position']}" in running.err
            assert "mito events repair" in running.err
        finally:
            running.close()

        restored = operate(platform, "restore", backup, "--data", platform.data)
        assert restored.status == 0, restored
        assert restored.json["commits"] > 0
        assert restored.json["backup_position"] == done.json["position"]
        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            assert [client.get_task(t.uuid) for t in [*first, *later]] == [*first, *later]
            assert get_file(client, folder, "later") == b"newer than the backup"
    finally:
        platform.close()
