"""The finer states of tasks: live in their order, and on being asked."""

from datetime import timedelta
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs, WatchArgs
from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import NotFound

from ..conftest import in_shell
from .machines import Owner


def until(path: Path) -> str:
    return f"until [ -e {path} ]; do sleep 0.02; done"


@pytest.mark.parity("S-222", "D-009")
def test_states_are_heard_in_their_order_as_they_are_reached_and_told_when_asked(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    """Subscribed before the program starts: its start is heard while it runs, not at its end."""
    first, second = tmp_path / "first", tmp_path / "second"
    blocker = admin.submit_task(in_shell(until(first)))
    task = admin.submit_task(
        in_shell(
            f"{until(second)}; echo r > $MITO_RESULT_DIR/r",
            watch=WatchArgs(blocker.task, State.EXEC_FINISHED),
        )
    )
    live = admin.watch_states([task])
    found = [next(live)]
    assert admin.get_execution_state(task.task) is State.WATCH
    first.touch()
    while found[-1].state is not State.EXEC_SPAWNED:
        found.append(next(live))
    assert admin.get_execution_state(task.task) is State.EXEC_SPAWNED, "it runs still"
    second.touch()
    found += live
    assert [one.state for one in found] == [
        State.WATCH, State.WATCH_FINISHED, State.FETCH_RESOURCE, State.FETCH_RESOURCE_FINISHED,
        State.EXEC_PENDING, State.EXEC_SPAWNED, State.EXEC_FINISHED, State.UPLOAD_RESULT,
        State.UPLOAD_FINISHED_RESULT, State.UPLOAD_RESULT_FINISHED, State.TASK_COMMITTED,
    ]  # fmt: skip
    assert {one.task for one in found} == {task.task}
    assert [one.attempt for one in found] == [0, 0] + [1] * 9
    assert admin.get_execution_state(task.task) is State.TASK_COMMITTED
    view = admin.get_task(task.task)
    assert [(step.state, step.at) for step in view.steps] == [(one.state, one.at) for one in found]


@pytest.mark.parity("D-009")
def test_a_stopped_program_and_a_wait_that_was_too_long_have_their_states(
    admin: SyncMitoClient, owner: Owner
) -> None:
    stopped = admin.submit_task(in_shell("echo out; sleep 60", timeout="300ms", terminal=True))
    states = [one.state for one in admin.watch_states([stopped])]
    assert states[-6:] == [
        State.EXEC_SPAWNED, State.EXEC_TIMEOUT, State.UPLOAD_RESULT, State.UPLOAD_CANCELLED_RESULT,
        State.UPLOAD_RESULT_FINISHED, State.TASK_COMMITTED,
    ]  # fmt: skip
    never = owner.client.submit_task(SubmitTaskArgs(command=("true",)))
    watch = WatchArgs(never.task, State.EXEC_SPAWNED, timedelta(milliseconds=10))
    late = owner.client.submit_task(SubmitTaskArgs(command=("true",), watch=watch))
    assert [one.state for one in owner.client.watch_states([late])] == [
        State.WATCH, State.WATCH_TIMEOUT, State.TASK_COMMITTED,
    ]  # fmt: skip


@pytest.mark.parity("S-223", "S-224")
def test_a_watch_on_exec_spawned_fires_while_the_program_runs(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    """A client that needs a running server: the name of the state is the seed's own example."""
    early, go = tmp_path / "early", tmp_path / "go"
    first = admin.submit_task(in_shell(until(early)))
    server = admin.submit_task(in_shell(until(go), watch=WatchArgs(first.task, "ExecFinished")))
    client = admin.submit_task(
        SubmitTaskArgs(command=("true",), watch=WatchArgs(server.task, "ExecSpawned"))
    )
    states = {admin.get_task(task.task).state for task in (server, client)}
    assert states == {TaskState.PENDING}
    early.touch()
    (view,) = admin.wait_for_tasks([client], timedelta(seconds=30))
    assert view.outcome is Outcome.SUCCEEDED
    running = admin.get_task(server.task)
    assert running.outcome is None, "the server runs on"
    go.touch()
    spawned = next(step.at for step in running.steps if step.state is State.EXEC_SPAWNED)
    assert view.started_at is not None
    assert view.started_at >= spawned


def test_states_of_many_tasks_come_on_one_stream_and_of_a_stranger_none(
    admin: SyncMitoClient, owner: Owner
) -> None:
    tasks = admin.submit_many([SubmitTaskArgs(command=("true",))] * 20)
    found = list(admin.watch_states(tasks))
    for task in tasks:
        states = [one.state for one in found if one.task == task.task]
        assert states[0] is State.FETCH_RESOURCE
        assert states[-2:] == [State.EXEC_FINISHED, State.TASK_COMMITTED]
        assert len(states) == len(set(states))
    with pytest.raises(NotFound):
        list(owner.client.watch_states([tasks[0].task]))
