"""`mito up`: what it says, what it leaves, and what it finds again."""

import json
import secrets
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import CreateUserArgs, GetTasksArgs
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.testing.waiting import eventually

from .conftest import MITO, Done, Home, Platform, in_shell


def test_the_ready_file_says_all_that_a_script_needs_and_is_private(platform: Platform) -> None:
    assert set(platform.notice) == {"nats", "http", "admin_user", "admin_password_file", "data"}
    assert stat.S_IMODE(platform.ready_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(platform.notice["admin_password_file"]).stat().st_mode) == 0o600
    assert stat.S_IMODE(platform.data.stat().st_mode) == 0o700
    assert platform.notice["data"] == str(platform.data)


def test_the_announced_lines_work_when_pasted_into_a_shell(
    platform: Platform, tmp_path: Path
) -> None:
    announced = platform.supervisor.out
    lines = [line.strip() for line in announced.splitlines() if "mito client" in line]
    assert len(lines) == 2, announced
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "mito"
    program.write_text(f'#!/bin/sh\nexec {MITO[0]} -m mitosis "$@"\n')
    program.chmod(0o700)
    environment = {**platform.home.environment, "HOME": str(tmp_path)}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    pasted = subprocess.run(
        ["sh", "-e"], input="\n".join(lines), env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (pasted.returncode, pasted.stderr) == (0, "")
    said, task = pasted.stdout.splitlines()
    assert said == "Logged in as mitosis_admin (administrator)"
    assert len(task) == 36
    assert platform.admin_password not in announced


def test_a_second_platform_on_the_same_folder_is_refused(platform: Platform) -> None:
    other = platform.home.folder / "other-ready"
    done = platform.home.run("up", "--data", platform.data, "--ready-file", other)
    assert done.status == 1
    assert str(platform.data) in done.complaint
    assert not other.exists()
    assert platform.ready_file.exists()
    assert platform.client("auth", more={"HOME": str(other)}).status == 4  # it still answers


async def test_relaxed_syncs_are_chosen_by_name_and_warned_of(
    make_platform: Callable[..., Platform],
) -> None:
    platform = await make_platform(workers=0).add("--relaxed-sync").start()
    assert "sync_interval" not in (platform.data / "nats" / "nats.conf").read_text()
    log = (platform.data / "logs" / "coordinator.log").read_text()
    assert "a power cut may lose acknowledged commits" in log


def test_the_folder_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    home, data = Home(tmp_path), tmp_path / "data"
    data.mkdir()
    mark = data / "mitosis.json"
    mark.write_text(
        json.dumps({"format": 99, "made_by": "7.6.5", "made_at": "2031-01-01T00:00:00Z"})
    )
    before = mark.read_bytes()
    done = home.run("up", "--data", data)
    assert done.status == 1
    version = home.run("--version").text
    assert "7.6.5" in done.complaint
    assert version.split()[-1] in done.complaint
    assert mark.read_bytes() == before
    assert sorted(item.name for item in data.iterdir()) == ["mitosis.json", "supervisor.lock"]


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--workers", "-1"], 2, "--workers"),
        (["--slots", "0"], 2, "--slots"),
        (["--bind", "nowhere"], 2, "--bind"),
        (["--bind", "127.0.0.1:port"], 2, "--bind"),
        (["--bind", "0.0.0.0:0"], 2, "--bind"),
        (["--nats-port", "70000"], 2, "--nats-port"),
        (["--log-level", "loud"], 2, "--log-level"),
        (["--ready-file", "no/such/folder/ready"], 1, "no/such/folder"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_starts(
    tmp_path: Path, options: list[str], status: int, words: str
) -> None:
    data = tmp_path / "data"
    done = Home(tmp_path).run("up", "--data", data, *options)
    assert (done.status, words in done.complaint) == (status, True), done
    assert not (data / "nats").exists() or not list((data / "nats").iterdir())


def test_a_port_that_is_asked_for_and_taken_is_refused(platform: Platform, tmp_path: Path) -> None:
    home = Home(tmp_path)
    address = platform.notice["http"].removeprefix("http://")
    http = home.run("up", "--data", tmp_path / "data", "--bind", address)
    assert (http.status, address in http.complaint) == (1, True), http
    port = platform.notice["nats"].rpartition(":")[2]
    nats = home.run("up", "--data", tmp_path / "data", "--nats-port", port)
    assert (nats.status, port in nats.complaint) == (1, True), nats
    assert home.processes() == []


async def test_what_was_killed_leaves_no_orphan_and_comes_back_whole(
    make_platform: Callable[..., Platform],
) -> None:
    platform = await make_platform(workers=1, slots=1).start()
    first = platform.notice
    with SyncMitoClient(platform.config()) as client:
        client.create_user(CreateUserArgs(username="bob", password="bob's password"))
        client.create_group("lab")
        kept = client.submit_task(in_shell("echo kept > $MITO_RESULT_DIR/file"))
        (before,) = client.wait_for_tasks([kept])
        assert before.outcome is Outcome.SUCCEEDED
        running = client.submit_task(in_shell("exec sleep 1000"))
        waiting = [client.submit_task(in_shell(f"echo {n}")) for n in range(3)]
        await eventually(lambda: client.get_task(running.task).started_at)
    assert platform.children("sleep 1000")

    platform.supervisor.process.kill()
    platform.supervisor.wait()
    await eventually(lambda: not platform.home.processes(), seconds=30)

    await platform.start()
    assert platform.notice == first
    with SyncMitoClient(platform.config("bob", "bob's password")) as bob:
        assert bob.whoami().username == "bob"
    with SyncMitoClient(platform.config()) as client:
        assert "lab" in client.get_groups()
        assert client.get_task(kept.task) == before
        path = client.get_artifact(kept.task, ArtifactKind.RESULT, platform.home.folder / "r.tgz")
        assert path.stat().st_size == before.artifacts[0].size_bytes
        known = [task.uuid for task in client.get_tasks(GetTasksArgs()).tasks]
        assert known == [kept.task, running.task, *(one.task for one in waiting)]

        def again() -> bool:
            task = client.get_task(running.task)
            return task.attempt == 2 and task.started_at is not None

        await eventually(again, seconds=60)
        client.cancel_task(running.task)
        ends = client.wait_for_tasks([running, *waiting])
        assert [one.outcome for one in ends[1:]] == [Outcome.SUCCEEDED] * 3

    # Ctrl-C, as a terminal gives it: to the supervisor; its children have sessions of their own.
    assert platform.supervisor.stop(signal.SIGINT) == 0
    assert platform.home.processes() == []
    assert not platform.ready_file.exists()
    assert "Traceback" not in platform.supervisor.err


def test_a_version_is_said_without_any_service(tmp_path: Path) -> None:
    done: Done = Home(tmp_path).run("--version")
    assert (done.status, done.err) == (0, "")


@pytest.mark.parity("D-069")
async def test_a_changed_password_of_the_administrator_has_two_ways_back(
    make_platform: Callable[..., Platform],
) -> None:
    platform = await make_platform(workers=1, slots=1).start()
    file = Path(platform.notice["admin_password_file"])
    old, new = platform.admin_password, secrets.token_hex(12)
    with SyncMitoClient(platform.config()) as client:
        client.change_password(old, new)
    assert platform.supervisor.stop() == 0

    with pytest.raises(AssertionError, match="password of mitosis_admin has been changed") as said:
        await platform.start()
    assert str(file) in str(said.value)
    assert platform.supervisor.wait() == 1

    file.write_text(f"{new}\n")
    await platform.start()
    with SyncMitoClient(platform.config()) as client:
        assert client.whoami().admin
    assert platform.supervisor.stop() == 0

    file.write_text(f"{old}\n")
    await platform.add("--reset-admin-password").start()
    with SyncMitoClient(platform.config()) as client:
        assert client.whoami().admin
