"""Waiting for the end of tasks, as a user does it: exit statuses, interruptions, restarts."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mitosis import MitoClient, SyncMitoClient, WaitUntil
from mitosis.cli.commands import CLIENT
from mitosis.cli.output.schemas import schema_of
from mitosis.client.waiting import WaitProgress
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import NotFound, Unavailable
from mitosis.testing.waiting import eventually, open_files

from .conftest import Done, Person, Platform, in_shell, side_by_side
from .parity.terminals import Terminal
from .test_following import wait_for


async def is_connected(pid: int, platform: Platform) -> None:
    """Wait until a process has a connection to the NATS server of a platform."""
    port = f":{int(platform.notice['nats'].rpartition(':')[2]):04X}"

    def connected() -> bool:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in lines]
        inodes = {f"socket:[{r[9]}]" for r in rows if r[2].endswith(port) and r[3] == "01"}
        return not inodes.isdisjoint(open_files(pid))

    await eventually(connected)


def a_second() -> float:
    """A second; longer where more wants to run than there are cores for."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


WAIT = next(one for one in CLIENT if one.path == "wait")


@pytest.mark.parity("F-67")
def test_the_end_of_a_wait_tells_how_the_task_ended(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    """One that was waited for while it ran, and the others after their end."""
    tasks = {
        "succeeded": (in_shell("sleep 0.5"), 0),
        "exit 3": (in_shell("exit 3"), 3),
        "signal": (in_shell("kill -9 $$"), 137),
        "timed out": (in_shell("sleep 60", timeout=timedelta(seconds=0.2)), 124),
        "no program": (SubmitTaskArgs(command=("/no/such/program",)), 127),
        "cancelled": (in_shell("sleep 60"), 1),
    }
    named = {name: admin.submit_task(args).task for name, (args, _) in tasks.items()}
    admin.cancel_task(named["cancelled"], "enough")
    first, *others = side_by_side(lambda line: shell(*line), [("wait", t) for t in named.values()])
    assert first.out == f"{named['succeeded']} succeeded 0\n".encode()
    statuses = [0, *(done.status for done in others)]
    assert dict(zip(named, statuses, strict=True)) == {n: s for n, (_, s) in tasks.items()}
    assert others[-1].text.startswith(f"{named['cancelled']} cancelled 1 ")

    whole = shell("wait", named["succeeded"], named["exit 3"], named["cancelled"], "--json")
    Draft202012Validator(schema_of(WAIT)).validate(whole.json)
    said = whole.json
    assert (whole.status, said["exit_status"]) == (1, 1)
    assert (said["total"], said["ended"], said["succeeded"]) == (3, 3, 1)
    assert [(t["task"], t["outcome"], t["exit_status"]) for t in said["tasks"]] == [
        (named["succeeded"], "succeeded", 0), (named["exit 3"], "failed", 3),
        (named["cancelled"], "cancelled", 1),
    ]  # fmt: skip
    # The first that ended, and that alone.
    early = shell("wait", "--any", named["exit 3"], named["timed out"], "--json")
    assert (early.status, [t["task"] for t in early.json["tasks"]]) == (3, [named["exit 3"]])


@pytest.mark.parity("F-67")
def test_what_is_unknown_is_an_error_at_once_and_a_wait_has_its_own_time(
    person: Person, shell: Callable[..., Done]
) -> None:
    """No worker serves the group of this person: their tasks wait."""
    waits = person.client.submit_task(SubmitTaskArgs(command=("true",), labels=("one",)))
    unknown = person.shell("wait", waits.task, "123e4567-e89b-82d3-a456-426614174000")
    assert (unknown.status, unknown.out) == (3, b"")
    assert "123e4567-e89b-82d3-a456-426614174000" in unknown.complaint
    assert person.shell("wait", "-l", "two").status == 3
    over = person.shell("wait", "--timeout", "300ms", "-l", "one", "--json")
    assert (over.status, over.json["error"]["code"]) == (6, "unavailable")
    assert over.json["error"]["details"] == {"ended": 0, "total": 1, "going_on": [waits.task]}
    assert person.shell("wait", waits.task, "-l", "one").status == 2
    assert person.shell("wait", "--any", "--fail-fast").status == 2
    assert person.client.get_task(waits.task).state is TaskState.READY
    person.client.cancel_task(waits.task)
    nothing = person.shell("wait", "--json")  # all that go on: none
    assert (nothing.status, nothing.json["total"]) == (0, 0)


@pytest.mark.parity("F-67")
def test_500_tasks_are_waited_for_at_once_and_by_filter(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    submitted = admin.submit_many(
        [SubmitTaskArgs(command=("true",), labels=("five-hundred",)) for _ in range(500)]
    )
    done = shell("wait", *(one.task for one in submitted), seconds=300)
    assert done.status == 0, done.err
    assert done.text.splitlines() == [f"{one.task} succeeded 0" for one in submitted]
    assert done.err == "500 of 500 tasks succeeded\n"
    said = shell("wait", "-l", "five-hundred", "--json").json
    assert {one["task"] for one in said["tasks"]} == {one.task for one in submitted}


async def test_a_wait_ends_at_the_first_failure_if_that_is_wanted(
    platform: Platform, admin: SyncMitoClient, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    longer = admin.submit_task(in_shell(wait_for(go)))
    failing = admin.submit_task(in_shell("exit 4"))
    seen: list[WaitProgress] = []
    async with MitoClient(platform.config()) as client:
        tasks = await client.wait_for_tasks(
            [longer, failing], until=WaitUntil.FAILURE, progress=seen.append
        )
        assert [task.state for task in tasks] == [TaskState.RUNNING, TaskState.FINISHED]
        last = seen[-1]
        assert (last.total, last.failed, last.running, last.succeeded) == (2, 1, 1, 0)
        with pytest.raises(Unavailable, match="1 of 2 tasks have ended"):
            await client.wait_for_tasks([longer, failing], timedelta(seconds=0.2))
        go.touch()
        (first,) = await client.wait_for_tasks([longer], until=WaitUntil.ANY)
        assert first.outcome is Outcome.SUCCEEDED
        with pytest.raises(NotFound, match="no task matches"):
            await client.wait_for_tasks(GetTasksArgs(labels=("nothing-has-this",)))


def test_a_range_of_numbers_names_several_tasks(person: Person) -> None:
    client = person.client
    tasks = client.submit_many([SubmitTaskArgs(command=("true",)) for _ in range(5)])
    for one in tasks:
        client.cancel_task(one.task)
    ended = client.wait_for_tasks([f"{person.name}#2-4"])
    assert [view.uuid for view in ended] == [one.task for one in tasks[1:4]]
    both = person.shell("wait", f"{person.name}#4-5", tasks[0].task, "--json")
    assert [one["number"] for one in both.json["tasks"]] == [4, 5, 1]
    followed = person.shell("follow", f"{person.name}#2-3", "--json")
    told = [json.loads(line) for line in followed.text.splitlines()]
    assert (followed.status, {one["task"] for one in told}) == (1, {t.task for t in tasks[1:3]})
    rerun = person.shell("rerun", f"{person.name}#2-4", tasks[0].task, "--dry-run")
    assert rerun.text.split() == [one.task for one in (*tasks[1:4], tasks[0])]
    (again,) = person.client.rerun_tasks([f"{person.name}#5-5"])
    assert again.rerun_of == tasks[4].task
    for command in ("wait", "follow", "watch", "rerun"):
        assert person.shell(command, f"{person.name}#6-7").status == 3
    assert person.shell("wait", f"{person.name}#4-3").status == 1


def test_a_task_is_submitted_and_waited_for_in_one(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    plain, as_json = side_by_side(
        lambda line: shell(*line),
        [
            ("submit", "--wait", "--", "sh", "-c", "exit 5"),
            ("submit", "--wait", "--json", "--", "sh", "-c", "exit 6"),
        ],
    )
    assert (plain.status, as_json.status) == (5, 6)
    assert admin.get_task(plain.text).outcome is Outcome.FAILED
    said = as_json.json
    assert said["ended"]["task"] == said["task"]
    assert (said["ended"]["outcome"], said["ended"]["exit_status"]) == ("failed", 6)
    assert shell("submit", "--wait", "--follow", "--", "true").status == 2


@pytest.mark.usefixtures("shell")
@pytest.mark.parity("F-53")
@pytest.mark.parity("F-67")
async def test_an_interruption_ends_a_wait_within_a_second_and_no_task(
    admin: SyncMitoClient, person: Person, platform: Platform, tmp_path: Path
) -> None:
    """A running task, and one that nobody takes; then the waiter is killed."""
    go = tmp_path / "go"
    runs = admin.submit_task(in_shell(f"echo on; {wait_for(go)}")).task
    ready = person.client.submit_task(SubmitTaskArgs(command=("true",))).task
    client, took = ("client", "-c", platform.notice["http"]), list[float]()
    both = [
        platform.home.start(*client, "wait", runs),
        platform.home.start(
            *client, "--credential-path", tmp_path / "credentials", "wait", ready,
        ),
        platform.home.start(*client, "wait", runs),
    ]  # fmt: skip
    try:
        await asyncio.gather(*(is_connected(one.process.pid, platform) for one in both))
        for one, task in zip(both, (runs, ready), strict=False):
            begun = time.monotonic()
            assert one.stop(signal.SIGINT, seconds=5) == 130
            took.append(time.monotonic() - begun)
            assert one.err.splitlines() == [
                f"The task goes on; to end it: mito client manage task {task} cancel",
                "mito: interrupted",
            ]
        assert min(took) < a_second()
        both[2].stop(signal.SIGKILL)
    finally:
        for one in both:
            one.close()
    assert person.client.get_task(ready).state is TaskState.READY
    go.touch()
    (view,) = admin.wait_for_tasks([runs])
    assert view.outcome is Outcome.SUCCEEDED


@pytest.mark.parity("F-53")
def test_an_interruption_ends_a_wait_of_the_interactive_mode_alone(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    task = admin.submit_task(in_shell(wait_for(go))).task
    shown = Terminal(
        "-c", platform.notice["http"], "-u", platform.notice["admin_user"], "-i",
        home=tmp_path, MITO_PASSWORD=platform.admin_password,
    )  # fmt: skip
    try:
        shown.ready()
        shown.send(f"wait {task}\r")
        shown.child.expect_exact("0/1")
        shown.child.expect_exact("1 running")
        shown.send("\x03")
        shown.ready()
        assert f"manage task {task} cancel" in shown.said
        go.touch()
        assert f"{task} succeeded 0" in shown.run(f"wait {task}")
    finally:
        shown.close()


@pytest.mark.usefixtures("shell")
@pytest.mark.parity("F-53")
async def test_an_interruption_ends_a_loop_of_submits(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    """A thousand lines for the interactive mode, and one program that submits a thousand times."""
    lines = tmp_path / "lines"
    lines.write_text("submit -l loop-of-lines -- true\n" * 1_000)
    program = tmp_path / "program.py"
    program.write_text(
        "from mitosis import ClientConfig, SyncMitoClient\n"
        "from mitosis.config.client import SubmitTaskArgs\n"
        "with SyncMitoClient(ClientConfig.load()) as client:\n"
        "    for _ in range(1000):\n"
        "        client.submit_task(SubmitTaskArgs(command=('true',), labels=('loop-of-calls',)))\n"
    )
    address = platform.notice["http"]

    def count(label: str) -> int:
        return admin.get_tasks(GetTasksArgs(labels=(label,), count_only=True)).total

    took: list[float] = []
    for label, command in (
        ("loop-of-lines", f"exec mito client -c {address} -i < {lines}"),
        ("loop-of-calls", f"exec python {program}"),
    ):
        started = await asyncio.create_subprocess_exec(
            "sh", "-c", command, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={
                **platform.home.environment, "MITO_COORDINATOR_ADDR": address,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
        )  # fmt: skip
        await eventually(lambda label=label: count(label) > 5, seconds=60)
        begun = time.monotonic()
        started.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(started.communicate(), 20)
        took.append(time.monotonic() - begun)
        if label == "loop-of-lines":
            assert (started.returncode, said) == (130, b"mito: interrupted\n")
        stored = count(label)
        assert 5 < stored < 1_000
        assert count(label) == stored
    assert min(took) < a_second()


async def test_a_wait_goes_on_through_restarts_and_through_the_sleep_of_the_machine(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    """Processes are stopped for longer than the NATS server keeps a connection without a word."""
    platform = await make_platform().start()
    go = tmp_path / "go"
    script = ("sh", "-c", f"echo before; {wait_for(go)}; echo after; exit 5")
    async with MitoClient(platform.config()) as client:
        assert platform.client("auth", client.session.user, platform.admin_password).status == 0
        task = (await client.submit_task(in_shell(wait_for(go)))).task
        mito = ("client", "-c", platform.notice["http"])
        waiting = platform.home.start(*mito, "wait", task)
        submitting = platform.home.start(*mito, "submit", "--wait", "--", *script)
        following = platform.home.start(*mito, "submit", "--follow", "--", *script)
        started = (waiting, submitting, following)
        try:
            await is_connected(waiting.process.pid, platform)
            await submitting.says("-")
            await following.says("before")
            os.kill(platform.child("mitosis coordinator"), signal.SIGKILL)
            for one in started:
                one.process.send_signal(signal.SIGSTOP)
            os.kill(platform.child("nats.conf"), signal.SIGKILL)
            go.touch()
            (view,) = await client.wait_for_tasks([task])
            assert view.outcome is Outcome.SUCCEEDED
            for one in started:
                one.process.send_signal(signal.SIGCONT)
            assert [one.wait(60) for one in started] == [0, 5, 5]
            assert waiting.out == f"{task} succeeded 0\n"
            assert following.out == "before\nafter\n"
        finally:
            for one in started:
                one.close()
