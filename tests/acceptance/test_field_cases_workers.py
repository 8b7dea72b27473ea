"""Cases from the field about who runs what: order, change of tags, drains, planned stops.

Each test has a user and workers of its own on the platform that all share.
"""

import contextlib
import secrets
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import GetTasksArgs, SubmitTaskArgs
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskState

from .conftest import Platform, in_shell
from .crews import Crew
from .parity.machines import Owner, soon


@pytest.fixture
def crew(platform: Platform, admin: SyncMitoClient, tmp_path: Path) -> Iterator[Crew]:
    with contextlib.closing(Crew(platform, Owner(platform, admin, tmp_path), tmp_path)) as made:
        yield made


# --- tags and roles that change -----------------------------------------------------------------


@pytest.mark.parity("F-43")
def test_tags_that_change_under_a_running_task_let_it_finish_and_nothing_like_it_comes_after(
    crew: Crew,
) -> None:
    """Elsewhere it was unclear what becomes of work that does not fit its node any more."""
    box = crew.hire("-t", "gpu")
    running, gate = crew.gated("running", tags=("gpu",))
    soon(lambda: crew.lines() == ["begin running 1"])
    assert crew.mito("manage", "worker", box.uuid, "update-tags", "cpu").status == 0
    assert "Tags: cpu" in crew.mito("get", "worker", box.uuid).text, "shown at once"
    late = crew.noted("late", tags=("gpu",))
    gate.touch()
    (view,) = crew.client.wait_for_tasks([running])
    assert (view.outcome, view.attempt, view.worker) == (Outcome.SUCCEEDED, 1, box.uuid)
    # The slot is free, and what fits is taken; what does not fit stays.
    (fits,) = crew.client.wait_for_tasks([crew.noted("fits", tags=("cpu",))])
    assert fits.worker == box.uuid
    waiting = crew.client.get_task(late.task)
    assert (waiting.state, waiting.attempt) == (TaskState.READY, 0)
    assert crew.lines() == ["begin running 1", "end running 1", "fits"]


@pytest.mark.parity("F-44")
def test_a_task_that_waits_starts_at_once_when_a_worker_becomes_able_to_run_it(crew: Crew) -> None:
    """Elsewhere such a node never got it. This worker asks by itself only after minutes."""
    group = f"lab-{secrets.token_hex(4)}"
    crew.client.create_group(group)
    box = crew.hire("-t", "cpu")
    changes: list[tuple[SubmitTaskArgs, Callable[[], object]]] = [
        (
            SubmitTaskArgs(command=("true",), tags=("gpu",)),
            lambda: crew.client.update_worker_tags(box.uuid, ["gpu"]),
        ),
        (
            SubmitTaskArgs(command=("true",), tags=("gpu",), group=group),
            lambda: crew.client.update_worker_roles(box.uuid, {group: Role.WRITE}),
        ),
    ]
    for args, change in changes:
        task = crew.client.submit_task(args)
        assert crew.state(task) is TaskState.READY
        changed_at = datetime.now(UTC)
        change()
        (view,) = crew.client.wait_for_tasks([task], timedelta(seconds=30))
        assert (view.outcome, view.worker, view.attempt) == (Outcome.SUCCEEDED, box.uuid, 1)
        assert view.started_at is not None
        assert view.started_at - changed_at < timedelta(seconds=1)


# --- order --------------------------------------------------------------------------------------


@pytest.mark.parity("F-58", "D-025")
def test_a_task_of_a_killed_worker_is_next_and_equal_priorities_run_as_they_were_submitted(
    crew: Crew, scaled: Callable[[int, int], int]
) -> None:
    """Elsewhere requeued tasks starved behind fresh ones, and equals ran in the order of ids.

    Between groups no share is promised: priority and order of submission alone decide.
    """
    stream = scaled(50, 100)
    box = crew.hire()
    urgent, gate = crew.gated("urgent", priority=10)
    soon(lambda: crew.lines() == ["begin urgent 1"])
    tasks = [crew.noted("low", priority=-1)]
    tasks += [crew.noted(f"equal-{n}") for n in range(stream // 2)]
    box.process.stop(signal.SIGKILL)
    soon(lambda: crew.state(urgent) is TaskState.READY, 30)
    tasks += [crew.noted(f"equal-{n}") for n in range(stream // 2, stream)]
    gate.touch()
    crew.hire(box=box)
    views = crew.client.wait_for_tasks([urgent, *tasks], timedelta(seconds=60))
    assert {view.outcome for view in views} == {Outcome.SUCCEEDED}
    assert (views[0].attempt, views[0].losses) == (2, 1)
    assert crew.lines() == [
        "begin urgent 1", "begin urgent 2", "end urgent 2",
        *(f"equal-{n}" for n in range(stream)), "low",
    ]  # fmt: skip


@pytest.mark.parity("D-027")
def test_what_two_workers_may_run_is_run_by_one_of_them_and_never_when_it_was_taken_back(
    crew: Crew, tmp_path: Path
) -> None:
    """A copy in the queue of each worker stayed there after another one had taken the task."""
    gate = tmp_path / "gate"
    boxes = [crew.hire() for _ in range(2)]
    for box in boxes:
        crew.client.pause_worker(box.uuid)
    held = f"until [ -e {gate} ]; do sleep .02; done"  # until both have begun one
    tasks = [
        crew.client.submit_task(in_shell(f"echo task-{n} >> {crew.ledger}; {held}"))
        for n in range(40)
    ]
    for task in tasks[::4]:
        assert crew.client.cancel_task(task.task).ended
    for box in boxes:
        crew.client.resume_worker(box.uuid)
    begun = GetTasksArgs(states=(TaskState.RUNNING,))
    both = {box.uuid for box in boxes}
    soon(lambda: {task.worker for task in crew.client.get_tasks(begun).tasks} == both, 30)
    gate.touch()
    views = crew.client.wait_for_tasks(tasks, timedelta(seconds=60))
    wanted = [f"task-{n}" for n in range(40) if n % 4]
    assert Counter(crew.lines()) == Counter(wanted)
    assert [view.attempt for view in views] == [1 if n % 4 else 0 for n in range(40)]
    assert {view.worker for view in views if view.attempt} == both
    # Nor does one of them come back to what the other has done.
    (last,) = crew.client.wait_for_tasks([crew.noted("last")])
    crew.client.cancel_worker(next(box.uuid for box in boxes if box.uuid == last.worker))
    (after,) = crew.client.wait_for_tasks([crew.noted("after")])
    assert after.worker != last.worker
    assert Counter(crew.lines()) == Counter([*wanted, "last", "after"])


# --- drains -------------------------------------------------------------------------------------


@pytest.mark.parity("F-59")
def test_a_drained_worker_finishes_its_task_a_forced_one_gives_it_back_and_each_ends_by_running(
    crew: Crew,
) -> None:
    """Elsewhere a drained task was marked complete, dead, or ran a second time beside itself."""
    box = crew.hire()
    graceful, gate = crew.gated("graceful")
    soon(lambda: crew.lines() == ["begin graceful 1"])
    assert crew.mito("manage", "worker", box.uuid, "cancel").status == 0
    forced, other_gate = crew.gated("forced", max_losses=1)
    gate.touch()
    (view,) = crew.client.wait_for_tasks([graceful])
    assert (view.outcome, view.attempt, view.worker) == (Outcome.SUCCEEDED, 1, box.uuid)
    assert box.process.wait(20) == 0
    assert crew.client.get_task(forced.task).attempt == 0, "no other node is there: it waits"

    second = crew.hire(box=box)
    soon(lambda: "begin forced 1" in crew.lines())
    assert crew.mito("manage", "worker", second.uuid, "cancel", "-f").status == 0
    assert second.process.wait(20) == 0
    back = crew.client.get_task(forced.task)
    assert (back.state, back.outcome, back.losses) == (TaskState.READY, None, 0)
    crew.hire(box=box)
    soon(lambda: "begin forced 2" in crew.lines())
    other_gate.touch()
    (view,) = crew.client.wait_for_tasks([forced])
    assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 2, 0)
    assert crew.lines() == [
        "begin graceful 1", "end graceful 1", "begin forced 1", "begin forced 2", "end forced 2",
    ]  # fmt: skip


@pytest.mark.parity("D-032")
def test_a_service_stop_lets_a_task_finish_and_a_second_one_gives_it_time_to_tidy_up(
    crew: Crew, tmp_path: Path
) -> None:
    """SIGTERM killed the task at once. A planned stop is no loss: the only one is still left."""
    script = (
        f"trap 'sleep .3; echo tidy $MITO_ATTEMPT >> {crew.ledger}; exit 1' TERM; "
        f"echo begin $MITO_ATTEMPT >> {crew.ledger}; "
        f"until [ -e {tmp_path}/go ]; do sleep .02; done; echo end $MITO_ATTEMPT >> {crew.ledger}"
    )
    box = crew.hire()
    task = crew.client.submit_task(in_shell(script, max_losses=1))
    said: list[str] = []
    for attempt in (1, 2):
        said.append(f"begin {attempt}")
        soon(lambda: crew.lines() == said)
        box.process.process.send_signal(signal.SIGTERM)
        soon(lambda: crew.client.get_worker(box.uuid).state == "draining")
        assert crew.lines() == said, "the first one waits for the task"
        assert box.process.stop(signal.SIGTERM, 20) == 0
        said.append(f"tidy {attempt}")
        assert crew.lines() == said
        view = crew.client.get_task(task.task)
        assert (view.state, view.attempt, view.losses) == (TaskState.READY, attempt, 0)
        crew.hire(box=box)
    soon(lambda: crew.lines() == [*said, "begin 3"])
    (tmp_path / "go").touch()
    (view,) = crew.client.wait_for_tasks([task])
    assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 3, 0)
    assert [former.end.value for former in view.former_attempts] == ["handed_back"] * 2


def test_a_lifetime_drains_first_and_past_its_grace_the_task_is_handed_back_and_runs_elsewhere(
    crew: Crew,
) -> None:
    box = crew.hire("--lifetime", "2s", "--lifetime-grace", "2s")
    task, gate = crew.gated("long", max_losses=1)
    soon(lambda: "its lifetime is over" in box.process.err)
    late = crew.noted("late")
    assert crew.lines() == ["begin long 1"], "it may go on for the grace"
    assert crew.client.get_task(task.task).attempt == 1
    assert box.process.wait(20) == 0
    views = [crew.client.get_task(one.task) for one in (task, late)]
    assert [(v.state, v.attempt, v.losses) for v in views] == [
        (TaskState.READY, 1, 0), (TaskState.READY, 0, 0),
    ]  # fmt: skip
    other = crew.hire()
    soon(lambda: "begin long 2" in crew.lines())
    gate.touch()
    views = crew.client.wait_for_tasks([task, late])
    assert [(v.outcome, v.attempt, v.losses) for v in views] == [
        (Outcome.SUCCEEDED, 2, 0), (Outcome.SUCCEEDED, 1, 0),
    ]  # fmt: skip
    assert {view.worker for view in views} == {other.uuid}
