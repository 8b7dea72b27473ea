"""A worker that keeps its tasks apart: in a namespace, as another user, with chosen variables."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.artifacts.unpack import unpack
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.processes.user import task_user
from mitosis.testing.waiting import eventually, processes_with

from .conftest import Home, Platform, Running, ended, in_shell

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as another user")


class Confined:
    """A worker of its own group, on the shared platform."""

    def __init__(self, platform: Platform, client: SyncMitoClient, home: Home, work: Path) -> None:
        self.client, self.work = client, work
        self.group = f"confined-{os.urandom(3).hex()}"
        client.create_group(self.group)
        self.worker: Running = home.start(
            "worker", "--coordinator", platform.notice["http"], "--groups", self.group,
            "--isolate", "pid", "--run-as", "nobody", "--inherit-env", "LICENCE_SERVER,NOT_SET",
            "--work-dir", work, "-u", platform.notice["admin_user"],
            MITO_PASSWORD=platform.admin_password, LICENCE_SERVER="27000@licence",
        )  # fmt: skip


@pytest.fixture
async def confined(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> AsyncIterator[Confined]:
    work = Path(tempfile.mkdtemp(dir="/tmp"))
    work.chmod(0o755)
    found = Confined(platform, admin, Home(tmp_path / "confined"), work / "mine")
    try:
        await eventually(lambda: len(found.worker.out) > 36 or found.worker.ended(), seconds=60)
        assert not found.worker.ended(), found.worker.err
        yield found
    finally:
        found.worker.close()
        shutil.rmtree(work)


async def test_tasks_are_somebody_else_see_only_themselves_and_die_with_all_helpers(
    confined: Confined, tmp_path: Path
) -> None:
    script = (
        'cd $MITO_RESULT_DIR; id -un > who; echo "$HOME $USER $LICENCE_SERVER" > env;'
        "ls -d /proc/[0-9]* | wc -l > processes; cat ../../../epitaph.json > secret 2> refused"
    )
    tasks = ended(confined.client, in_shell(f"{script}; true", group=confined.group))
    assert tasks[0].outcome is Outcome.SUCCEEDED, tasks[0]
    archive = confined.client.get_artifact(tasks[0].uuid, ArtifactKind.RESULT, tmp_path)
    unpack(archive, tmp_path)
    said = {path.name: path.read_text() for path in (tmp_path / "result").iterdir()}
    nobody = task_user("nobody")
    assert said["who"] == "nobody\n"
    assert said["env"] == f"{nobody.home} nobody 27000@licence\n"
    assert int(said["processes"]) < 8
    assert said["secret"] == ""
    assert "ermission denied" in said["refused"]

    running = confined.client.submit_task(
        in_shell("trap '' TERM; setsid sleep 9753.1 & sleep 9753.1", group=confined.group)
    )
    await eventually(lambda: len(processes_with("sleep\0009753.1")) == 2)
    pids = {confined.worker.process.pid, *_helpers(confined.worker.process.pid)}
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # with the one above it
            os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not processes_with("sleep\0009753.1"), seconds=5)
    confined.client.cancel_task(running.task)


def _helpers(pid: int) -> list[int]:
    """Guardian and runners: what is below a process and is no task."""
    found = []
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        if b"guard/__main__.py" in Path(f"/proc/{child}/cmdline").read_bytes():
            found += [child, *_helpers(child)]
    return found
