"""Cases from the field about workers that are frozen or killed, on a platform with short leases."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mitosis.config.client import SubmitTaskArgs
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import ArtifactKind, Outcome, TaskState
from mitosis.errors import MitosisError

from .conftest import Platform, command_of
from .crews import Crew, crew_of, frozen, kill_coordinator, own_platform
from .parity.machines import Link, Machine, soon

LEASE_SECONDS = 3


@pytest.fixture(scope="module")
def brittle() -> Iterator[Platform]:
    with own_platform(f'heartbeat_timeout = "{LEASE_SECONDS}s"\n') as platform:
        yield platform


@pytest.fixture
def crew(brittle: Platform, tmp_path: Path) -> Iterator[Crew]:
    with crew_of(brittle, tmp_path) as made:
        yield made


@pytest.mark.parity("F-41")
def test_a_worker_that_was_frozen_past_its_lease_ends_what_it_ran_and_is_not_believed(
    brittle: Platform, crew: Crew, tmp_path: Path
) -> None:
    """Healthy work was declared dead and ran twice. One of three tasks runs when its worker is
    frozen, one ends meanwhile and one is about to upload; all three run anew elsewhere.
    """
    script = (
        f"name=$0; say() {{ echo $1 $name $MITO_ATTEMPT >> {crew.ledger}; }}; "
        f"pid={tmp_path}/$name.pid; [ -e $pid ] && kill -0 $(cat $pid) 2>/dev/null && say beside; "
        f"echo $$ > $pid; say begin; "
        f"until [ -e {tmp_path}/$name.$MITO_ATTEMPT ]; do sleep .02; done; "
        f"echo attempt $MITO_ATTEMPT > $MITO_RESULT_DIR/it; say end"
    )
    names = ("runs", "ends", "uploads")

    def let_end(name: str, attempt: int) -> None:
        (tmp_path / f"{name}.{attempt}").touch()

    box = crew.hire("--slots", "3")
    tasks = [
        crew.client.submit_task(SubmitTaskArgs(command=("sh", "-c", script, name)))
        for name in names
    ]
    soon(lambda: len(crew.lines()) == 3)
    with frozen(brittle, "weed", "mini"):
        let_end("uploads", 1)
        soon(
            lambda: (
                crew.client.get_execution_state(tasks[2].task)
                is ExecutionState.UPLOAD_FINISHED_RESULT
            )
        )
        os.kill(box.process.process.pid, signal.SIGSTOP)
    let_end("ends", 1)
    soon(lambda: "end ends 1" in crew.lines())
    other = crew.hire("--slots", "3")
    soon(lambda: Counter(line.split()[2] for line in crew.lines())["2"] >= 3, 40)
    os.kill(box.process.process.pid, signal.SIGCONT)
    let_end("uploads", 2)
    # It has to register anew, and what it ran is not taken from it any more.
    soon(lambda: len(set(box.process.out.split())) == 2, 40)
    assert crew.client.get_worker(box.uuid).state == "gone"
    for name in names:
        let_end(name, 2)
    for name, view in zip(names, crew.client.wait_for_tasks(tasks), strict=True):
        assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 2, 1), name
        assert view.worker == other.uuid
        (artifact,) = view.artifacts
        folder = tmp_path / f"got-{name}"
        crew.client.get_artifact(view.uuid, ArtifactKind.RESULT, folder, extract=True)
        assert [p.read_text() for p in folder.rglob("it")] == ["attempt 2\n"], artifact
    assert Counter(crew.lines()) == Counter(
        f"{word} {name} {attempt}"
        for word in ("begin", "end") for name in names for attempt in (1, 2)
        if (word, name, attempt) != ("end", "runs", 1)
    )  # fmt: skip


def test_a_worker_that_comes_back_after_its_lease_has_ended_what_it_ran_and_begins_anew(
    brittle: Platform, crew: Crew
) -> None:
    with contextlib.closing(Link(brittle.notice["nats"])) as link:
        box = crew.hire(by=link.address)
        task, gate = crew.gated("cut-off")
        soon(lambda: crew.lines() == ["begin cut-off 1"])
        link.cut()
        # Its right to run ends by its own clock, before anybody else is given the task.
        soon(lambda: not _programs(box, str(crew.ledger)), 3 * LEASE_SECONDS)
        assert crew.client.get_task(task.task).attempt == 1
        other = crew.hire()
        soon(lambda: "begin cut-off 2" in crew.lines(), 30)
        link.join()
        soon(lambda: len(set(box.process.out.split())) == 2, 40)
        crew.client.cancel_worker(other.uuid)
        gate.touch()
        (view,) = crew.client.wait_for_tasks([task])
        assert (view.outcome, view.attempt, view.worker) == (Outcome.SUCCEEDED, 2, other.uuid)
        assert crew.lines() == ["begin cut-off 1", "begin cut-off 2", "end cut-off 2"]
        (after,) = crew.client.wait_for_tasks([crew.noted("after")], timedelta(seconds=30))
        assert after.worker not in {box.uuid, other.uuid}, "the one that came back, by a new name"


def _programs(box: Machine, text: str) -> str:
    """Command lines of what runs on a machine and has a text in them."""
    return " ".join(line for line in map(command_of, box.processes()) if text in line)


@pytest.mark.parity("F-61")
def test_after_a_hard_kill_of_all_workers_and_the_coordinator_all_tasks_run_again_by_themselves(
    brittle: Platform, crew: Crew
) -> None:
    """Jobs stayed in 'doing' for ever, as what was to free them had died as well.

    Of one machine everything is killed, so that nobody can tell of it; of the other its worker.
    """
    boxes = [crew.hire("--slots", "5") for _ in range(2)]
    tasks, gates = zip(*[crew.gated(f"task-{n}") for n in range(10)], strict=True)
    begun = Counter(f"begin task-{n} 1" for n in range(10))
    soon(lambda: Counter(crew.lines()) == begun)
    dead = [*boxes[0].processes(), boxes[1].process.process.pid]
    for pid in (*dead, brittle.child("mitosis coordinator")):
        with contextlib.suppress(ProcessLookupError):  # it went with one before it
            os.kill(pid, signal.SIGKILL)

    def views() -> list[tuple[TaskState, int, int]]:
        try:
            known = [crew.client.get_task(task.task) for task in tasks]
        except MitosisError:
            return []
        return [(view.state, view.attempt, view.losses) for view in known]

    waiting = [(TaskState.READY, 1, 1)] * 10
    soon(lambda: views() == waiting, 60)
    kill_coordinator(brittle)
    assert soon(views, 60) == waiting, "that they are over is stored"
    for gate in gates:
        gate.touch()
    for box in boxes:
        crew.hire("--slots", "5", box=box)
    ends = crew.client.wait_for_tasks(tasks, timedelta(seconds=60))
    assert [(v.outcome, v.attempt, v.losses) for v in ends] == [(Outcome.SUCCEEDED, 2, 1)] * 10
    again = Counter(f"{word} task-{n} 2" for word in ("begin", "end") for n in range(10))
    assert Counter(crew.lines()) == begun + again
