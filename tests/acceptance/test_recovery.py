"""Processes that are killed: nothing acknowledged is lost, nothing runs twice at once."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from mitosis import MitoClient, SyncMitoClient
from mitosis.client.output_source import FollowEvent, OutputChunk, OutputNotice
from mitosis.client.retry import persist
from mitosis.config.client import GetWorkersArgs, SubmitTaskArgs, WatchArgs
from mitosis.contract import commands, subjects
from mitosis.contract.commands import Submitted
from mitosis.contract.work import Control, Resync
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.task import ArtifactKind, EndCause, Outcome, TaskState
from mitosis.errors import MitosisError, Unavailable
from mitosis.nats.asking import call
from mitosis.nats.connection import Msg
from mitosis.nats.credentials import ServiceLogin
from mitosis.nats.store_client import StoreClient, open_store_client
from mitosis.services.coordinator.service import NAME
from mitosis.testing.waiting import eventually

from .conftest import Done, Platform, ended, in_shell
from .crews import frozen

BEAT_SECONDS = 0.02


@pytest.fixture(scope="module")
def fragile() -> Iterator[Platform]:
    """A platform whose parts are killed; each test leaves it whole."""
    folder = Path(tempfile.mkdtemp(prefix="mito-test-"))
    platform = Platform(folder, workers=2, slots=1)
    settings = platform.home.folder / ".config/mitosis/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[coordinator]\nsnapshot_every = 10\n")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            yield runner.run(platform.start())
        finally:
            platform.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def client(fragile: Platform) -> Iterator[SyncMitoClient]:
    with SyncMitoClient(fragile.config()) as one:
        yield one


class Beating:
    """A task that writes its attempt and its process into a file until it is told to end."""

    def __init__(self, client: SyncMitoClient, folder: Path, name: str) -> None:
        self.file, self.gate = folder / f"{name}.beats", folder / f"{name}.gate"
        script = (
            f"until [ -e {self.gate} ]; do echo $MITO_ATTEMPT $$ >> {self.file}; "
            f"sleep {BEAT_SECONDS}; done"
        )
        self.task: Submitted = client.submit_task(in_shell(script))

    @property
    def beats(self) -> list[tuple[int, int]]:
        """Attempt and process of each beat."""
        if not self.file.exists():
            return []
        # The last line may be half written.
        lines = self.file.read_text().split("\n")[:-1]
        return [(int(a), int(p)) for a, p in (line.split() for line in lines)]

    def attempts(self) -> list[int]:
        """The attempts in the order of their first beats."""
        return list(dict.fromkeys(attempt for attempt, _ in self.beats))

    async def beats_on(self, attempt: int = 1) -> None:
        """Wait for some more beats of an attempt."""
        count = len([a for a, _ in self.beats if a == attempt])
        await eventually(
            lambda: len([a for a, _ in self.beats if a == attempt]) >= count + 3, seconds=60
        )

    def end(self) -> None:
        """Let it end."""
        self.gate.touch()


async def whole(platform: Platform, client: SyncMitoClient) -> None:
    """Wait until both workers are there and reachable."""

    def is_whole() -> bool:
        workers = client.get_workers(GetWorkersArgs()).workers
        return [worker.state for worker in workers] == ["normal", "normal"]

    await eventually(is_whole, seconds=60)


def worker_of(platform: Platform, beating: Beating) -> int:
    """The worker process above a running task."""
    return worker_above(platform, beating.beats[-1][1])


def worker_above(platform: Platform, pid: int) -> int:
    """The worker process that runs a process of a task."""
    workers = set(platform.children("mitosis worker --config"))
    folder = str(Path(f"/proc/{pid}/cwd").readlink())
    number = folder.removeprefix(str(platform.data / "workers") + "/").partition("/")[0]
    (found,) = workers & set(platform.children(f"worker-{number}.toml"))
    return found


def coordinator_log(platform: Platform) -> str:
    (path,) = platform.data.rglob("coordinator*.log")
    return path.read_text()


async def test_a_task_of_a_killed_worker_runs_again_and_never_twice_at_once(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    beating = Beating(client, tmp_path, "killed")
    await beating.beats_on()
    os.kill(worker_of(fragile, beating), signal.SIGKILL)
    await beating.beats_on(attempt=2)
    beating.end()
    (view,) = client.wait_for_tasks([beating.task])
    assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 2, 1)
    attempts = [attempt for attempt, _ in beating.beats]
    assert attempts == sorted(attempts)
    assert len({pid for _, pid in beating.beats}) == 2
    await whole(fragile, client)


async def test_a_killed_coordinator_changes_nothing_for_running_and_waiting_tasks(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    running = [Beating(client, tmp_path, f"running{n}") for n in range(2)]
    for one in running:
        await one.beats_on()
    order = tmp_path / "order"
    waiting = [client.submit_task(in_shell(f"echo {n} >> {order}")) for n in range(4)]
    client.cancel_task(waiting[3].task)
    watch = WatchArgs(running[0].task.task, "ExecFinished")
    watcher = client.submit_task(in_shell("true", watch=watch))
    await eventually(lambda: "snapshot at position" in coordinator_log(fragile))
    old = fragile.child("mitosis coordinator")
    os.kill(old, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{old}").exists())
    # The request is repeated until somebody answers: a new process of the supervisor.
    urgent = client.submit_task(in_shell(f"echo urgent >> {order}", priority=1))
    assert fragile.child("mitosis coordinator") != old
    for one in running:
        await one.beats_on()
    assert client.get_task(watcher.task).state is TaskState.PENDING
    running[0].end()
    client.wait_for_tasks([urgent, *waiting, watcher])
    running[1].end()
    views = client.wait_for_tasks([one.task for one in running])
    assert [(one.outcome, one.attempt) for one in views] == [(Outcome.SUCCEEDED, 1)] * 2
    assert [len(set(one.beats)) for one in running] == [1, 1]
    assert order.read_text().split() == ["urgent", "0", "1", "2"]
    start = re.findall(r"behind the snapshot at (\d+)", coordinator_log(fragile))[-1]
    assert int(start) > 0, "it has read all of history"


@pytest.mark.parity("D-030")
async def test_a_command_that_is_asked_again_of_the_next_coordinator_is_done_once(
    fragile: Platform, client: SyncMitoClient
) -> None:
    """Its answer may have been lost with the first one; so its client asks again, by its id."""
    group = f"once-{os.urandom(3).hex()}"
    task = client.submit_task(in_shell("true", watch=_on_what_never_comes(client)))
    wanted: list[tuple[str, str, msgspec.Struct]] = [
        ("group", "create", commands.CreateGroup(group)),
        ("group", "set_storage_quota", commands.ChangeStorageQuota(group, QuotaChange(5, True))),
        ("task", "cancel", commands.CancelTask(task.task)),
    ]
    user = fragile.notice["admin_user"]
    async with MitoClient(fragile.config()) as asking:

        async def ask(noun: str, verb: str, body: msgspec.Struct) -> Any:
            """As the SDK does, with an id of our own."""

            async def one_try(seconds: float) -> Any:
                connection, subject = (
                    await asking.session.open(),
                    subjects.command(user, noun, verb),
                )
                told = {"command_id": f"{group}-{verb}", "timeout_seconds": seconds}
                return (await call(connection, subject, body, dict, **told)).result

            return await persist(one_try, 60.0)

        first = [await ask(*one) for one in wanted]
        old = fragile.child("mitosis coordinator")
        os.kill(old, signal.SIGKILL)
        await eventually(lambda: not Path(f"/proc/{old}").exists())
        again = [await ask(*one) for one in wanted]
        assert fragile.child("mitosis coordinator") != old
    assert first == again
    assert first[2] == {"task": task.task, "ended": True}
    assert client.get_group(group).storage_quota_bytes == first[1]["quota"]


def _on_what_never_comes(client: SyncMitoClient) -> WatchArgs:
    nobody = f"nobody-{os.urandom(3).hex()}"
    client.create_group(nobody)  # no worker serves it
    watched = client.submit_task(SubmitTaskArgs(command=("true",), group=nobody))
    return WatchArgs(watched.task, "ExecFinished")


@pytest.mark.parity("F-26")
async def test_counted_losses_and_waits_for_a_retry_survive_a_killed_coordinator(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    """Crash counters were not restored from the journal elsewhere."""
    await whole(fragile, client)
    beating, gate = Beating(client, tmp_path, "poison"), tmp_path / "fail.gate"
    wait = f"until [ -e {gate} ]; do sleep {BEAT_SECONDS}; done; "
    fails = client.submit_task(
        in_shell(f"{wait}test $MITO_ATTEMPT = 2", retries=1, retry_delay="4s")
    )
    for attempt in (1, 2):
        await beating.beats_on(attempt)
        os.kill(worker_of(fragile, beating), signal.SIGKILL)
    await beating.beats_on(3)
    gate.touch()
    await eventually(lambda: client.get_task(fails.task).retry_at is not None, seconds=60)
    due = client.get_task(fails.task).retry_at
    assert due is not None
    old = fragile.child("mitosis coordinator")
    os.kill(old, signal.SIGKILL)
    await eventually(lambda: not Path(f"/proc/{old}").exists())
    (again,) = client.wait_for_tasks([fails], timedelta(seconds=60))
    assert (again.outcome, again.attempt, again.retries) == (Outcome.SUCCEEDED, 2, 1)
    assert again.started_at is not None
    assert again.started_at >= due
    await beating.beats_on(3)
    assert client.get_task(beating.task.task).losses == 2
    os.kill(worker_of(fragile, beating), signal.SIGKILL)
    (view,) = client.wait_for_tasks([beating.task], timedelta(seconds=60))
    assert (view.state, view.outcome, view.losses) == (TaskState.CANCELLED, Outcome.LOST, 3)
    assert view.reason.startswith("worker lost 3 times: ")
    assert beating.attempts() == [1, 2, 3]
    await whole(fragile, client)


@pytest.mark.parity("F-34")
async def test_a_cancel_outlives_the_coordinator_that_took_it_while_the_worker_heard_nothing(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    """It is stored with the task: whoever leads says it again to the worker that comes back."""
    await whole(fragile, client)
    beating = Beating(client, tmp_path, "unheard")
    await beating.beats_on()
    deaf = worker_of(fragile, beating)
    os.kill(deaf, signal.SIGSTOP)
    try:
        assert not client.cancel_task(beating.task.task).ended
        old = fragile.child("mitosis coordinator")
        os.kill(old, signal.SIGKILL)
        await eventually(lambda: not Path(f"/proc/{old}").exists())
        await beating.beats_on()
        assert client.get_task(beating.task.task).state is TaskState.RUNNING
    finally:
        os.kill(deaf, signal.SIGCONT)
    (view,) = client.wait_for_tasks([beating.task], timedelta(seconds=60))
    assert (view.outcome, view.attempt, view.losses) == (Outcome.CANCELLED, 1, 0)
    assert view.exit is not None
    assert view.exit.cause is EndCause.CANCEL
    await whole(fragile, client)


async def test_a_killed_projector_loses_and_repeats_nothing(
    fragile: Platform, client: SyncMitoClient
) -> None:
    group = f"many-{os.urandom(3).hex()}"
    client.create_group(group)
    first = client.submit_many([SubmitTaskArgs(command=("true",), group=group)] * 200)
    os.kill(fragile.child("run_projector_child"), signal.SIGKILL)
    second = client.submit_many([SubmitTaskArgs(command=("true",), group=group)] * 200)
    # Read at once: the answer includes all that was stored before the question.
    assert client.get_task(second[-1].task).state is TaskState.READY
    view = client.get_group(group)
    assert view.task_count == 400
    assert [one.number for one in [*first, *second]] == list(range(1, 401))


async def test_a_worker_that_is_asked_to_end_finishes_its_task_first(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    await whole(fragile, client)
    beating = Beating(client, tmp_path, "drained")
    await beating.beats_on()
    pid = worker_of(fragile, beating)
    os.kill(pid, signal.SIGTERM)
    await beating.beats_on()
    held = client.get_task(beating.task.task)
    # It takes nothing new: the other worker runs these.
    others = client.wait_for_tasks([client.submit_task(in_shell("true")) for _ in range(3)])
    assert {one.worker for one in others}.isdisjoint({held.worker})
    assert Path(f"/proc/{pid}").exists()
    beating.end()
    (view,) = client.wait_for_tasks([beating.task])
    assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 1, 0)
    assert view.worker is not None
    await eventually(lambda: not Path(f"/proc/{pid}").exists(), seconds=30)
    assert client.get_worker(view.worker).state == "gone"
    await whole(fragile, client)


async def test_a_killed_nats_server_comes_back_with_everything(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    beating = Beating(client, tmp_path, "cut-off")
    await beating.beats_on()
    before = [task.uuid for task in client.get_tasks().tasks]
    os.kill(fragile.child("nats.conf"), signal.SIGKILL)
    later = client.submit_task(in_shell("true"))
    await beating.beats_on()
    beating.end()
    views = client.wait_for_tasks([beating.task, later])
    assert [(one.outcome, one.attempt) for one in views] == [(Outcome.SUCCEEDED, 1)] * 2
    assert len(set(beating.beats)) == 1
    assert [task.uuid for task in client.get_tasks().tasks] == [*before, later.task][-50:]
    await whole(fragile, client)
    assert "Traceback" not in fragile.supervisor.err


def only(found: list[int]) -> int | None:
    """The one that was found; None when there is none, or more."""
    return found[0] if len(found) == 1 else None


async def test_output_is_followed_through_the_death_of_each_process_with_each_byte_once(
    fragile: Platform, client: SyncMitoClient, tmp_path: Path
) -> None:
    """Nothing is shown twice and nothing is left out; the attempt that runs again is announced."""
    gate, pid = tmp_path / "followed.gate", tmp_path / "followed.pid"
    script = (
        f"echo $$ > {pid}; "
        f"until [ -e {gate} ]; do n=$((n + 1)); echo line $n; sleep {BEAT_SECONDS}; done"
    )
    submitted = client.submit_task(in_shell(script))
    seen: list[FollowEvent] = []

    def lines(attempt: int) -> list[bytes]:
        chunks = [e for e in seen if isinstance(e, OutputChunk) and e.attempt == attempt]
        assert sum(chunk.skipped_bytes for chunk in chunks) == 0
        return b"".join(chunk.data for chunk in chunks).split(b"\n")[:-1]

    async def more(attempt: int = 1) -> None:
        count = len(lines(attempt))
        await eventually(lambda: len(lines(attempt)) > count + 5, seconds=60)

    async def keep() -> None:
        async with MitoClient(fragile.config()) as follower:
            async for event in follower.follow([submitted]):
                seen.append(event)  # noqa: PERF401  it is looked at meanwhile

    following = asyncio.create_task(keep())
    await more()
    for words in ("mitosis coordinator", "run_projector_child", "nats.conf"):
        # The projector is a child of the coordinator: the old one ends, a new one has to start.
        found = await eventually(lambda words=words: only(fragile.children(words)), seconds=60)  # type: ignore[misc]
        os.kill(found, signal.SIGKILL)
        await more()
    os.kill(worker_above(fragile, int(pid.read_text())), signal.SIGKILL)
    await more(attempt=2)
    gate.touch()
    async with asyncio.timeout(60):
        await following
    (view,) = client.wait_for_tasks([submitted])
    for attempt in (1, 2):
        assert lines(attempt) == [b"line %d" % n for n in range(1, len(lines(attempt)) + 1)]
    assert view.exit is not None
    assert len(b"\n".join(lines(2))) + 1 == view.exit.usage.stdout_bytes
    notices = [e.view.attempt for e in seen if isinstance(e, OutputNotice) and e.kind == "begun"]
    assert notices == [1, 2]


async def test_read_models_are_verified_and_rebuilt_while_the_platform_serves(
    fragile: Platform, client: SyncMitoClient
) -> None:
    config = fragile.data / "config" / "coordinator.toml"
    url = tomllib.loads(config.read_text())["coordinator"]["db_url"]
    tasks = client.submit_many([in_shell("true")] * 50)
    client.wait_for_tasks(tasks)

    def operate(verb: str) -> Done:
        return fragile.home.run("projections", verb, "--config", config, "--json")

    right = operate("verify")
    assert (right.status, right.json["differing"]) == (0, 0), right
    with psycopg.connect(url) as session:
        session.execute(
            "UPDATE views.tasks SET outcome = 'failed' WHERE uuid = %s", (tasks[7].task,)
        )
    wrong = operate("verify")
    assert wrong.status == 1
    (difference,) = wrong.json["differences"]
    assert difference == {
        "table": "tasks", "key": {"uuid": tasks[7].task}, "what": "differs", "columns": ["outcome"],
    }  # fmt: skip
    rebuilding = asyncio.create_task(asyncio.to_thread(operate, "rebuild"))
    more = []
    while not rebuilding.done():  # commands and fresh reads go on
        more.append(client.submit_task(in_shell("true")))
        assert client.get_task(more[-1].task).uuid == more[-1].task
        await asyncio.sleep(0)
    rebuilt = await rebuilding
    assert (rebuilt.status, rebuilt.err) == (0, "")
    assert client.get_task(tasks[7].task).outcome is Outcome.SUCCEEDED
    client.wait_for_tasks(more)
    after = operate("verify")
    assert (after.status, after.json["differing"]) == (0, 0), after
    assert after.json["position"] >= rebuilt.json["position"]


async def test_dropped_read_models_are_built_anew_by_themselves(
    fragile: Platform, client: SyncMitoClient
) -> None:
    config = fragile.data / "config" / "coordinator.toml"
    url = tomllib.loads(config.read_text())["coordinator"]["db_url"]
    before = client.get_tasks()
    with psycopg.connect(url) as session:
        (kept,) = session.execute("SELECT count(*) FROM archive.commits").fetchone() or (0,)
        session.execute("DROP SCHEMA views CASCADE")
    later = client.submit_task(in_shell("true"))

    def read_again() -> bool:
        try:
            view = client.get_task(later.task)
        except MitosisError:
            return False
        return view.uuid == later.task

    await eventually(read_again, seconds=60)
    client.wait_for_tasks([later])
    known = {task.uuid for task in client.get_tasks().tasks}
    assert {task.uuid for task in before.tasks[1:]} | {later.task} <= known
    with psycopg.connect(url) as session:
        (now,) = session.execute("SELECT count(*) FROM archive.commits").fetchone() or (0,)
    assert now > kept > 0


async def test_while_postgres_is_away_commands_go_on_and_reads_say_so(
    fragile: Platform, client: SyncMitoClient
) -> None:
    before = client.submit_task(in_shell("true"))
    client.wait_for_tasks([before])
    with frozen(fragile, "postgres", "-D", "cluster"):
        tasks = [client.submit_task(in_shell("true")) for _ in range(20)]
        assert [one.number for one in tasks] == [before.number + n for n in range(1, 21)]
        with SyncMitoClient(fragile.config(timeout=timedelta(seconds=6))) as hasty:
            with pytest.raises(Unavailable):
                hasty.get_task(before.task)
            tasks.append(hasty.submit_task(in_shell("true")))  # also of a client that comes now
    views = client.wait_for_tasks(tasks)
    assert {(one.outcome, one.attempt) for one in views} == {(Outcome.SUCCEEDED, 1)}
    assert client.get_task(before.task).outcome is Outcome.SUCCEEDED
    await whole(fragile, client)


async def test_while_the_store_is_away_outputs_are_tried_again_and_other_tasks_run(
    fragile: Platform, client: SyncMitoClient
) -> None:
    await whole(fragile, client)
    with frozen(fragile, "weed", "mini"):
        waiting = client.submit_task(in_shell("echo kept > $MITO_RESULT_DIR/it"))
        others = ended(client, *[in_shell("true")] * 5)
        assert {one.outcome for one in others} == {Outcome.SUCCEEDED}
        assert client.get_task(waiting.task).state is TaskState.RUNNING
    (view,) = client.wait_for_tasks([waiting])
    assert (view.outcome, view.attempt, view.warnings) == (Outcome.SUCCEEDED, 1, [])
    assert [artifact.kind for artifact in view.artifacts] == [ArtifactKind.RESULT]


@pytest.mark.parity("D-011")
async def test_a_cancel_ends_an_upload_that_cannot_come_to_its_end_a_sharper_one_also_after_a_stop(
    fragile: Platform, client: SyncMitoClient
) -> None:
    await whole(fragile, client)
    leave = "echo kept > $MITO_RESULT_DIR/it"
    with frozen(fragile, "weed", "mini"):
        ended_itself = client.submit_task(in_shell(leave))
        stopped = client.submit_task(in_shell(f"{leave}; exec sleep 600")).task
        await eventually(lambda: client.get_task(stopped).started_at, seconds=60)
        client.cancel_task(stopped)
        for one in (ended_itself.task, stopped):
            await eventually(lambda one=one: client.get_task(one).exit, seconds=60)  # type: ignore[misc]
        assert not client.cancel_task(ended_itself.task).ended
        (cut,) = client.wait_for_tasks([ended_itself], timedelta(seconds=60))
        assert not client.cancel_task(stopped, "the same again").ended
        assert client.get_task(stopped).state is TaskState.RUNNING
        assert not client.cancel_task(stopped, stop_signal="KILL").ended
        (given_up,) = client.wait_for_tasks([stopped], timedelta(seconds=60))
    for view in (cut, given_up):
        assert (view.outcome, view.artifacts) == (Outcome.CANCELLED, [])
        assert view.reason == "cancelled while its outputs were uploaded"
        assert view.warnings == ["outputs: not all are stored: the task was cancelled meanwhile"]
    assert ended(client, in_shell("true"))[0].outcome is Outcome.SUCCEEDED


async def test_workers_renew_when_the_coordinator_is_back_after_a_lost_connection(
    fragile: Platform, client: SyncMitoClient
) -> None:
    """What was pushed meanwhile is lost: a task waited at no worker until its next renewal."""
    settings = tomllib.loads((fragile.data / "config" / "coordinator.toml").read_text())
    config = settings["coordinator"]
    async with contextlib.AsyncExitStack() as stack:

        async def connect(role: str) -> StoreClient:
            login = ServiceLogin(config[f"nats_{role}user"], config[f"nats_{role}password"])
            opened = await open_store_client([config["nats_url"]], login, name="test")
            stack.push_async_callback(opened.close)
            return opened

        service, system = await connect(""), await connect("system_")
        crew = {one.uuid for one in client.get_workers().workers if one.state == "normal"}
        asked: set[str] = set()

        async def hear(message: Msg) -> None:
            if isinstance(msgspec.json.decode(message.data, type=Control), Resync):
                asked.add(message.subject.rpartition(".")[2])

        await service.subscribe(subjects.control("*"), cb=hear)
        await service.flush()
        answer = await system.request("$SYS.REQ.SERVER.PING.CONNZ", b"{}", timeout=5)
        listed = msgspec.json.decode(answer.data)
        (cid,) = [
            one["cid"]
            for one in listed["data"]["connections"]
            if one.get("name", "").startswith(f"{NAME} ")
        ]
        kick = f"$SYS.REQ.SERVER.{listed['server']['id']}.KICK"
        await system.request(kick, msgspec.json.encode({"cid": cid}), timeout=5)
        await eventually(lambda: crew <= asked)
        assert crew
