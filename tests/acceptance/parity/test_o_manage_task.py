"""`mito client manage task`: cancel, labels, and changes before it starts."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import ChangeTaskArgs, GetTasksArgs, SubmitTaskArgs, WatchArgs
from mitosis.domain.task import ArtifactKind, Outcome, TaskState
from mitosis.errors import NotFound, WrongState

from ..conftest import Done, Platform, ended, in_shell, side_by_side
from .machines import Owner, soon

Shell = Callable[..., Done]


def waiting(owner: Owner, **options: object) -> str:
    """A task that waits, since no worker serves its group."""
    options.setdefault("command", ("echo", "hello"))
    return owner.client.submit_task(SubmitTaskArgs(**options)).task  # type: ignore[arg-type]


# --- cancel -----------------------------------------------------------------------------------


@pytest.mark.parity("S-210")
def test_a_task_that_has_not_started_is_cancelled_for_good(owner: Owner) -> None:
    task = waiting(owner)
    done = owner.mito("manage", "task", task, "cancel")
    assert (done.status, done.text) == (0, f"Task {task} is cancelled")
    view = owner.client.get_task(task)
    assert (view.state, view.outcome, view.attempt) == (TaskState.CANCELLED, Outcome.CANCELLED, 0)
    again = owner.mito("manage", "task", task, "cancel")
    assert (again.status, again.out) == (5, b"")
    assert "has ended already" in again.complaint


@pytest.mark.parity("S-211")
def test_the_example_of_a_cancel_stops_a_running_task_with_all_it_started(
    shell: Shell, admin: SyncMitoClient, platform: Platform
) -> None:
    mark = f"4{time.monotonic_ns() % 100_000}"
    task = admin.submit_task(in_shell(f"sleep {mark} & sleep {mark}")).task
    soon(lambda: len(platform.children(f"sleep {mark}")) >= 2)
    assert shell("manage", "task", task, "cancel").text == f"Task {task} is being stopped"
    (view,) = admin.wait_for_tasks([task], timedelta(seconds=15))
    assert (view.state, view.outcome) == (TaskState.CANCELLED, Outcome.CANCELLED)
    soon(lambda: not platform.children(f"sleep {mark}"))


# --- labels -----------------------------------------------------------------------------------


@pytest.mark.parity("S-212")
def test_labels_are_replaced_also_after_the_end(
    owner: Owner, shell: Shell, admin: SyncMitoClient
) -> None:
    task = waiting(owner, labels=("old", "kept"))
    done = owner.mito("manage", "task", task, "update-labels", "kept", "new")
    assert (done.status, done.text) == (0, f"Task {task} has the labels kept, new")
    assert owner.client.get_task(task).labels == ("kept", "new")
    found = owner.client.get_tasks(GetTasksArgs(labels=("new",))).tasks
    assert [view.uuid for view in found] == [task]
    assert owner.client.get_tasks(GetTasksArgs(labels=("old",))).tasks == []
    (over,) = ended(admin, SubmitTaskArgs(command=("true",), labels=("before",)))
    assert shell("tasks", "update-labels", over.uuid, "after,also").status == 0
    after = admin.get_task(over.uuid)
    assert (after.labels, after.outcome) == (("after", "also"), Outcome.SUCCEEDED)
    assert owner.mito("manage", "task", task, "update-labels").status == 0
    assert owner.client.get_task(task).labels == ()
    with pytest.raises(NotFound):  # a task of others: not even that there is one
        owner.client.update_task_labels(over.uuid, ["mine"])


# --- change -----------------------------------------------------------------------------------


@pytest.mark.parity("S-213", "D-094")
def test_a_task_can_be_changed_only_before_it_starts(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    task = admin.submit_task(in_shell(f"until [ -e {go} ]; do sleep 0.02; done")).task
    soon(lambda: admin.get_task(task).state is TaskState.RUNNING)
    done = shell("manage", "task", task, "change", "--", "echo", "world")
    assert (done.status, done.out) == (5, b"")
    assert "runs already and cannot be changed" in done.complaint
    go.touch()
    (view,) = admin.wait_for_tasks([task], timedelta(seconds=30))
    assert view.spec.argv[0] == "sh"
    with pytest.raises(WrongState):
        admin.change_task(ChangeTaskArgs(task=task, priority=1))


@pytest.mark.parity("S-214")
def test_the_example_of_a_change_runs_the_new_command_and_collects_its_output(
    shell: Shell, admin: SyncMitoClient, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = admin.submit_task(in_shell(f"until [ -e {go} ]; do sleep 0.02; done")).task
    watch = WatchArgs(first, "ExecFinished")  # so that it has not started yet
    task = admin.submit_task(SubmitTaskArgs(command=("echo", "hello"), watch=watch)).task
    done = shell("manage", "task", task, "change", "--terminal", "--", "echo", "world")
    assert (done.status, done.text) == (0, f"Task {task} is changed")
    go.touch()
    (view,) = admin.wait_for_tasks([task], timedelta(seconds=30))
    assert view.spec.argv == ("echo", "world")
    assert view.exit is not None
    assert view.exit.stdout_tail == "world\n"
    assert [artifact.kind for artifact in view.artifacts] == [ArtifactKind.STD_LOG]


@pytest.mark.parity("V-024", "D-094")
def test_each_option_of_change_changes_that_alone(owner: Owner) -> None:
    """Changing one thing dropped others, and options without a command were ignored."""
    watched = waiting(owner)
    changes = {
        "argv": (["--", "echo", "-t", "x"], ("echo", "-t", "x")),
        "tags": (["-t", "wired,lab"], ("lab", "wired")),
        "timeout_seconds": (["--timeout", "1h"], 3_600.0),
        "priority": (["-p", "-3"], -3),
        "env": (["-e", "N=1,M=2"], {"N": "1", "M": "2"}),
        "terminal": (["--terminal"], True),
        "watch": (["--watch", f"{watched},ExecSpawned"], None),
    }
    before = {"env": {"K": "V"}, "tags": ("gpu",), "priority": 7, "timeout_seconds": 60.0}
    tasks = {
        name: waiting(owner, envs={"K": "V"}, tags=("gpu",), priority=7, timeout="1min")
        for name in changes
    }
    done = side_by_side(
        lambda words: owner.mito("manage", "task", words[0], "change", *words[1:]),
        [[tasks[name], *options] for name, (options, _) in changes.items()],
    )
    assert [one.status for one in done] == [0] * len(changes), done
    for name, (_, value) in changes.items():
        spec = owner.client.get_task(tasks[name]).spec
        for field in ("argv", "tags", "timeout_seconds", "priority", "env", "terminal", "watch"):
            if field != name:
                unchanged = {"argv": ("echo", "hello"), "terminal": False, "watch": None} | before
                assert getattr(spec, field) == unchanged[field], (name, field)
        if name != "watch":
            assert getattr(spec, name) == value
    view = owner.client.get_task(tasks["watch"])
    assert view.state is TaskState.PENDING
    assert view.spec.watch is not None
    assert (view.spec.watch.task, view.spec.watch.state) == (watched, "ExecSpawned")


def test_a_change_that_says_nothing_or_something_wrong_is_refused(owner: Owner) -> None:
    task = waiting(owner)
    done = side_by_side(
        lambda words: owner.mito("manage", "task", task, "change", *words),
        [[], ["-p", "x"], ["--watch", f"{task},ExecSpawned"]],
    )
    assert [one.status for one in done] == [1, 2, 1]
    assert "nothing to change" in done[0].complaint
    assert "would wait for itself" in done[2].complaint
    assert owner.client.get_task(task).spec.watch is None
