"""A platform whose event stream was damaged is made whole again by `mito events repair`."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis import SyncMitoClient

from .conftest import Done, Platform, ended, eventually, in_shell

STREAM = Path("nats/jetstream/MITO/streams/MITO_EVENTS")


@pytest.fixture
def root() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="mito-test-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def repair(platform: Platform, *arguments: str | Path) -> Done:
    return platform.home.run(
        "events", "repair", "--data", platform.data, *arguments, "--json", seconds=180
    )


@pytest.mark.timeout(300)  # three starts of a platform, one of which is refused after five tries
async def test_a_platform_whose_messages_are_gone_says_what_to_do_and_serves_again_after_it(
    root: Path,
) -> None:
    platform = Platform(root, workers=1, slots=2)
    try:
        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            tasks = ended(client, *[in_shell("echo here")] * 2)
        refused = repair(platform)
        assert refused.status == 5, refused
        assert "stop it first" in refused.json["error"]["message"]
        platform.supervisor.stop()

        shutil.rmtree(platform.data / STREAM / "msgs")
        running = platform.home.start(*platform.arguments)
        try:
            await eventually(running.ended, seconds=120)
            assert running.wait() == 6, "it does not serve"
            assert "`mito events repair --data FOLDER`" in running.err
        finally:
            running.close()

        looked = repair(platform)
        assert looked.status == 1, looked
        known = looked.json["known"]
        assert (looked.json["done"], looked.json["missing"], looked.json["lost"]) == (
            False,
            known,
            0,
        )

        # Killed at its worst moment: the damaged files are away, the new stream is not there.
        kept = platform.data / "nats" / "repaired"
        killed = platform.home.start("events", "repair", "--data", str(platform.data), "--yes")
        try:
            await eventually(lambda: any(kept.glob("*/MITO_EVENTS")), seconds=60)
            os.killpg(killed.process.pid, signal.SIGKILL)
            assert killed.wait() == -signal.SIGKILL
        finally:
            killed.close()
        done = repair(platform, "--yes")
        assert done.status == 0, done
        assert (done.json["done"], done.json["missing"], done.json["position"]) == (
            True,
            known,
            known,
        )
        assert Path(done.json["kept"]).parent == kept
        assert (Path(done.json["kept"]) / "MITO_EVENTS").is_dir()

        await platform.start()
        with SyncMitoClient(platform.config()) as client:
            assert [client.get_task(task.uuid) for task in tasks] == tasks
            ended(client, in_shell("echo again"))
        config = platform.data / "config" / "coordinator.toml"
        verified, exported = platform.home.run_all(
            [
                ("events", "verify", "--config", config, "--json"),
                ("events", "export", "--config", config, "--from", str(known + 1)),
            ]
        )
        assert (verified.status, verified.json["found"]) == (0, 0), verified
        told = exported.text.splitlines()[0]
        assert "platform.stream_repaired@1" in told
        assert f'"position":{known},' in told
        assert f'"missing":{known},' in told
    finally:
        platform.close()
