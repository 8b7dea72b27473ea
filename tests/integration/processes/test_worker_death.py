"""What a worker ran dies with it, however it and its helpers die."""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.guard.linux import is_stopped
from mitosis.processes.runs import Abilities

from .conftest import marked, wait_until

PROGRAM = Path(__file__).with_name("worker_program.py")
REPOSITORY = Path(__file__).parents[3]
#: Five processes that resist: a child, a daemon, and a daemon's daemon, none of which heeds TERM.
#: It is ready when all five are there, however slowly they are forked.
NASTY = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
limit = time.monotonic() + 30
first = os.getpid()
arrived, arriving = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        os.fork()
else:
    os.fork()
if os.getpid() == first:
    for _ in range(4):
        os.read(arrived, 1)
    print("ready", flush=True)
else:
    os.write(arriving, b".")
while time.monotonic() < limit:
    time.sleep(0.2)
"""


PYTHONPATH = f"{REPOSITORY}:{Path(msgspec.__file__).parents[1]}"


def interpreter(user: int | None) -> str:
    """One that the user may start: a home folder, where ours may be, is closed to others."""
    if user is None:
        return sys.executable
    argv = ["/usr/bin/python3", "-c", "import mitosis.processes.engine"]
    env = {"PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        subprocess.run(argv, check=True, capture_output=True, env=env, user=user, group=user)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no interpreter here that another user may start")
    return argv[0]


class Worker:
    """A running worker program and those that it started."""

    def __init__(
        self,
        folder: Path,
        *,
        user: int | None = None,
        before: Sequence[str] = (),
        popen: dict[str, Any] | None = None,
        **wanted: Any,
    ) -> None:
        """Start it.

        Args:
            folder: for its root and its lock.
            user: whom it runs as.
            before: what stands before its command, as `nohup`.
            popen: more of how it is started.
            wanted: for the program.
        """
        self.mark = f"mark-{uuid.uuid4()}"
        self.lock = folder / "lock"
        wanted = {"root": str(folder / "root"), "lock": str(self.lock), "mark": self.mark,
                  "slots": 2, "python": None if "argv" in wanted else NASTY, **wanted}  # fmt: skip
        arguments = json.dumps(wanted).replace("{mark}", self.mark)
        self.process = subprocess.Popen(
            [*before, interpreter(user), str(PROGRAM), arguments],
            bufsize=0,  # or lines that were read ahead would be missed by `read`
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"},
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            **{"stdin": subprocess.DEVNULL, **(popen or {})},
        )
        said = self.read()
        self.worker: int = said["worker"]
        self.guardian: int = said["guardian"]
        self.first: int = said["first"]
        self.runners: list[int] = said["runners"]

    def read(self) -> Any:
        """The next line that it says."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 20)[0], "the worker says nothing"
        return json.loads(self.process.stdout.readline())

    def kill(self, *pids: int) -> None:
        """Kill at once: nobody of them sees another one die.

        The kernel does see it: with a namespace's first process, or with the guardian over that
        one, the rest may be dead, and its pids others', before its turn has come.
        """
        held = [os.pidfd_open(pid) for pid in pids]
        try:
            for pidfd in held:
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            for pidfd in held:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            for pidfd in held:
                os.close(pidfd)

    def all_dead(self) -> bool:
        """Whether nothing of the tasks is alive."""
        return not marked(self.mark)

    def helpers_dead(self) -> bool:
        """Whether guardian and runners are gone, by the lock that they all hold."""
        with self.lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def end(self) -> None:
        """Nothing survives a test."""
        named = (self.process.pid, self.worker, self.guardian, self.first, *self.runners)
        for pid in (*named, *marked(self.mark)):
            if not pid:
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(**wanted: Any) -> Worker:
        workers.append(Worker(tmp_path, **wanted))
        assert len(marked(workers[-1].mark)) == 5 * wanted.get("slots", 2)
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


KILLED: dict[str, Callable[[Worker], list[int]]] = {
    "worker": lambda w: [w.process.pid],
    "worker and runners": lambda w: [w.process.pid, *w.runners],
    "worker and guardian": lambda w: [w.process.pid, w.guardian],
    "worker and one runner": lambda w: [w.process.pid, w.runners[0]],
}


@pytest.mark.parametrize("who", KILLED)
def test_nothing_of_a_killed_worker_survives(start: Callable[..., Worker], who: str) -> None:
    worker = start()
    assert not worker.helpers_dead()
    worker.kill(*KILLED[who](worker))
    wait_until(worker.all_dead, 10)
    wait_until(worker.helpers_dead, 10)


FROZEN: dict[str, tuple[Callable[[Worker], list[int]], Callable[[Worker], list[int]]]] = {
    "guardian frozen": (lambda w: [w.guardian], lambda w: [w.process.pid]),
    "guardian and runners frozen": (lambda w: [w.guardian, *w.runners], lambda w: [w.process.pid]),
    "runners frozen, guardian killed too": (
        lambda w: w.runners, lambda w: [w.process.pid, w.guardian]),
}  # fmt: skip


@pytest.mark.parametrize("user", [None, 65534], ids=["own user", "nobody"])
@pytest.mark.parametrize("how", FROZEN)
def test_helpers_that_stand_still_at_the_death_of_their_worker_end_all_the_same(
    start_as: Callable[..., Worker], how: str, user: int | None
) -> None:
    """A task can stop them; and nobody else starts in a folder whose lock they hold."""
    worker = start_as(user)
    frozen, killed = FROZEN[how]
    for pid in frozen(worker):
        os.kill(pid, signal.SIGSTOP)
    worker.kill(*killed(worker))
    wait_until(worker.all_dead, 10)
    wait_until(worker.helpers_dead, 10)


def allow_processes(pid: int, limit: int, user: int | None) -> None:
    """Give a process of a user another (soft) limit of processes; its user may do that."""
    text = "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
    argv = ["prlimit", "--pid", str(pid), f"--nproc={text}:"]
    subprocess.run(argv, check=True, user=user, group=user)


def test_a_runner_that_cannot_be_forked_just_now_comes_later_and_costs_no_other_one_anything(
    start_as: Callable[..., Worker], tmp_path: Path
) -> None:
    """Programs of the same user may take all the processes that it may have, for a while."""
    with (tmp_path / "said").open("wb") as said:
        user = 65534 if os.geteuid() == 0 else None
        worker = start_as(user, report=True, popen={"stderr": said})
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    allow_processes(worker.guardian, 0, user)
    for runner in worker.runners:
        os.kill(runner, signal.SIGKILL)
    assert worker.read() == ["own", "own"]
    assert worker.read() == [[True], [True]]
    worker.read()
    worker.read()
    wait_until(lambda: (tmp_path / "said").read_text().count("no runner for slot 0") > 1)
    allow_processes(worker.guardian, most, user)
    wait_until(lambda: len(_children(worker.guardian)) == 2)
    assert worker.read() is True, "a new folder"
    assert worker.process.wait(20) == 0


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


ISOLATED: dict[str, Callable[[Worker], list[int]]] = {
    "worker": lambda w: [w.process.pid],
    "worker and guardian": lambda w: [w.process.pid, w.guardian],
    "guardian and runners": lambda w: [w.guardian, *w.runners],
    "worker, guardian and first process": lambda w: [w.process.pid, w.guardian, w.first],
    "everything": lambda w: [w.process.pid, w.guardian, w.first, *w.runners],
}


@pytest.fixture
def start_as(ground: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(user: int | None, **wanted: Any) -> Worker:
        if user is not None and os.geteuid() != 0:
            pytest.skip("only root can start a worker as somebody else")
        workers.append(Worker(ground, user=user, **wanted))
        assert len(marked(workers[-1].mark)) == 10
        return workers[-1]

    yield begin
    for worker in workers:
        worker.end()


@pytest.fixture
def start_isolated(start_as: Callable[..., Worker]) -> Callable[..., Worker]:
    return partial(start_as, isolate=True)


#: A worker is mostly a normal user's.
USERS = pytest.mark.parametrize("user", [None, 65534], ids=["own user", "nobody"])


@USERS
@pytest.mark.parametrize("who", ISOLATED)
def test_in_a_namespace_nothing_survives_whoever_is_killed_in_one_moment(
    start_isolated: Callable[..., Worker], who: str, user: int | None
) -> None:
    """Only the kernel can promise this when nobody is left to do it."""
    worker = start_isolated(user)
    worker.kill(*ISOLATED[who](worker))
    wait_until(worker.all_dead, 5)
    if who != "guardian and runners":
        wait_until(worker.helpers_dead, 5)


@USERS
def test_in_a_namespace_nothing_outlives_its_lease_when_everybody_is_frozen_in_one_moment(
    start_isolated: Callable[..., Worker], user: int | None
) -> None:
    """SIGKILL of a timer reaches a process that is stopped, and nobody is left to send another."""
    worker = start_isolated(user, lease=3.0)
    frozen = (worker.process.pid, worker.guardian, worker.first, *worker.runners)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    assert not worker.all_dead()
    wait_until(worker.all_dead, 10)
    assert is_stopped(worker.process.pid), "nobody has gone on"
    worker.process.kill()
    wait_until(worker.helpers_dead, 5)


@pytest.mark.parametrize("control_groups", [True, False])
def test_what_survives_everybody_is_killed_before_a_worker_starts_again_in_its_folder(
    start: Callable[..., Worker], tmp_path: Path, control_groups: bool
) -> None:
    if control_groups and not _can_kill_groups(tmp_path / "probe"):
        pytest.skip("no control groups here that can be killed")
    worker = start(control_groups=control_groups)
    everybody = (worker.process.pid, worker.guardian, *worker.runners)
    for pid in everybody:  # or the last ones act upon the death of the first
        os.kill(pid, signal.SIGSTOP)
    worker.kill(*everybody)
    wait_until(worker.helpers_dead, 5)
    assert len(marked(worker.mark)) == 10, "without a namespace nobody is left to kill them"
    visitor = subprocess.Popen(["sleep", "20"], env={"PWD": f"{tmp_path}/root/slot-0-0/work"})
    asyncio.run(_start_and_close(tmp_path / "elsewhere", control_groups=control_groups))
    assert len(marked(worker.mark)) == 10, "another worker's folder is its own matter"
    asyncio.run(_start_and_close(tmp_path / "root", control_groups=control_groups))
    assert worker.all_dead()
    assert visitor.poll() is None
    visitor.kill()
    visitor.wait()


def _can_kill_groups(root: Path) -> bool:
    return asyncio.run(_start_and_close(root, control_groups=True)).cgroup_kill


async def _start_and_close(root: Path, *, control_groups: bool) -> Abilities:
    engine = Engine(1, root, control_groups=control_groups)
    await engine.start()
    found = engine.abilities
    await engine.close(0.0)
    return found


def test_a_lock_says_when_everything_is_dead(start: Callable[..., Worker]) -> None:
    worker = start()
    worker.kill(worker.process.pid)
    wait_until(worker.helpers_dead, 10)
    assert worker.all_dead(), "the helpers hold the lock until the tasks are dead"


@USERS
def test_guardian_and_runners_killed_together_are_swept_by_a_worker_that_is_a_subreaper(
    start_as: Callable[..., Worker], user: int | None
) -> None:
    worker = start_as(user, subreaper=True, lost=True)
    worker.kill(worker.guardian, *worker.runners)
    wait_until(worker.all_dead, 10)
    assert worker.read() == ["own", "own"]
    assert worker.read() == [True, True], "a task of the same user is the likely cause"
    assert worker.process.wait(20) == 0


@USERS
def test_guardian_and_runners_frozen_together_keep_no_task_beyond_its_time(
    start_as: Callable[..., Worker], user: int | None
) -> None:
    """A task of the same user can stop them all; its timeout and its cancel must reach it yet."""
    worker = start_as(user, subreaper=True, ping=0.3, lease=60, timeout=5.0)
    for pid in (worker.guardian, *worker.runners):
        os.kill(pid, signal.SIGSTOP)
    wait_until(worker.all_dead, 10)
    assert worker.read() == ["timeout", "timeout"], "the runners go on when the guardian is killed"
    assert worker.process.wait(20) == 0


#: A child dies just after it was listed, and leaves one of its own.
SWEEP = """
import os, signal
from mitosis.processes import launch
from mitosis.processes.guard import linux
launch.become_subreaper()
arrived, arriving = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(arriving, b".")
    signal.alarm(20)
    signal.pause()
os.read(arrived, 1)
listed = linux.children_of
def list_before_they_die(pid):
    found = listed(pid)
    for child in found:
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return found
linux.children_of = list_before_they_die
rounds = 1
while not launch.sweep_adopted(frozenset()):
    linux.children_of = listed
    rounds += 1
print(rounds > 1, listed(os.getpid()))
"""


def test_what_a_dying_child_leaves_to_the_worker_while_it_sweeps_is_swept_too() -> None:
    argv = [sys.executable, "-c", SWEEP]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20)
    assert said.stdout == "True []\n"


def test_messages_that_the_worker_had_not_read_save_nothing(start: Callable[..., Worker]) -> None:
    worker = start(unread=True)
    worker.kill(worker.process.pid)
    wait_until(worker.all_dead, 10)
    wait_until(worker.helpers_dead, 10)


def test_a_forked_copy_of_the_worker_keeps_no_task_alive(start: Callable[..., Worker]) -> None:
    worker = start(copy=True)
    worker.kill(worker.process.pid)
    wait_until(worker.all_dead, 10)
    [copy] = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and worker.mark.encode() in _command(entry)
    ]
    os.kill(copy, signal.SIGKILL)
    wait_until(worker.helpers_dead, 10)


@USERS
def test_a_frozen_worker_loses_its_tasks_at_the_end_of_the_lease(
    start_as: Callable[..., Worker], user: int | None
) -> None:
    worker = start_as(user, lease=2.0)
    os.kill(worker.process.pid, signal.SIGSTOP)
    begin = time.monotonic()
    wait_until(worker.all_dead, 10)
    assert time.monotonic() - begin < 6
    os.kill(worker.process.pid, signal.SIGCONT)
    assert worker.read() == ["lease", "lease"]
    assert worker.process.wait(20) == 0


@USERS
def test_runners_that_are_frozen_with_their_worker_keep_no_task_alive(
    start_as: Callable[..., Worker], user: int | None
) -> None:
    worker = start_as(user, lease=2.0)
    for pid in (worker.process.pid, *worker.runners):
        os.kill(pid, signal.SIGSTOP)
    wait_until(worker.all_dead, 10)
    os.kill(worker.process.pid, signal.SIGCONT)
    assert worker.process.wait(20) == 0


def test_the_epitaph_is_spoken_when_everything_is_dead(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    said = tmp_path / "said"
    script = f"grep -lz MARK={{mark}} /proc/[0-9]*/environ > {said}.new; mv {said}.new {said}"
    worker = start(epitaph=["sh", "-c", script])
    worker.kill(worker.process.pid)
    wait_until(said.exists, 10)
    assert said.read_text() == ""
    wait_until(worker.helpers_dead, 10)


def test_a_worker_that_ends_in_order_leaves_no_epitaph(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    said = tmp_path / "said"
    worker = start(epitaph=["touch", str(said)], lease=3.0)
    assert worker.read() == ["lease", "lease"]
    assert worker.process.wait(20) == 0
    wait_until(worker.helpers_dead, 10)
    assert not said.exists()


def test_signals_of_a_terminal_and_of_a_service_stop_do_not_reach_the_helpers(
    start: Callable[..., Worker],
) -> None:
    worker = start()
    for pid in (worker.guardian, *worker.runners):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, number)
        os.kill(pid, 0)
        assert os.getsid(pid) == worker.guardian
    assert not worker.helpers_dead()
    assert len(marked(worker.mark)) == 10


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
