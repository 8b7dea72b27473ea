"""Cancels and unavailable services: what was promised holds over a kill and over a cut link.

The lease is the usual one, so that nothing here is settled by waiting for its end.
"""

import contextlib
import os
import signal
import socket
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from mitosis.config.client import SubmitTaskArgs, WatchArgs
from mitosis.contract.commands import Submitted
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import ArtifactKind, Outcome, TaskState
from mitosis.errors import WrongState

from .conftest import Platform, in_shell
from .crews import Crew, crew_of, frozen, kill_coordinator, own_platform
from .parity.machines import Link, Machine, soon

LIVE = ("pending", "ready", "retrying", "assigned", "running", "uploading")


@pytest.fixture(scope="module")
def sturdy() -> Iterator[Platform]:
    with own_platform() as platform:
        yield platform


@pytest.fixture
def crew(sturdy: Platform, tmp_path: Path) -> Iterator[Crew]:
    with crew_of(sturdy, tmp_path) as made:
        yield made


@pytest.fixture
def link(sturdy: Platform) -> Iterator[Link]:
    """The network between the platform and a worker."""
    with contextlib.closing(Link(sturdy.notice["nats"])) as made:
        yield made


class Scene:
    """A task of the crew in each live state; the worker of the last three is frozen."""

    def __init__(self, crew: Crew, box: Machine) -> None:
        self.crew, self.box = crew, box
        self.tasks: dict[str, Submitted] = {}
        client, nobody = crew.client, f"{crew.owner.name}-nobody"
        client.create_group(nobody)  # no worker serves it
        self._add("ready", SubmitTaskArgs(command=("true",), group=nobody))
        watch = WatchArgs(self.tasks["ready"].task, ExecutionState.EXEC_SPAWNED)
        self._add("pending", in_shell(f"echo pending >> {crew.ledger}", watch=watch))
        self._add(
            "retrying",
            in_shell(f"echo retrying >> {crew.ledger}; exit 1", retries=1, retry_delay="1h"),
        )
        # More than the sockets hold: it cannot be over while the worker is frozen.
        self._add("uploading", in_shell("head -c 32M /dev/urandom > $MITO_RESULT_DIR/it"))
        trap = f"trap 'echo asked >> {crew.ledger}; exit 0' TERM"
        self._add(
            "running", in_shell(f"{trap}; echo running >> {crew.ledger}; sleep 600 & wait; wait")
        )
        soon(lambda: client.get_task(self.tasks["retrying"].task).retry_at)
        soon(lambda: self._step("uploading") is ExecutionState.UPLOAD_FINISHED_RESULT)
        soon(lambda: self._step("running") is ExecutionState.EXEC_SPAWNED)
        os.kill(box.process.process.pid, signal.SIGSTOP)
        self._add("assigned", in_shell(f"sleep 600; echo assigned >> {crew.ledger}"))
        soon(lambda: client.get_task(self.tasks["assigned"].task).attempt == 1)

    def _add(self, name: str, args: SubmitTaskArgs) -> None:
        self.tasks[name] = self.crew.client.submit_task(args)

    def _step(self, name: str) -> ExecutionState | None:
        return self.crew.client.get_execution_state(self.tasks[name].task)

    def thaw(self) -> None:
        """Let the worker go on."""
        os.kill(self.box.process.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("fault", ["the coordinator is killed", "the link of the worker is cut"])
def test_a_cancel_of_a_task_in_any_live_state_holds_once_it_is_acknowledged(
    sturdy: Platform, crew: Crew, link: Link, fault: str
) -> None:
    box = crew.hire("--slots", "4", by=link.address)
    with frozen(sturdy, "weed", "mini"):  # so that the upload does not come to its end
        scene = Scene(crew, box)
    tasks = [scene.tasks[name] for name in LIVE]
    if fault == "the link of the worker is cut":
        link.cut()
    ended = [crew.client.cancel_task(task.task, "no more").ended for task in tasks]
    if fault == "the coordinator is killed":
        kill_coordinator(sturdy)
    views = crew.client.wait_for_tasks(tasks[:3], timedelta(seconds=60))
    with frozen(sturdy, "weed", "mini"):
        link.join()
        scene.thaw()
        views = [*views, *crew.client.wait_for_tasks(tasks[3:], timedelta(seconds=60))]
    assert ended == [True] * 3 + [False] * 3
    for name, view in zip(LIVE, views, strict=True):
        assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.CANCELLED), name
        assert view.attempt == (0 if name in {"pending", "ready"} else 1), name
        with pytest.raises(WrongState, match="has ended already"):
            crew.client.cancel_task(view.uuid)
    assert [view.artifacts for view in views] == [[]] * 6
    # Nothing that waited begins after it, and the program that ran was asked to end.
    assert sorted(crew.lines()) == ["asked", "retrying", "running"]
    after, _ = crew.client.wait_for_tasks([crew.noted("after"), crew.noted("after")])
    assert (after.outcome, after.worker) == (Outcome.SUCCEEDED, box.uuid), "it is the same worker"
    refused = crew.mito("manage", "task", scene.tasks["running"].task, "cancel")
    assert (refused.status, "has ended already" in refused.complaint) == (5, True)


def test_a_cancel_and_the_end_of_a_task_that_meet_leave_one_outcome(
    sturdy: Platform, crew: Crew
) -> None:
    crew.hire("--slots", "4")
    tasks, refused = [], []
    for n in range(60):
        task = crew.client.submit_task(in_shell(f"sleep 0.0{n % 10}"))
        tasks.append(task)
        if n % 3:  # at once, or when it is about to end
            soon(lambda: crew.client.get_task(task.task).started_at)  # noqa: B023
        try:
            crew.client.cancel_task(task.task)
        except WrongState:
            refused.append(task.task)
    views = crew.client.wait_for_tasks(tasks, timedelta(seconds=60))
    outcomes = {view.uuid: view.outcome for view in views}
    assert set(outcomes.values()) <= {Outcome.SUCCEEDED, Outcome.CANCELLED}
    assert {outcomes[task] for task in refused} <= {Outcome.SUCCEEDED}
    config = tomllib.loads((sturdy.data / "config" / "coordinator.toml").read_text())
    stored: dict[str, list[bytes]] = {task.task: [] for task in tasks}
    with psycopg.connect(config["coordinator"]["db_url"]) as session:
        for subject, payload in session.execute("SELECT subject, payload FROM archive.commits"):
            if (name := subject.rpartition(".")[2]) in stored:
                stored[name].append(payload)
    for task in tasks:
        commits = b"".join(stored[task.task])
        assert commits.count(b"task.committed@") + commits.count(b"task.cancelled@") == 1


@pytest.mark.parity("D-018")
def test_a_worker_lives_through_the_absence_of_its_services_and_reports_afterwards(
    sturdy: Platform, crew: Crew, tmp_path: Path
) -> None:
    """Any answer of "unavailable" ended the worker."""
    box = crew.hire("--heartbeat-interval", "200ms", "--slots", "2")
    tasks, gates = zip(*[crew.gated(f"task-{n}") for n in range(2)], strict=True)
    soon(lambda: len(crew.lines()) == 2)
    supervisor = sturdy.supervisor.process.pid
    with frozen(sturdy, "weed", "mini"):
        os.kill(supervisor, signal.SIGSTOP)  # nobody starts another coordinator meanwhile
        try:
            os.kill(sturdy.child("mitosis coordinator"), signal.SIGKILL)
            soon(lambda: "the lease is not renewed" in box.process.err)
            gates[0].touch()
            soon(lambda: "reports wait" in box.process.err)
        finally:
            os.kill(supervisor, signal.SIGCONT)
        gates[1].touch()
        # The next coordinator serves without the store of outputs, which comes back last.
        views = list(crew.client.wait_for_tasks(tasks, timedelta(seconds=60)))
        outputs = crew.client.submit_task(in_shell("echo kept > $MITO_RESULT_DIR/it"))
        soon(lambda: crew.client.get_task(outputs.task).started_at, 30)
    views += crew.client.wait_for_tasks([outputs], timedelta(seconds=60))
    assert [(view.outcome, view.attempt) for view in views] == [(Outcome.SUCCEEDED, 1)] * 3
    assert {view.worker for view in views} == {box.uuid}
    assert [artifact.kind for artifact in views[2].artifacts] == [ArtifactKind.RESULT]
    assert not box.process.ended()


@pytest.mark.parity("D-023")
def test_workers_that_vanish_in_the_middle_of_anything_harm_nobody_else(
    sturdy: Platform, crew: Crew, link: Link
) -> None:
    """A worker that disconnected at the wrong moment stopped the coordinator."""
    address = urlsplit(sturdy.notice["nats"])
    coordinator = soon(lambda: one_of(sturdy.children("mitosis coordinator")), 30)
    shaky = [crew.hire("--slots", "4", "-t", "shaky", by=link.address) for _ in range(2)]
    busy = [crew.noted("shaky", tags=("shaky",), retries=9) for _ in range(200)]
    solid = crew.hire("-t", "solid")
    done: list[Submitted] = []
    for n in range(10):
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as raw:
            raw.sendall(b"PUB mito.worker.x.report 999999\r\n{" if n % 2 else b"\0\xff" * 500)
        link.cut()
        done.append(crew.noted("solid", tags=("solid",)))
        link.join()
        if n == 5:
            shaky[0].process.stop(signal.SIGKILL)
    views = crew.client.wait_for_tasks([*done, *busy], timedelta(seconds=100))
    assert {view.outcome for view in views} == {Outcome.SUCCEEDED}
    assert {(view.worker, view.attempt) for view in views[:10]} == {(solid.uuid, 1)}
    assert soon(lambda: one_of(sturdy.children("mitosis coordinator"))) == coordinator
    logs = [path.read_text() for path in sturdy.data.rglob("coordinator*.log")]
    assert logs
    assert not [line for log in logs for line in log.splitlines() if "Traceback" in line]


def one_of(found: list[int]) -> int | None:
    """The one that was found; None when there is none, or more."""
    return found[0] if len(found) == 1 else None
