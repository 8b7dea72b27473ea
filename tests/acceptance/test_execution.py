"""What a program gets and what becomes of what it does, seen from outside."""

import asyncio
import os
import pwd
import sys
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from mitosis import SyncMitoClient
from mitosis.artifacts.unpack import unpack
from mitosis.config.client import CreateUserArgs, GetWorkersArgs, SubmitTaskArgs
from mitosis.contract.queries import TaskView
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, ExitKind, Outcome, TaskState
from mitosis.testing.waiting import eventually

from .conftest import Home, Platform, Running, ended, in_shell

WRITE_ARGV = (
    "import os, sys; "
    "open(os.environ['MITO_RESULT_DIR'] + '/argv', 'wb')"
    ".write(b'\\0'.join(os.fsencode(a) for a in sys.argv[1:]))"
)


def result_of(client: SyncMitoClient, task: TaskView, folder: Path) -> Path:
    """The unpacked result of a task."""
    unpack(client.get_artifact(task.uuid, ArtifactKind.RESULT, folder), folder)
    return folder / "result"


def test_arguments_arrive_byte_for_byte(admin: SyncMitoClient, tmp_path: Path) -> None:
    arguments = [
        "",
        " a  b ",
        "*",
        "$HOME",
        "`id`",
        "'\"\\",
        "line\nline\ttab",
        "-p",
        "é🧬",
        "x" * 100_000,
    ]
    (task,) = ended(admin, SubmitTaskArgs(command=(sys.executable, "-c", WRITE_ARGV, *arguments)))
    assert task.outcome is Outcome.SUCCEEDED, task
    written = (result_of(admin, task, tmp_path) / "argv").read_bytes()
    assert written.split(b"\0") == [os.fsencode(argument) for argument in arguments]


def test_the_environment_has_the_task_and_no_secret(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    script = (
        "env -0 > $MITO_RESULT_DIR/env; pwd > $MITO_RESULT_DIR/pwd; ls -A > $MITO_RESULT_DIR/ls"
    )
    script += "; for d in RESULT EXEC RESOURCE; do eval test -d \\$MITO_${d}_DIR || exit 9; done"
    (task,) = ended(admin, in_shell(script, envs={"MINE": "a=b c", "LANG": "xx"}))
    assert task.outcome is Outcome.SUCCEEDED, task
    folder = result_of(admin, task, tmp_path)
    entries = (folder / "env").read_bytes().decode().rstrip("\0").split("\0")
    env = dict(entry.split("=", 1) for entry in entries)
    assert (env["MINE"], env["LANG"]) == ("a=b c", "xx")
    assert env["MITO_TASK_UUID"] == task.uuid
    allowed = {"MITO_RESULT_DIR", "MITO_EXEC_DIR", "MITO_RESOURCE_DIR", "MITO_TASK_UUID"}
    assert {key for key in env if key.startswith("MITO_")} == {
        *allowed,
        "MITO_GROUP",
        "MITO_ATTEMPT",
    }
    assert not any(platform.admin_password in value for value in env.values())
    assert (folder / "pwd").read_text().strip() not in {str(platform.data), str(Path.cwd())}
    assert (folder / "ls").read_text() == ""


@pytest.mark.parity("D-043")
def test_the_environment_is_exactly_the_documented_one(
    admin: SyncMitoClient, platform: Platform
) -> None:
    """What docs/programs.md lists, and nothing else of what the worker or its platform has."""
    (task,) = ended(
        admin,
        SubmitTaskArgs(
            command=("env",), envs={"MINE": "1", "MITO_GROUP": "forged", "HOME": "/mine"}
        ),
    )
    assert task.exit is not None
    entries = (entry.split("=", 1) for entry in task.exit.stdout_tail.splitlines())
    env = {key: value for key, value in entries if key != "TZ" and not key.startswith("LC_")}
    user = pwd.getpwuid(os.getuid()).pw_name
    assert (env.pop("LANG", "C.UTF-8"), env.pop("LANGUAGE", "")) == (
        os.environ.get("LANG", "C.UTF-8"), ""
    )  # fmt: skip
    folders = {
        key: env.pop(key)
        for key in ("MITO_RESULT_DIR", "MITO_EXEC_DIR", "MITO_RESOURCE_DIR", "TMPDIR")
    }
    assert env == {
        "PATH": os.environ["PATH"],
        "HOME": "/mine",
        "USER": user,
        "LOGNAME": user,
        "PYTHONUNBUFFERED": "1",
        "MINE": "1",
        "MITO_TASK_UUID": task.uuid,
        "MITO_GROUP": task.group,
        "MITO_ATTEMPT": "1",
    }
    assert len(set(folders.values())) == 4
    assert all(Path(folder).is_relative_to(platform.data) for folder in folders.values())


def test_nothing_of_one_task_is_there_for_the_next(admin: SyncMitoClient, tmp_path: Path) -> None:
    script = "ls -A . $MITO_RESULT_DIR $MITO_EXEC_DIR $MITO_RESOURCE_DIR | grep -q left && exit 7; "
    script += (
        "for d in . $MITO_RESULT_DIR $MITO_EXEC_DIR $MITO_RESOURCE_DIR; do touch $d/left; done"
    )
    tasks = ended(admin, *(in_shell(script) for _ in range(10)))
    assert {task.outcome for task in tasks} == {Outcome.SUCCEEDED}


def test_each_way_to_end_is_told_apart_and_hurts_nobody_else(admin: SyncMitoClient) -> None:
    code, signalled, missing, forbidden, fine = ended(
        admin,
        in_shell("exit 37"),
        in_shell("kill -9 $$"),
        SubmitTaskArgs(command=("no-such-program-of-ours", "x")),
        SubmitTaskArgs(command=("/etc/passwd",)),
        in_shell("true"),
    )
    assert (code.state, code.outcome) == (TaskState.FINISHED, Outcome.FAILED)
    assert code.exit is not None
    assert (code.exit.kind, code.exit.number) == (ExitKind.CODE, 37)
    assert (signalled.state, signalled.outcome) == (TaskState.FINISHED, Outcome.FAILED)
    assert signalled.exit is not None
    assert (signalled.exit.kind, signalled.exit.number) == (ExitKind.SIGNAL, 9)
    for task, program in ((missing, "no-such-program-of-ours"), (forbidden, "/etc/passwd")):
        assert (task.state, task.outcome, task.attempt) == (
            TaskState.CANCELLED, Outcome.ERROR, 1,
        )  # fmt: skip
        assert program in task.reason
    assert fine.outcome is Outcome.SUCCEEDED


@pytest.mark.parity("R-17")
def test_a_program_that_cannot_start_is_explained_to_its_user(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    """The plain number of the kernel misleads: it says "no such file" of a file that is there."""
    script = tmp_path / "windows.sh"
    script.write_bytes(b"#!/bin/bash\r\necho x\r\n")
    script.chmod(0o755)
    texts = {
        (str(script),): r"interpreter '/bin/bash\r' not found (Windows line ends?)",
        ("iperf3 -c 10.0.0.1",): "the name has blanks: give each argument apart, or use sh -c",
        ("cd", "x"): "use sh -c",
        ("FOO=1", "true"): "give it with -e FOO=...",
        ("./run.sh",): "relative to the task's own folder",
    }
    tasks = ended(admin, *(SubmitTaskArgs(command=argv) for argv in texts))
    for task, text in zip(tasks, texts.values(), strict=True):
        assert (task.outcome, task.attempt) == (Outcome.ERROR, 1)
        assert text in task.reason


@pytest.mark.parity("R-10")
def test_a_task_has_a_home_a_language_and_a_private_folder_for_temporary_files(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    script = 'x=é; echo "${#x}" "$HOME" "$USER" "$LOGNAME" "$TMPDIR" > $MITO_RESULT_DIR/out; '
    script += "test -d $HOME && : > $TMPDIR/mine && ls $TMPDIR >> $MITO_RESULT_DIR/out"
    tasks = ended(admin, *(SubmitTaskArgs(command=("bash", "-c", script)) for _ in range(2)))
    for task in tasks:
        assert task.outcome is Outcome.SUCCEEDED, task
        (tmp_path / task.uuid).mkdir()
        lines = (result_of(admin, task, tmp_path / task.uuid) / "out").read_text().splitlines()
        characters, *_, temporary = lines[0].split(" ")
        assert characters == "1", "é is one character in the language that was set"
        assert "" not in lines[0].split(" ")
        assert temporary not in {"/tmp", os.environ.get("TMPDIR")}
        assert lines[1:] == ["mine"], "nobody else's files, and none of a task before"


@pytest.mark.parity("R-07")
def test_what_a_task_left_mounted_is_never_emptied(admin: SyncMitoClient, tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("precious")
    script = 'mkdir b t && mount --bind "$DATA" b && mount -t tmpfs none t || exit 77'
    (task, _) = ended(admin, in_shell(script, envs={"DATA": str(tmp_path)}), in_shell("true"))
    if task.exit is not None and task.exit.number == 77:
        pytest.skip("mounting is not allowed here")
    assert task.outcome is Outcome.SUCCEEDED
    assert any("left mounted were unmounted: work/b, work/t" in text for text in task.warnings)
    assert (tmp_path / "keep").read_text() == "precious"


async def test_a_task_over_its_time_dies_with_all_that_it_started(
    admin: SyncMitoClient, platform: Platform, tmp_path: Path
) -> None:
    script = "echo kept > $MITO_RESULT_DIR/file; setsid sleep 8765 & sleep 8765"
    task = admin.submit_task(in_shell(script, timeout=timedelta(seconds=1)))
    await eventually(lambda: len(platform.children("sleep 8765")) >= 2)
    (view,) = ended(admin, task)
    assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.TIMED_OUT)
    await eventually(lambda: not platform.children("sleep 8765"), seconds=5)
    assert (result_of(admin, view, tmp_path) / "file").read_text() == "kept\n"


def test_output_is_kept_as_the_bytes_that_were_written(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    program = "import os; os.write(1, bytes(range(256)) * 9); os.write(2, b'\\xff\\0')"
    (task,) = ended(admin, SubmitTaskArgs(command=(sys.executable, "-c", program), terminal=True))
    assert task.outcome is Outcome.SUCCEEDED, task
    path = admin.get_artifact(task.uuid, ArtifactKind.STD_LOG, tmp_path)
    with tarfile.open(path) as archive:
        streams = {
            Path(one.name).name: archive.extractfile(one).read()  # type: ignore[union-attr]
            for one in archive.getmembers()
            if one.isfile()
        }
    assert sorted(streams.values()) == [bytes(range(256)) * 9, b"\xff\0"]


class Pool(NamedTuple):
    """Three workers of one slot: without tags, with {a}, and with {a, b}; a group for each.

    They and their groups belong to a user of their own.
    """

    client: SyncMitoClient
    none: str
    a: str
    ab: str
    read_only: str


@pytest.fixture(scope="module")
def pool(platform: Platform, admin: SyncMitoClient, scratch: Path) -> Iterator[Pool]:
    user, password = f"pooler-{os.urandom(3).hex()}", "a password of the pool"
    admin.create_user(CreateUserArgs(username=user, password=password))
    groups = [f"pool-{os.urandom(3).hex()}" for _ in range(4)]
    with SyncMitoClient(platform.config(user, password)) as client:
        for group in groups:
            client.create_group(group)
        yield from _with_workers(Pool(client, *groups), user, password, platform, scratch)


def _with_workers(
    names: Pool, user: str, password: str, platform: Platform, scratch: Path
) -> Iterator[Pool]:
    grants = {
        (): names.none,
        ("--tags", "a"): f"{names.a}:write,{names.read_only}:read",
        ("--tags", "a,b"): f"{names.ab}:admin",
    }
    workers: list[Running] = []
    try:
        for number, (tags, groups) in enumerate(grants.items()):
            home = Home(scratch / f"worker{number}")
            workers.append(
                home.start(
                    "worker",
                    "--coordinator",
                    platform.notice["http"],
                    "--groups",
                    groups,
                    *tags,
                    "-u",
                    user,
                    MITO_PASSWORD=password,
                )
            )
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            for worker in workers:
                runner.run(eventually(lambda w=worker: len(w.out) > 36, seconds=60))  # type: ignore[misc]
        yield names
        assert [worker.stop() for worker in workers] == [0, 0, 0]
    finally:
        for worker in workers:
            worker.close()


def test_a_worker_takes_a_task_only_when_all_its_tags_are_the_tasks(pool: Pool) -> None:
    """Parity S-111, row by row; what may not run has the higher priority and still waits."""
    may = {
        (pool.none, ()): True, (pool.none, ("a",)): True,
        (pool.a, ()): False, (pool.a, ("a",)): True, (pool.a, ("a", "b")): True,
        (pool.ab, ()): False, (pool.ab, ("a",)): False, (pool.ab, ("b", "c")): False,
        (pool.ab, ("a", "b")): True, (pool.ab, ("a", "b", "c")): True,
        (pool.read_only, ("a",)): False,
    }  # fmt: skip
    tasks = {
        (group, tags): pool.client.submit_task(
            SubmitTaskArgs(command=("true",), group=group, tags=tags, priority=0 if runs else 9)
        )
        for (group, tags), runs in sorted(may.items(), key=lambda item: item[1])
    }
    assert {row: task.runnable for row, task in tasks.items()} == may
    ended(pool.client, *(tasks[row] for row, runs in may.items() if runs))
    for row, runs in may.items():
        state = pool.client.get_task(tasks[row].task).state
        assert state is (TaskState.FINISHED if runs else TaskState.READY), row


def test_the_roles_of_a_worker_are_those_that_it_was_given(pool: Pool) -> None:
    (worker,) = pool.client.get_workers(GetWorkersArgs(group=pool.a)).workers
    assert worker.roles[pool.a] is Role.WRITE
    assert worker.roles[pool.read_only] is Role.READ
    (other,) = pool.client.get_workers(GetWorkersArgs(group=pool.ab)).workers
    assert (other.roles[pool.ab], other.tags) == (Role.ADMIN, ("a", "b"))


async def test_higher_priority_goes_first_and_then_who_came_first(
    pool: Pool, tmp_path: Path
) -> None:
    started, go, order = tmp_path / "started", tmp_path / "go", tmp_path / "order"
    gate = in_shell(
        f"touch {started}; until [ -e {go} ]; do sleep 0.02; done", group=pool.none, priority=50
    )
    first = pool.client.submit_task(gate)
    await eventually(started.exists)
    priorities = [0, 5, -3, 5, 2**31 - 1, 0]
    rest = pool.client.submit_many(
        [
            in_shell(f"echo {n} >> {order}", group=pool.none, priority=priority)
            for n, priority in enumerate(priorities)
        ]
    )
    go.touch()
    ended(pool.client, first, *rest)
    assert order.read_text().split() == ["4", "1", "3", "0", "5", "2"]
