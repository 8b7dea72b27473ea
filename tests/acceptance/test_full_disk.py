"""The disk under NATS is full: commands are refused with the reason, and then all goes on."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.contract.commands import Submitted
from mitosis.domain.task import Outcome
from mitosis.errors import Unavailable
from mitosis.services.platform.folder import DataFolder
from mitosis.testing.disks import can_mount, scratch_disk
from mitosis.testing.waiting import eventually

from .conftest import Platform, in_shell


async def test_a_full_disk_refuses_commands_with_the_reason_and_all_goes_on_when_there_is_space(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount")
    platform = make_platform(workers=1, slots=2)
    gate, beats = tmp_path / "gate", tmp_path / "beats"
    folder = DataFolder(platform.data)
    folder.open()  # makes it
    folder.close()
    with scratch_disk(platform.data / "nats", size_bytes=96 << 20) as disk:
        try:
            await platform.start()
            with SyncMitoClient(platform.config()) as client:
                running = client.submit_task(
                    in_shell(f"echo $$ >> {beats}; until [ -e {gate} ]; do sleep 0.05; done")
                )
                await eventually(beats.exists)
                disk.fill()
                acknowledged = [running, *_submit_until_refused(platform)]
                full = "no space left on device"
                await eventually(lambda: _says(_ready(platform), 503, full), seconds=30)
                refused = await asyncio.to_thread(
                    platform.client, "--timeout", "3s", "auth", "mitosis_admin",
                    platform.admin_password,
                )  # fmt: skip
                assert refused.status == 6, refused
                assert full in refused.complaint
                assert "Free space" in refused.complaint
                # What runs goes on, and reads are answered.
                assert client.get_task(running.task).uuid == running.task
                disk.heal()
                acknowledged.append(client.submit_task(in_shell("true")))
                gate.touch()
                views = client.wait_for_tasks(acknowledged)
                assert {(v.outcome, v.attempt) for v in views} == {(Outcome.SUCCEEDED, 1)}
                assert len(beats.read_text().split()) == 1
                await eventually(lambda: _ready(platform)[0] == 200, seconds=30)
            assert "NATS is restarted" in platform.supervisor.err
            config = platform.data / "config" / "coordinator.toml"
            verified = platform.home.run("events", "verify", "--config", config)
            assert verified.status == 0, verified.err
        finally:
            platform.close()


def _says(answer: tuple[int, str], status: int, text: str) -> bool:
    """Of one answer: the next may be another, since NATS is restarted while its disk is full."""
    return answer[0] == status and text in answer[1]


def _submit_until_refused(platform: Platform) -> list[Submitted]:
    """The last file of the store has room for some more."""
    acknowledged = []
    with SyncMitoClient(platform.config(timeout=timedelta(seconds=3))) as hasty:
        hasty.whoami()
        try:
            while True:
                acknowledged.append(hasty.submit_task(in_shell("true")))
        except Unavailable:
            return acknowledged


def _ready(platform: Platform) -> tuple[int, str]:
    """Status of `/ready`, and what the coordinator's log says."""
    host, _, port = platform.notice["http"].removeprefix("http://").rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        json.loads(answer.read())
        return answer.status, (platform.data / "logs" / "coordinator.log").read_text()
    finally:
        connection.close()
