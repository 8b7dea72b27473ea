"""Cancels, planned stops and dead workers, as users of other platforms have met them."""

import contextlib
import random
import secrets
import shutil
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import psycopg
import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs, WatchArgs
from mitosis.contract.commands import Submitted
from mitosis.domain.task import EndCause, ExitKind, Outcome, TaskState
from mitosis.errors import WrongState

from .conftest import Platform, ended, in_shell
from .parity.machines import Link, Machine, Owner, machine, soon


class Yard(NamedTuple):
    """A user, and the machines that serve them in one test."""

    platform: Platform
    owner: Owner
    folder: Path
    stack: contextlib.ExitStack

    @property
    def client(self) -> SyncMitoClient:
        return self.owner.client

    def worker(self, *options: str | Path, address: str = "") -> Machine:
        """Start a worker, which is ended with the test at the latest."""
        box = self.stack.enter_context(machine(self.folder / secrets.token_hex(3)))
        box.run_worker(
            "-c", address or self.platform.notice["http"], "-u", self.owner.name, *options,
            MITO_PASSWORD=self.owner.password,
        )  # fmt: skip
        box.registered()
        return box


@pytest.fixture(scope="module")
def owner(platform: Platform, admin: SyncMitoClient, scratch: Path) -> Iterator[Owner]:
    folder = scratch / f"owner-{secrets.token_hex(3)}"
    folder.mkdir()
    made = Owner(platform, admin, folder)
    with contextlib.closing(made.client):
        yield made


@pytest.fixture
def yard(platform: Platform, owner: Owner, scratch: Path) -> Iterator[Yard]:
    folder = scratch / f"yard-{secrets.token_hex(3)}"
    with contextlib.ExitStack() as stack:
        yield Yard(platform, owner, folder, stack)


class Beats:
    """A task whose processes, one of them in a session of its own, write into one file until told.

    It is deaf to SIGTERM, so that whatever ends it must use force.
    """

    def __init__(self, client: SyncMitoClient, folder: Path, **options: int) -> None:
        self.file, self._gate = folder / "beats", folder / "gate"
        beat = (
            f"trap '' TERM; until [ -e {self._gate} ]; "
            f"do echo $MITO_ATTEMPT $$ >> {self.file}; sleep .02; done"
        )
        script = f"setsid sh -c '{beat.replace(chr(39), chr(34))}' & {beat}; wait"
        self.task = client.submit_task(in_shell(script, grace="300ms", **options)).task

    def lines(self) -> list[tuple[int, int]]:
        """Attempt and process of each beat."""
        if not self.file.exists():
            return []
        found = self.file.read_text().split("\n")[:-1]  # the last one may be half written
        return [(int(a), int(p)) for a, p in (line.split() for line in found)]

    def processes(self, attempt: int) -> set[int]:
        """Those of an attempt that have written."""
        return {pid for number, pid in self.lines() if number == attempt}

    def beats_on(self, attempt: int) -> None:
        """Wait until both processes of an attempt write."""
        soon(lambda: len(self.processes(attempt)) == 2, seconds=60)

    def end(self) -> None:
        """Let it end."""
        self._gate.touch()

    def overlaps(self) -> bool:
        """Whether an attempt has written after a later one."""
        attempts = [attempt for attempt, _ in self.lines()]
        return attempts != sorted(attempts)


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def runs_a_new_one(yard: Yard) -> None:
    """Whoever serves is not disturbed: it takes the next task and finishes it."""
    (view,) = ended(yard.client, in_shell("true"))
    assert view.outcome is Outcome.SUCCEEDED


# --- workers that die or are stopped -------------------------------------------------------------


@pytest.mark.parity("F-10")
def test_what_a_killed_worker_ran_is_dead_before_another_worker_runs_it_again(
    yard: Yard, tmp_path: Path
) -> None:
    """The running process went on with no owner, and a second one was started beside it."""
    killed = yard.worker()
    beats = Beats(yard.client, tmp_path)
    beats.beats_on(1)
    killed.process.stop(signal.SIGKILL)
    other = yard.worker()
    beats.beats_on(2)
    assert not any(map(alive, beats.processes(1)))
    beats.end()
    (view,) = yard.client.wait_for_tasks([beats.task])
    assert (view.outcome, view.attempt, view.worker) == (Outcome.SUCCEEDED, 2, other.uuid)
    assert not beats.overlaps()


def test_a_folder_that_was_removed_beside_a_living_worker_is_not_taken_for_that_of_a_dead_one(
    yard: Yard, tmp_path: Path
) -> None:
    """Its lock is free then, as it would be behind a dead worker; but what it runs is alive."""
    place = tmp_path / "work"
    living = yard.worker("--work-dir", place)
    beats = Beats(yard.client, tmp_path)
    beats.beats_on(1)
    shutil.rmtree(place)
    second = yard.stack.enter_context(machine(yard.folder / "second"))
    second.run_worker(
        "-c", yard.platform.notice["http"], "-u", yard.owner.name, "--work-dir", place,
        MITO_PASSWORD=yard.owner.password,
    )  # fmt: skip
    assert second.process.wait() == 1
    assert "was removed while a worker used it" in second.process.err
    assert all(map(alive, beats.processes(1)))
    assert yard.client.get_worker(living.uuid).state == "normal"
    assert not yard.client.cancel_task(beats.task).ended
    (view,) = yard.client.wait_for_tasks([beats.task])
    assert (view.attempt, view.losses, view.worker) == (1, 0, living.uuid)


@pytest.mark.parity("F-32", "D-012")
def test_planned_stops_end_the_task_at_once_and_are_never_counted_against_it(
    yard: Yard, tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """A crash counter went up at each, and a forced cancel left the process running."""
    rounds = scaled(2, 6)
    beats = Beats(yard.client, tmp_path, max_losses=1)
    for attempt in range(1, rounds + 1):
        box = yard.worker()
        beats.beats_on(attempt)
        if attempt % 2:
            done = yard.owner.mito("manage", "worker", box.uuid, "cancel", "-f")
            assert done.status == 0, done
        else:  # the first one lets it finish, the second one hands the task back
            box.process.process.send_signal(signal.SIGTERM)
            soon(lambda box=box: "leaving" in box.process.err)  # type: ignore[misc]
            box.process.process.send_signal(signal.SIGTERM)
        assert box.process.wait() == 0
        assert not any(map(alive, beats.processes(attempt)))
        view = yard.client.get_task(beats.task)
        assert (view.state, view.attempt, view.losses) == (TaskState.READY, attempt, 0)
    yard.worker()
    beats.beats_on(rounds + 1)
    beats.end()
    (view,) = yard.client.wait_for_tasks([beats.task])
    assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, rounds + 1, 0)
    assert not beats.overlaps()
    assert [former.end.value for former in view.former_attempts] == ["handed_back"] * rounds


@pytest.mark.parity("D-014")
def test_what_has_ended_is_not_run_again_whatever_becomes_of_its_worker(
    yard: Yard, tmp_path: Path
) -> None:
    """An expired heartbeat, a restart or a cancelled worker put finished tasks into the queue."""
    link = Link(yard.platform.notice["nats"])
    yard.stack.callback(link.close)
    box = yard.worker(address=link.address)
    runs, go, pid = tmp_path / "runs", tmp_path / "go", tmp_path / "pid"
    script = f"echo $$ > {pid}; echo x >> {runs}; until [ -e {go} ]; do sleep .02; done; exit 3"
    before = ended(yard.client, in_shell(f"echo x >> {runs}"))
    behind = yard.client.submit_task(in_shell(script))
    soon(lambda: runs.exists() and runs.read_text() == "x\nx\n")
    link.cut()
    soon(lambda: yard.client.get_worker(box.uuid).state == "unreachable")
    go.touch()  # it ends where nobody can be told
    soon(lambda: not alive(int(pid.read_text())))
    link.join()
    (told,) = yard.client.wait_for_tasks([behind])
    assert (told.outcome, told.attempt, told.losses) == (Outcome.FAILED, 1, 0)
    box.process.stop(signal.SIGKILL)
    again = yard.worker()
    yard.client.cancel_worker(again.uuid, force=True)
    yard.worker()
    runs_a_new_one(yard)
    assert runs.read_text() == "x\nx\n"
    assert [yard.client.get_task(v.uuid) for v in (*before, told)] == [*before, told]


def test_a_worker_that_is_cut_off_gets_nothing_new_goes_on_with_its_task_and_is_given_work_again(
    yard: Yard, tmp_path: Path
) -> None:
    link = Link(yard.platform.notice["nats"])
    yard.stack.callback(link.close)
    box = yard.worker("--slots", "2", address=link.address)
    beats = Beats(yard.client, tmp_path)
    beats.beats_on(1)
    link.cut()
    soon(lambda: yard.client.get_worker(box.uuid).state == "unreachable")
    waiting = yard.client.submit_task(in_shell("true"))
    view = yard.client.get_task(waiting.task)
    assert (view.state, view.attempt) == (TaskState.READY, 0), (
        "a slot is free, but not to be reached"
    )
    assert all(map(alive, beats.processes(1)))
    link.join()
    beats.end()
    views = yard.client.wait_for_tasks([waiting, beats.task])
    ends = [(view.outcome, view.attempt, view.losses, view.worker) for view in views]
    assert ends == [(Outcome.SUCCEEDED, 1, 0, box.uuid)] * 2


# --- cancel --------------------------------------------------------------------------------------


@pytest.mark.parity("F-34")
def test_a_cancel_that_the_worker_could_not_hear_is_carried_out_when_its_link_is_back(
    yard: Yard, tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """It was sent once and forgotten; the task went on for an hour.

    The next heartbeat is minutes away: it is the return of the link that brings the order.
    """
    link = Link(yard.platform.notice["nats"])
    yard.stack.callback(link.close)
    slow = ("--heartbeat-interval", "1h", "--polling-interval", "1h")
    box = yard.worker(*slow, address=link.address)
    beats = Beats(yard.client, tmp_path)
    beats.beats_on(1)
    link.cut()
    soon(lambda: yard.client.get_worker(box.uuid).state == "unreachable")
    cut_at = time.monotonic()
    assert not yard.client.cancel_task(beats.task).ended
    away = scaled(1, 10)
    soon(lambda: time.monotonic() > cut_at + away)
    assert all(map(alive, beats.processes(1)))
    assert yard.client.get_task(beats.task).state is TaskState.RUNNING
    link.join()
    soon(lambda: not any(map(alive, beats.processes(1))), seconds=30)
    (view,) = yard.client.wait_for_tasks([beats.task])
    assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.CANCELLED)
    runs_a_new_one(yard)


@pytest.mark.parity("F-38")
def test_a_task_of_a_worker_that_drains_can_be_cancelled_and_then_the_worker_leaves(
    yard: Yard,
) -> None:
    """A worker that was leaving no longer listened, nor did it send heartbeats."""
    box = yard.worker("--heartbeat-interval", "200ms")
    task = yard.client.submit_task(in_shell("trap '' INT; sleep 60")).task
    soon(lambda: yard.client.get_task(task).started_at)
    yard.client.cancel_worker(box.uuid)
    soon(lambda: "leaving" in box.process.err)
    heard: set[object] = set()

    def three_heartbeats() -> bool:
        view = yard.client.get_worker(box.uuid)
        assert (view.state, box.process.ended()) == ("draining", False)
        heard.add(view.last_heartbeat_at)
        return len(heard) >= 3

    soon(three_heartbeats)
    begun = time.monotonic()
    assert not yard.client.cancel_task(task).ended
    (view,) = yard.client.wait_for_tasks([task])
    assert box.process.wait() == 0
    assert time.monotonic() - begun < 30, "and not when the task would have ended"
    assert view.outcome is Outcome.CANCELLED
    assert view.exit is not None
    assert (view.exit.kind, view.exit.number, view.exit.cause) == (
        ExitKind.SIGNAL, 15, EndCause.CANCEL,
    )  # fmt: skip
    assert yard.client.get_worker(box.uuid).state == "gone"


@pytest.mark.parity("F-37")
def test_tasks_that_wait_behind_a_running_one_also_in_its_worker_are_cancelled_and_never_start(
    yard: Yard, tmp_path: Path
) -> None:
    """A cancel of what a worker had reserved already was ignored, and it ran."""
    yard.worker()
    for attempt in range(8):
        ended(yard.client, *[in_shell("true")] * 40)  # who is as quick is sent some ahead
        if cancels_what_waits(yard, tmp_path / str(attempt)):
            break
    else:
        pytest.fail("no task was in the worker before it was cancelled")
    runs_a_new_one(yard)


def cancels_what_waits(yard: Yard, folder: Path) -> bool:
    """Cancel five tasks behind a running one; whether some of them were in the worker already."""
    folder.mkdir()
    go = folder / "go"
    busy = yard.client.submit_task(in_shell(f"until [ -e {go} ]; do sleep .02; done"))
    waiting = yard.client.submit_many([in_shell(f"touch {folder}/ran-{n}") for n in range(5)])
    # With the report of its start it is given some of the others.
    assert any(yard.client.get_task(busy.task).started_at for _ in range(1_000))
    for one in waiting:
        yard.client.cancel_task(one.task)
    views = list(yard.client.wait_for_tasks(waiting))
    assert {(v.outcome, v.started_at, v.exit) for v in views} == {(Outcome.CANCELLED, None, None)}
    assert yard.client.get_task(busy.task).state is TaskState.RUNNING
    go.touch()
    (view,) = yard.client.wait_for_tasks([busy])
    assert view.outcome is Outcome.SUCCEEDED
    assert not list(folder.glob("ran-*"))
    return any(view.attempt for view in views)


@pytest.mark.parity("D-010", "D-011")
def test_a_task_can_be_cancelled_in_each_state_and_ends_as_cancelled(
    yard: Yard, tmp_path: Path
) -> None:
    """Only what ran could be stopped, and that only by ending all of a group, or not at all."""
    client = yard.client
    ready = client.submit_task(in_shell("true"))
    watching = client.submit_task(in_shell("true", watch=WatchArgs(ready.task, "ExecFinished")))
    assert client.get_task(watching.task).state is TaskState.PENDING
    assert client.cancel_task(watching.task).ended
    assert client.get_task(ready.task).state is TaskState.READY
    assert client.cancel_task(ready.task).ended
    yard.worker()
    retried = client.submit_task(in_shell("exit 1", retries=1, retry_delay="1h"))
    soon(lambda: client.get_task(retried.task).retry_at)
    assert client.cancel_task(retried.task, "enough").ended
    beats = Beats(client, tmp_path)
    beats.beats_on(1)
    assert not client.cancel_task(beats.task).ended
    (running,) = client.wait_for_tasks([beats.task])
    assert not any(map(alive, beats.processes(1)))
    assert running.exit is not None
    assert (running.exit.kind, running.exit.number) == (ExitKind.SIGNAL, 9)
    for one in (ready.task, watching.task, retried.task, beats.task):
        view = client.get_task(one)
        assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.CANCELLED)
    assert client.get_task(retried.task).reason == "enough"


def ends_in_the_archive(platform: Platform, tasks: list[str]) -> dict[str, list[str]]:
    """All that was stored of tasks from the event on that ended each, in its order."""
    config = platform.data / "config" / "coordinator.toml"
    url = tomllib.loads(config.read_text())["coordinator"]["db_url"]
    found: dict[str, list[str]] = {}
    with psycopg.connect(url) as session:
        rows = session.execute(
            "SELECT subject, payload FROM archive.commits"
            " WHERE split_part(subject, '.', 5) = ANY(%s) ORDER BY position",
            [tasks],
        ).fetchall()
    for subject, payload in rows:
        names = [topic for topic, *_ in msgspec.json.decode(payload)["events"]]
        found.setdefault(subject.rpartition(".")[2], []).extend(names)
    terminal = {"task.committed@1", "task.cancelled@1"}
    return {
        task: names[next(n for n, name in enumerate(names) if name in terminal) :]
        for task, names in found.items()
    }


@pytest.mark.parity("F-35")
def test_a_cancel_at_the_moment_of_the_end_gives_one_end_which_never_changes(
    yard: Yard, scaled: Callable[[int, int], int]
) -> None:
    """It raised an error in the task, or made the worker stop taking any."""
    count, chance = scaled(60, 1_000), random.Random(35)  # noqa: S311  no secret
    box = yard.worker("--slots", "4")
    client = yard.client
    waits = [chance.uniform(0, 0.4) for _ in range(count)]
    refused: list[str] = []

    def race(wait: float) -> Submitted:
        task = client.submit_task(SubmitTaskArgs(command=("sleep", "0.2")))
        time.sleep(wait)  # the moment of the cancel, which is what this is about
        try:
            client.cancel_task(task.task)
        except WrongState:
            refused.append(task.task)
        return task

    with ThreadPoolExecutor(4) as threads:
        tasks = list(threads.map(race, waits))
    views = {view.uuid: view for view in client.wait_for_tasks(tasks)}
    outcomes = {view.outcome for view in views.values()}
    assert outcomes == {Outcome.SUCCEEDED, Outcome.CANCELLED}, "both sides win sometimes"
    assert 0 < len(refused) < count
    assert {views[task].outcome for task in refused} == {Outcome.SUCCEEDED}

    def cancel_again(task: Submitted) -> None:
        with pytest.raises(WrongState, match="has ended already"):
            client.cancel_task(task.task)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(cancel_again, tasks))
    shown = yard.owner.mito("manage", "task", tasks[0].task, "cancel")
    assert (shown.status, "has ended already" in shown.complaint) == (5, True)
    runs_a_new_one(yard)
    assert client.get_worker(box.uuid).state == "normal"
    for task in tasks:
        assert client.get_task(task.task) == views[task.task]
    ends = ends_in_the_archive(yard.platform, list(views))
    assert {task: len(names) for task, names in ends.items()} == dict.fromkeys(views, 1)
