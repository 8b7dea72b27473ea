"""The small program between us and a server: identity, life tied to the parent, lock."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mitosis.services.platform.failures import FolderInUse, ServerFailed
from mitosis.services.platform.locks import FolderLock
from mitosis.services.platform.logs import LogFile
from mitosis.services.platform.process import LAUNCHER, ChildProcess, StopStep, bare_environment
from mitosis.testing.waiting import eventually, processes_with

SLEEP = "import signal; signal.pause()"


def run_launcher(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(LAUNCHER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_program_that_cannot_be_executed_is_named() -> None:
    done = run_launcher(str(os.getpid()), "9", "kernel", "same", "/no/such/program")
    assert done.returncode == 126
    assert "/no/such/program" in done.stderr


def test_an_identity_that_cannot_be_had_is_named() -> None:
    done = run_launcher(str(os.getpid()), "9", "kernel", "userns:4294967295:0", "/bin/true")
    assert done.returncode == 125
    assert "userns" in done.stderr


def test_nothing_starts_when_the_parent_is_already_gone() -> None:
    done = run_launcher("1", "9", "kernel", "same", "/bin/echo", "started")
    assert (done.returncode, done.stdout) == (124, "")


@pytest.mark.parametrize("guard", ["kernel", "watcher"])
async def test_a_child_dies_with_its_killed_parent(tmp_path: Path, guard: str) -> None:
    mark = f"{tmp_path}-{guard}"
    parent_code = (
        "import os, subprocess, sys, signal; "
        f"subprocess.Popen([sys.executable, '-I', '-S', {str(LAUNCHER)!r}, str(os.getpid()), "
        f"'15', {guard!r}, 'same', sys.executable, '-c', {SLEEP!r}, {mark!r}]); signal.pause()"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", parent_code)
    expected = 2 if guard == "kernel" else 3  # the parent names the mark too; a watcher is one more
    await eventually(lambda: len(processes_with(mark)) == expected)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not processes_with(mark), seconds=10)


async def test_the_watcher_ends_with_its_server(tmp_path: Path) -> None:
    mark = f"{tmp_path}-served"
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()),
        "15", "watcher", "same", sys.executable, "-c", SLEEP, mark,
    )  # fmt: skip
    await eventually(lambda: len(processes_with(mark)) == 2)
    server.kill()
    await server.wait()
    await eventually(lambda: not processes_with(mark), seconds=10)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FolderLock]:
    held = FolderLock(tmp_path / "lock", "the folder")
    held.take()
    yield held
    held.release()


async def start(tmp_path: Path, code: str, **extra: object) -> ChildProcess:
    return await ChildProcess.start(
        "child",
        [sys.executable, "-c", code],
        log=LogFile(tmp_path / "child.log"),
        environment=bare_environment(tmp_path),
        **extra,  # type: ignore[arg-type]
    )


async def test_a_server_holds_the_lock_after_its_supervisor(
    tmp_path: Path, lock: FolderLock
) -> None:
    child = await start(tmp_path, SLEEP, pass_fds=[lock.descriptor])
    lock.release()
    other = FolderLock(tmp_path / "lock", "the folder")
    with pytest.raises(FolderInUse, match=f"process {os.getpid()}"):
        await other.take_within(0.05)
    await child.stop(())
    await other.take_within(5)
    other.release()


async def test_what_ignores_the_gentle_signal_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); " + SLEEP
    child = await start(tmp_path, code)
    await eventually(lambda: child.log.tail() == "deaf")
    assert await child.stop([StopStep(signal.SIGTERM, 0.1)]) == -signal.SIGKILL


async def test_what_a_child_left_in_its_session_goes_with_it(tmp_path: Path) -> None:
    mark = f"{tmp_path}-grandchild"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}, {mark!r}])"
    child = await start(tmp_path, code)
    await child.wait()
    assert processes_with(mark)
    await child.stop(())
    await eventually(lambda: not processes_with(mark))


async def test_a_server_that_ended_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = await start(tmp_path, "import sys; sys.exit('no disk')")
    await child.wait()
    with pytest.raises(ServerFailed, match=r"status 1 .*no disk.*child\.log"):
        child.require_alive()


async def test_children_are_refused_outside_of_the_main_thread(tmp_path: Path) -> None:
    """The signal of the kernel would come when that thread ends."""
    outcome: list[BaseException] = []

    def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="main thread") as caught:
            asyncio.run(start(tmp_path, SLEEP))
        outcome.append(caught.value)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(outcome) == 1


async def test_the_callers_variables_do_not_reach_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's own cloud keys would become those of the S3 server."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-caller")
    child = await start(tmp_path, "import os; print(sorted(os.environ))")
    assert await child.wait() == 0
    assert child.log.tail().startswith("['HOME', 'LC_ALL'")
    assert "AWS" not in child.log.tail()
