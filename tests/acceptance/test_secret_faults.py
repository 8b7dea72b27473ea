"""Secret variables when something dies, is lost and brought back, or has three copies."""

import base64
import binascii
import contextlib
import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mitosis import MitoClient, SyncMitoClient
from mitosis.client.output_source import OutputChunk
from mitosis.config.client import GetEventsArgs, SubmitTaskArgs, WatchTasksArgs
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskState
from mitosis.events.messages import request
from mitosis.events.secret_keys import STREAM, SecretKeys
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import open_store_client
from mitosis.services.worker.core import PATIENCE_SECONDS
from mitosis.testing.servers import S3Server
from mitosis.testing.waiting import eventually

from .conftest import Person, Platform, Site, ended, in_shell, side_by_side
from .test_cluster import NAMES, Cluster
from .test_following import text_of, wait_for
from .test_secrets import Heard, digest_of, files_with, keys_of, token_of


@pytest.fixture
def site(database: str, s3_server: S3Server) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    made = Site(folder / "site", database, s3_server)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


def spoken(heard: Heard) -> bytes:
    """Everything that a connection has heard; what is in Base64 also as it is without."""
    found = b"".join(heard.messages)
    for text in re.findall(rb"[A-Za-z0-9+/=]{8,}", found):
        with contextlib.suppress(binascii.Error):
            found += b"\n" + base64.b64decode(text, validate=True)
    return found


def says_its_secret(told: Path) -> str:
    """A script that notes what it was given, each attempt in a line."""
    return f'echo "$MITO_ATTEMPT $(printf %s "$TOKEN" | sha256sum)" >> {told}'


def attempts_told(told: Path) -> list[list[str]]:
    return [line.split()[:2] for line in told.read_text().splitlines()] if told.exists() else []


@pytest.mark.timeout(240)  # a dozen commands
async def test_who_may_only_read_hears_and_finds_stars_wherever_they_look(
    platform: Platform, admin: SyncMitoClient, person: Person, tmp_path: Path
) -> None:
    """What is stored, live, followed, collected and told of before; the rest is closed to them."""
    group, value = platform.notice["admin_user"], secrets.token_hex(24)
    admin.change_members(group, {person.name: Role.READ})
    person.client.get_group(group)  # let in anew, with the new role
    go, label = tmp_path / "go", f"secret-{secrets.token_hex(4)}"
    script = f'echo "it is $TOKEN"; {wait_for(go)}; echo "$TOKEN" >&2'
    args = in_shell(script, secret_envs={"TOKEN": value}, terminal=True, labels=(label,))
    token = token_of(person.client)
    hears = [f"mito.{what}.{group}.>" for what in ("live.task", "live.attachment", "output")]
    closed = ("mito.live.secret.>", "mito.secrets.>", f"mito.work.{group}.>", "mito.svc.>",
              "mito.events.>", "mito.control.>", "mito.worker.>")  # fmt: skip
    ears = [await Heard().listen(platform, *hears, token=token)]
    ears += [await Heard().listen(platform, subject, token=token) for subject in closed]
    try:
        submitted = admin.submit_task(args)
        seen = []
        for event in person.client.follow([submitted]):
            seen.append(event)
            if isinstance(event, OutputChunk):
                go.touch()
        stars = b"*" * len(value)
        assert (text_of(seen), text_of(seen, "stderr")) == (
            b"it is " + stars + b"\n",
            stars + b"\n",
        )
        (view,) = ended(person.client, submitted)
        assert view.outcome is Outcome.SUCCEEDED
        for ear in ears:
            if not ear.client.is_closed:
                await ear.client.flush()
        heard = spoken(ears[0])
        assert b"task.committed" in heard
        assert stars in heard, "what was followed came by there"
        assert value.encode() not in heard
        assert [ear.messages for ear in ears[1:]] == [[]] * len(closed)
    finally:
        for ear in ears:
            await ear.client.close()
    rerun = admin.submit_task(SubmitTaskArgs(command=("true",), labels=(label,)))
    commands = (
        ("get", "task", view.uuid), ("get", "task", view.uuid, "--json"),
        ("get", "tasks", "-g", group, "-l", label, "-v"),
        ("get", "tasks", "-g", group, "-l", label, "--json"),
        ("get", "task", view.uuid, "--json", "--as-of", "today"),
        ("history", "task", view.uuid), ("history", "task", view.uuid, "--json"),
        ("follow", view.uuid), ("watch", view.uuid, "--since", "yesterday", "--json"),
        ("explain", view.uuid), ("diff", view.uuid, rerun.task),
        ("top", "--json", "-g", group),
        ("get", "artifact", view.uuid, "std-log", "-o", tmp_path, "--extract"),
    )  # fmt: skip
    for command, done in zip(
        commands, side_by_side(lambda line: person.shell(*line), commands), strict=True
    ):
        assert done.status in {0, 1, 3}, done
        assert value not in done.out.decode() + done.err, command
    assert list(tmp_path.rglob("stdout.log"))
    assert files_with(value.encode(), tmp_path) == []
    wanted = GetEventsArgs(kind="secret", group=group)
    commits = list(person.client.each_event(wanted))
    assert {event.withheld for commit in commits for event in commit.events} == {("sealed",)}
    changes = person.client.watch_changes(WatchTasksArgs(tasks=(view.uuid,), after=0))
    assert value not in repr(list(changes)) + repr(commits)


@pytest.mark.timeout(240)
async def test_a_task_has_its_secret_again_after_its_worker_and_the_coordinator_were_killed(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    """The third attempt is given its secret by a coordinator that has never seen it in clear."""
    platform = await make_platform(workers=1, slots=1).start()
    value, told = secrets.token_hex(24), tmp_path / "told"
    seconds, third = tmp_path / "second", tmp_path / "third"
    script = (
        f"{says_its_secret(told)}; case $MITO_ATTEMPT in 1) sleep 600;; "
        f"2) {wait_for(seconds)}; exit 3;; *) {wait_for(third)};; esac"
    )
    async with MitoClient(platform.config()) as client:
        submitted = await client.submit_task(
            in_shell(script, secret_envs={"TOKEN": value}, retries=1, retry_delay="100ms")
        )
        await eventually(lambda: len(attempts_told(told)) == 1, seconds=60)
        os.kill(platform.child("mitosis worker"), signal.SIGKILL)
        await eventually(lambda: len(attempts_told(told)) == 2, seconds=60)
        os.kill(platform.child("mitosis coordinator"), signal.SIGKILL)
        seconds.touch()
        await eventually(lambda: len(attempts_told(told)) == 3, seconds=60)
        assert len(await keys_of(platform)) == 1, "it is needed until the end"
        third.touch()
        (view,) = await client.wait_for_tasks([submitted])
        assert (view.outcome, view.attempt) == (Outcome.SUCCEEDED, 3)
    assert attempts_told(told) == [[str(n), digest_of(value)] for n in (1, 2, 3)]

    async def destroyed() -> bool:
        return not await keys_of(platform)

    await eventually(destroyed)
    assert files_with(value.encode(), platform.data, platform.home.folder) == []
    assert "Traceback" not in platform.supervisor.err


@pytest.mark.timeout(240)
async def test_a_restored_platform_has_no_secret_and_says_so_of_each_task_that_needs_one(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    """One ended before the backup, one waited: it is submitted again with its secret."""
    platform = await make_platform(workers=1, slots=1).start()
    value, backup = secrets.token_hex(24), tmp_path / "backup"
    proof = f'test "$TOKEN" = {value[:20]}"{value[20:]}"'  # the command holds it in two parts
    with SyncMitoClient(platform.config()) as client:
        (before,) = ended(client, in_shell(proof, secret_envs={"TOKEN": value}))
        holder = client.submit_task(in_shell("sleep 600"))
        waiting = client.submit_task(in_shell("true", secret_envs={"TOKEN": value}))
        # The worker gets it ahead and gives it back; else it would wait for a lease when restored.
        ahead = time.monotonic() + 2 * PATIENCE_SECONDS
        await eventually(
            lambda: (
                time.monotonic() > ahead and client.get_task(waiting.task).state is TaskState.READY
            )
        )
        kept = platform.home.run("backup", backup, "--data", platform.data, seconds=180)
        assert kept.status == 0, kept
    assert files_with(value.encode(), backup) == []
    platform.supervisor.stop()
    shutil.rmtree(platform.data)
    restored = platform.home.run("restore", backup, "--data", platform.data, seconds=180)
    assert restored.status == 0, restored
    await platform.start()
    with SyncMitoClient(platform.config()) as client:
        assert client.get_task(before.uuid) == before
        client.cancel_task(holder.task, stop_signal="KILL")
        (lost,) = client.wait_for_tasks([waiting])
        assert lost.outcome is Outcome.ERROR
        assert "secret" in lost.reason
        refused = client.rerun_tasks([waiting])[0].error
        assert refused is not None
        assert "TOKEN is not given anew" in refused.message
        (again,) = ended(client, in_shell(proof, secret_envs={"TOKEN": value}))
        assert again.outcome is Outcome.SUCCEEDED
    config = platform.data / "config" / "coordinator.toml"
    verified = platform.home.run("events", "verify", "--config", config)
    assert verified.status == 0, verified


@pytest.mark.timeout(300)
async def test_three_servers_keep_the_key_until_the_end_although_their_leader_is_killed(
    site: Site, tmp_path: Path
) -> None:
    cluster = Cluster(site)
    cluster.start(*NAMES)
    coordinator = site.start("coordinator", "--config", cluster.config)
    await coordinator.says("serving")
    worker = site.start(
        "worker", "--coordinator", site.http, "-u", "root", "--slots", "1", "--work-dir", "work",
        MITO_PASSWORD=site.admin_password,
    )  # fmt: skip
    await worker.says("-")
    value, told, go = secrets.token_hex(24), tmp_path / "told", tmp_path / "go"
    login = ServiceLogin("mitosis", site.secret)

    async def keys() -> set[str]:
        nats = await open_store_client(cluster.urls, login, name="test")
        try:
            info = await request(nats, f"$JS.API.STREAM.INFO.{STREAM}")
            assert info["config"]["num_replicas"] == 3
            return await SecretKeys(nats).stored()
        finally:
            await nats.close()

    async def destroyed() -> bool:
        return not await keys()

    async with MitoClient(site.client_config(",".join(cluster.urls))) as client:
        gate = await client.submit_task(in_shell(wait_for(go)))
        submitted = await client.submit_task(
            in_shell(says_its_secret(told), secret_envs={"TOKEN": value})
        )
        assert len(await keys()) == 1
        cluster.servers[await cluster.leader()].stop(signal.SIGKILL)
        go.touch()
        (_, view) = await client.wait_for_tasks([gate, submitted])
        assert (view.outcome, view.attempt) == (Outcome.SUCCEEDED, 1)
    assert attempts_told(told) == [["1", digest_of(value)]]
    await eventually(destroyed, seconds=30)
    assert files_with(value.encode(), site.folder) == []
    assert "Traceback" not in coordinator.err + worker.err
