"""Tasks that are tried again, are lost too often, or are stopped in a way of one's own choice."""

import gzip
import itertools
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from mitosis import SyncMitoClient
from mitosis.config.client import (
    UNLIMITED,
    ChangeTaskArgs,
    GetEventsArgs,
    SubmitTaskArgs,
    WatchArgs,
)
from mitosis.domain.task import ArtifactKind, EndCause, ExitKind, Outcome, TaskState
from mitosis.errors import InvalidInput, WrongState
from mitosis.testing.waiting import eventually, processes_with

from .conftest import Done, Person, ended, in_shell, side_by_side

Shell = Callable[..., Done]

SUCCEEDS_AT_THIRD = (
    "echo $MITO_ATTEMPT >> $RUNS; echo say $MITO_ATTEMPT; touch $MITO_RESULT_DIR/of-$MITO_ATTEMPT; "
    "test $MITO_ATTEMPT = 3 || exit 4"
)


def runs(file: Path) -> list[str]:
    """The attempts that wrote their number, in their order."""
    return file.read_text().split() if file.exists() else []


def test_a_task_runs_again_until_it_succeeds_and_each_attempt_is_told(
    admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    done = shell(
        "submit", "--retries", "5", "--retry-delay", "100ms", "--terminal",
        "-e", f"RUNS={tmp_path / 'runs'}", "--", "sh", "-c", SUCCEEDS_AT_THIRD,
    )  # fmt: skip
    assert done.status == 0, done.err
    (view,) = admin.wait_for_tasks([done.text])
    assert runs(tmp_path / "runs") == ["1", "2", "3"]
    assert (view.outcome, view.attempt, view.retries) == (Outcome.SUCCEEDED, 3, 2)
    assert (view.losses, view.retry_at, view.reason) == (0, None, "")
    told = [(f.attempt, f.end.value, f.reason, f.exit_kind, f.exit_number)
            for f in view.former_attempts]  # fmt: skip
    assert told == [(n, "failed", "exit code 4", ExitKind.CODE, 4) for n in (1, 2)]
    first, second = view.former_attempts
    assert first.started_at is not None
    assert second.started_at is not None
    waits = [second.started_at - first.ended_at, view.steps[0].at - second.ended_at]
    # From the decision on: the commit that holds it, whose time is told, is made a moment later.
    decided = timedelta(seconds=0.05)
    assert [wait + decided >= timedelta(seconds=0.1 * 2**n) for n, wait in enumerate(waits)] == [
        True, True,
    ]  # fmt: skip
    text = shell("get", "task", done.text).text
    assert "Retries: 2 of 5, after exit, timeout, signal, waiting 0.1s to 5m" in text
    assert text.index("Attempt 1: failed (exit code 4), ") < text.index("Attempt 2: failed")
    shown = shell("get", "task", done.text, "--json").json
    assert shown["spec"]["retry"] == {
        "times": 5, "causes": ["exit", "timeout", "signal"], "delay_seconds": 0.1,
        "max_delay_seconds": None,
    }  # fmt: skip
    assert [former["exit_number"] for former in shown["former_attempts"]] == [4, 4]
    # What is kept is of the attempt that was the last, and is charged once.
    assert {artifact.kind for artifact in view.artifacts} == {
        ArtifactKind.RESULT, ArtifactKind.STD_LOG,
    }  # fmt: skip
    admin.get_artifact(done.text, ArtifactKind.RESULT, tmp_path)
    assert b"of-3" in _names_in(tmp_path / "result.tar.gz")
    assert b"of-2" not in _names_in(tmp_path / "result.tar.gz")


def _names_in(archive: Path) -> bytes:
    return gzip.decompress(archive.read_bytes())


@pytest.mark.parity("F-65")
def test_no_retries_means_one_run_and_endless_ones_need_a_word(
    admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    """`--retries 0` was read as without end elsewhere, and a failing job hung for hours."""
    script = "echo x >> $RUNS; exit 1"
    files = [tmp_path / "default", tmp_path / "zero"]
    args = [
        in_shell(script, envs={"RUNS": str(files[0])}),
        in_shell(script, envs={"RUNS": str(files[1])}, retries=0),
    ]
    for view in ended(admin, *args):
        assert (view.outcome, view.attempt, view.former_attempts) == (Outcome.FAILED, 1, [])
    assert [runs(file) for file in files] == [["x"], ["x"]]
    wrong = [
        ("--retries", "-1"), ("--retries", "1.5"), ("--retries", "inf"), ("--retries", "1001"),
        ("--retries", "1", "--retry-on", "errors"), ("--retry-delay", "1s"),
        ("--retries", "1", "--retry-delay", "10ms"),
        ("--retries", "unlimited", "--retry-max-delay", "5s"), ("--max-losses", "0"),
    ]  # fmt: skip
    refused = side_by_side(lambda c: shell("submit", *c, "--json", "--", "false"), wrong)
    for done, options in zip(refused, wrong, strict=True):
        assert done.status in {1, 2}, options
        assert done.json["error"]["message"], options
    assert "'1.5' is no number of retries" in refused[1].json["error"]["message"]
    for number in (-1, 1.5, "endless"):
        with pytest.raises(InvalidInput):
            admin.submit_task(SubmitTaskArgs(command=("false",), retries=number))  # type: ignore[arg-type]
    help_text = " ".join(shell("submit", "--help").text.split())
    assert "default: 0, it runs only once" in help_text


@pytest.mark.parity("F-56")
async def test_a_task_that_is_tried_without_end_slows_nobody_and_can_be_cancelled(
    admin: SyncMitoClient, shell: Shell, tmp_path: Path
) -> None:
    """A hidden limit ended such jobs elsewhere, or they ran in a storm."""
    file = tmp_path / "runs"
    script = "date +%s.%N >> $RUNS; exit 1"
    endless = admin.submit_task(
        in_shell(script, retries=UNLIMITED, retry_delay="100ms", envs={"RUNS": str(file)})
    )
    await eventually(lambda: len(runs(file)) >= 4, seconds=60)
    others = ended(admin, *[SubmitTaskArgs(command=("true",))] * 10)
    assert [view.outcome for view in others] == [Outcome.SUCCEEDED] * 10
    at = [float(text) for text in runs(file)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert all(pause >= 0.1 * 2**n for n, pause in enumerate(pauses)), pauses
    await eventually(lambda: admin.get_task(endless.task).state is TaskState.PENDING)
    waiting = admin.get_task(endless.task)
    assert waiting.reason.startswith("waits to run again: attempt ")
    assert waiting.retry_at is not None
    cancelled = shell("manage", "task", endless.task, "cancel")
    assert cancelled.text == f"Task {endless.task} is cancelled"
    view = admin.get_task(endless.task)
    assert (view.state, view.outcome, view.retry_at) == (
        TaskState.CANCELLED, Outcome.CANCELLED, None,
    )  # fmt: skip
    assert view.reason == "cancelled while it waited to run again"
    # What is stored of it grows with its attempts only, and those come ever more seldom.
    stored = admin.get_events(GetEventsArgs(kind="task", name=endless.task)).commits
    assert len(stored) <= 2 + 3 * view.attempt
    again = shell("manage", "task", endless.task, "cancel")
    assert again.status == 5
    assert "has ended already" in again.complaint


def test_only_the_failures_that_were_named_are_tried_again(admin: SyncMitoClient) -> None:
    often = {"retries": 1, "retry_delay": "100ms"}
    views = ended(
        admin,
        in_shell("exit 1", retry_on=("exit",), **often),
        in_shell("exit 1", retry_on=("timeout", "signal"), **often),
        in_shell("kill -SEGV $$", retry_on=("signal",), **often),
        in_shell("kill -SEGV $$", retry_on=("exit",), **often),
        in_shell("sleep 9", timeout="200ms", retry_on=("timeout",), **often),
        in_shell("sleep 9", timeout="200ms", retry_on=("exit", "signal"), **often),
        SubmitTaskArgs(command=("/no/such/program",), **often),  # type: ignore[arg-type]
    )
    assert [view.attempt for view in views] == [2, 1, 2, 1, 2, 1, 1]
    assert [view.outcome for view in views] == [
        *[Outcome.FAILED] * 4, Outcome.TIMED_OUT, Outcome.TIMED_OUT, Outcome.ERROR,
    ]  # fmt: skip


def test_retries_can_be_changed_and_a_watch_sees_every_attempt(
    admin: SyncMitoClient, person: Person, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = admin.submit_task(
        in_shell(
            f"test $MITO_ATTEMPT = 2 && until [ -e {gate} ]; do sleep 0.02; done; "
            "test $MITO_ATTEMPT = 2",
            retries=1, retry_delay="100ms",
        )
    )  # fmt: skip
    spawned, at_end, finished = [
        admin.submit_task(SubmitTaskArgs(command=("true",), watch=WatchArgs(server.task, state)))
        for state in ("ExecSpawned", "TaskCommitted", "UploadResultFinished")
    ]
    assert admin.wait_for_tasks([spawned])[0].outcome is Outcome.SUCCEEDED
    assert admin.get_task(at_end.task).state is TaskState.PENDING, "it has not ended yet"
    gate.touch()
    views = admin.wait_for_tasks([server, at_end, finished])
    assert [view.outcome for view in views] == [Outcome.SUCCEEDED] * 3
    waits = person.client.submit_task(SubmitTaskArgs(command=("true",), retries=1))
    person.client.change_task(
        ChangeTaskArgs(task=waits.task, retries=UNLIMITED, retry_on=("signal",), max_losses=9)
    )
    spec = person.client.get_task(waits.task).spec
    assert (spec.retry.times, spec.retry.causes, spec.max_losses) == ("unlimited", ("signal",), 9)
    done = person.shell("manage", "task", waits.task, "change", "--retries", "0")
    assert done.status == 0, done.err
    assert person.client.get_task(waits.task).spec.retry.times == 0


@pytest.mark.parity("F-31", "D-013")
def test_a_task_that_kills_what_runs_it_ends_at_the_limit_and_all_others_finish(
    admin: SyncMitoClient,
) -> None:
    """It took each worker down that it reached, in an endless loop."""
    poison = [
        admin.submit_task(in_shell("kill -9 $PPID; sleep 20", **options))
        for options in ({}, {"max_losses": 1})
    ]
    others = admin.submit_many([SubmitTaskArgs(command=("true",))] * 20)
    three, one = admin.wait_for_tasks(poison)
    assert (three.state, three.outcome, three.losses) == (TaskState.CANCELLED, Outcome.LOST, 3)
    assert three.reason.startswith(
        "worker lost 3 times: the runner was killed by signal 9 while it"
    )
    assert "ran this task, which is the likely cause" in three.reason, "no worker is blamed"
    assert [former.end.value for former in three.former_attempts] == ["lost"] * 3
    assert (one.outcome, one.losses, one.attempt) == (Outcome.LOST, 1, 1)
    assert {v.outcome for v in admin.wait_for_tasks(others)} == {Outcome.SUCCEEDED}


# --- cancel ------------------------------------------------------------------------------------


@pytest.mark.parity("D-010")
async def test_a_cancel_stops_by_the_signal_and_within_the_grace_that_it_names(
    admin: SyncMitoClient, shell: Shell
) -> None:
    polite = "trap 'echo asked; exit 7' INT; trap 'echo wrong' TERM; echo up; sleep 7532.1"
    deaf = "trap '' TERM; sleep 7532.2 & sleep 7532.2"
    asked, short, killed = (
        admin.submit_task(in_shell(script, grace="10min")) for script in (polite, deaf, deaf)
    )
    await eventually(lambda: processes_with("sleep\0007532.1"))
    await eventually(lambda: len(processes_with("sleep\0007532.2")) == 4)
    begun = time.monotonic()
    done = side_by_side(
        lambda c: shell("manage", "task", *c),
        [
            (asked.task, "cancel", "--signal", "SIGINT", "--reason", "wrong seed"),
            (short.task, "cancel", "--grace", "300ms"),
            (killed.task, "cancel", "--signal", "kill"),
        ],
    )
    assert [one.status for one in done] == [0, 0, 0], done
    views = admin.wait_for_tasks([asked, short, killed], timedelta(seconds=30))
    assert time.monotonic() - begun < 20, "and not the ten minutes of the task"
    assert [view.outcome for view in views] == [Outcome.CANCELLED] * 3
    exits = [view.exit for view in views]
    assert [e and (e.kind, e.number, e.cause) for e in exits] == [
        (ExitKind.CODE, 7, EndCause.CANCEL),
        (ExitKind.SIGNAL, 9, EndCause.CANCEL),
        (ExitKind.SIGNAL, 9, EndCause.CANCEL),
    ]
    assert exits[0] is not None
    assert exits[0].stdout_tail == "up\nasked\n"


async def test_a_cancel_can_be_sharpened_while_the_task_is_being_stopped(
    admin: SyncMitoClient, shell: Shell
) -> None:
    task = admin.submit_task(in_shell("trap '' TERM; sleep 7533.1 & sleep 7533.1", grace="1h"))
    await eventually(lambda: len(processes_with("sleep\0007533.1")) == 2)
    assert not admin.cancel_task(task.task, "first politely").ended
    assert not admin.cancel_task(task.task).ended, "the same again changes nothing"
    assert admin.get_task(task.task).state is TaskState.RUNNING
    assert not admin.cancel_task(task.task, stop_signal="KILL").ended
    (view,) = admin.wait_for_tasks([task], timedelta(seconds=30))
    assert view.outcome is Outcome.CANCELLED
    with pytest.raises(WrongState, match="has ended already"):
        admin.cancel_task(task.task, stop_signal="KILL")
    refused = shell("manage", "task", task.task, "cancel", "--signal", "STOP")
    assert refused.status == 2
    assert "no signal to stop a task by" in refused.complaint


async def test_a_task_that_fails_while_it_is_cancelled_is_not_tried_again(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    task = admin.submit_task(
        in_shell(f"trap 'exit 3' TERM; touch {up}; sleep 60 & wait", retries=5, retry_delay="100ms")
    )
    await eventually(up.exists)
    admin.cancel_task(task.task)
    (view,) = admin.wait_for_tasks([task], timedelta(seconds=30))
    assert (view.outcome, view.attempt) == (Outcome.CANCELLED, 1)
