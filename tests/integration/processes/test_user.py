"""Tasks of a worker that is root, run as somebody else."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mitosis.domain.resources import Limits
from mitosis.errors import WorkerFault
from mitosis.processes.engine import Engine
from mitosis.processes.guard.spawn import spawn
from mitosis.processes.guard.spawn_error import SpawnError
from mitosis.processes.runs import Exited, SpawnFailed
from mitosis.processes.user import TaskUser, own_user, task_user

from .conftest import Bench, marked, names

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run as another user")


@pytest.fixture
async def nobody(ground: Path) -> AsyncIterator[Bench]:
    engine = Engine(1, ground / "root", user=task_user("nobody"))
    await engine.start()
    found = Bench(engine, ground)
    yield found
    await engine.close(0.0)
    assert marked(found.mark) == []
    assert names(ground / "root") == []


async def test_a_task_is_somebody_else_for_good_and_owns_its_folders(nobody: Bench) -> None:
    script = (
        "id -u; id -g; id -G; touch f $RESULT/r $TMP/t && stat -c %u:%a . $RESULT $TMP;"
        "grep -E '^(Uid|Gid|CapEff|NoNewPrivs)' /proc/self/status"
    )
    run = nobody.shell(script, directory_env={"result": "RESULT", "tmp": "TMP"})
    result = await run.result()
    uid = str(task_user("nobody").uid)
    lines = result.stdout.tail.decode().splitlines()
    assert lines[0] == uid
    assert lines[3:6] == [f"{uid}:700"] * 3
    ids = dict(line.split(":\t") for line in lines[6:])
    assert ids["Uid"].split() == [uid] * 4, "also the saved one: there is no way back"
    assert int(ids["CapEff"], 16) == 0
    assert names(result.folder / "result") == ["r"]
    await nobody.finish(run)
    after = await nobody.finish(nobody.shell("ls -A . ../result ../tmp | grep -v : ; true"))
    assert after.stdout.tail.split() == []


async def test_a_task_reaches_neither_the_worker_nor_its_output_nor_other_slots(
    nobody: Bench,
) -> None:
    script = (
        "kill -0 $PPID; ls ../output; mkdir ../mine; rm -r ../output; ls ../..; mv ../work ../gone;"
        "echo said; exit 0"
    )
    result = await nobody.finish(nobody.shell(script, output="file"))
    assert result.outcome == Exited(0)
    assert (
        result.stderr.tail.decode().count("ermitted")
        + result.stderr.tail.decode().count("ermission denied")
        == 6
    )


async def test_leftovers_of_another_user_are_killed_and_wiped(nobody: Bench) -> None:
    script = (
        "(setsid sh -c \"trap '' TERM; sleep 20\" &); mkdir -p a/b; touch a/b/c; chmod 0 a/b a .;"
        "ln -s /etc ../result/etc; exit 4"
    )
    assert (await nobody.finish(nobody.shell(script))).outcome == Exited(4)
    after = await nobody.finish(nobody.shell("ls -lA . ../result; stat -c %U:%a ."))
    assert after.stdout.tail.decode().split() == [
        ".:", "total", "0", "../result:", "total", "0", "nobody:700"]  # fmt: skip


@pytest.mark.parametrize("output", ["tail", "file"])
async def test_a_task_can_open_its_output_by_name(nobody: Bench, output: str) -> None:
    script = "echo out > /dev/stdout; echo worse >> /proc/self/fd/2; echo bad > /dev/stderr"
    result = await nobody.finish(nobody.shell(script, output=output))
    assert (result.stdout.tail, result.stderr.tail) == (b"out\n", b"worse\nbad\n")


async def test_limits_hold_for_another_user_too(nobody: Bench) -> None:
    run = nobody.shell("id -u; ulimit -n", limits=Limits(open_files=33))
    uid = task_user("nobody").uid
    assert (await nobody.finish(run)).stdout.tail == f"{uid}\n33\n".encode()


async def test_a_program_is_found_in_the_folders_that_the_user_may_enter(
    nobody: Bench, ground: Path
) -> None:
    closed, opened = ground / "closed", ground / "opened"
    for folder, mode in ((closed, 0o700), (opened, 0o755)):
        folder.mkdir()
        (folder / "tool").write_text(f"#!/bin/sh\necho {folder.name}\n")
        (folder / "tool").chmod(0o755)
        folder.chmod(mode)
    result = await nobody.finish(nobody.start("tool", env={"PATH": f"{closed}:{opened}"}))
    assert (result.outcome, result.stdout.tail) == (Exited(0), b"opened\n")
    (opened / "tool").unlink()
    refused = (
        await nobody.finish(nobody.start("tool", env={"PATH": f"{closed}:{opened}"}))
    ).outcome
    assert isinstance(refused, SpawnFailed)
    assert refused.errno == errno.EACCES
    assert refused.text.startswith(f"{closed}/tool: the task's user may not"), refused


def test_a_folder_of_path_that_may_not_be_entered_has_no_program_to_make_executable(
    ground: Path,
) -> None:
    (ground / "closed").mkdir(mode=0o700)
    path = f"{ground}/closed:/bin"
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(65534, 65534, 65534)
        try:
            spawn(["no-such-program"], {"PATH": path}, b"/", 1, 2, [])
        except SpawnError as problem:
            os.write(writing, f"{problem.stage} {problem.number} {problem.text}".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == (
            f"program {errno.ENOENT} no-such-program: not found in PATH ({path}), "
            f"of which this user may not enter {ground}/closed"
        )


async def test_the_start_says_when_the_user_cannot_reach_the_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    engine = Engine(1, closed / "root", user=task_user("nobody"))
    with pytest.raises(WorkerFault, match=r"cannot run as nobody in .*chmod o\+x"):
        await engine.start()


def test_users_are_found_by_name_and_by_number() -> None:
    nobody = task_user("nobody")
    assert task_user(str(nobody.uid)) == nobody
    assert nobody.environment()["USER"] == "nobody"
    assert own_user() == TaskUser("root", 0, 0, tuple(os.getgroups()), "/root")
    with pytest.raises(WorkerFault, match="no such user"):
        task_user("nobody-of-that-name")


def test_a_normal_user_cannot_ask_for_another_one() -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            try:
                task_user("root")
            except WorkerFault as problem:
                code = 0 if "only a worker that is root" in str(problem) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
