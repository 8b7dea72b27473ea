"""Single rules of the task; tests/properties holds what must be true of any sequence."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mitosis.domain import task
from mitosis.domain.event import Command
from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.execution import Step
from mitosis.domain.resources import Limits
from mitosis.domain.retry import Retry, RetryCause
from mitosis.domain.task import (
    Artifact,
    ArtifactKind,
    EndCause,
    Exit,
    ExitKind,
    Outcome,
    Task,
    TaskSpec,
    TaskState,
    Usage,
    judge,
)
from mitosis.errors import InvalidInput, MitosisError, NotFound, StaleAttempt, TooLarge, WrongState

CODE, SIGNAL, NOT_STARTED = ExitKind.CODE, ExitKind.SIGNAL, ExitKind.NOT_STARTED


def run(*commands: Command, state: Task | None = None) -> Task:
    """The state after commands, each of which must be accepted."""
    for command in commands:
        for event in task.decide(state, command):
            state = task.evolve(state, event)
    assert state is not None
    return state


SUBMIT = task.SubmitTask("t", "lab", "alice", 1, TaskSpec(("true",)))
ASSIGN = task.AssignTask("w", 600.0)


@pytest.mark.parametrize(
    ("end", "cancel_requested", "outcome", "reason"),
    [
        (Exit(CODE, 0), False, Outcome.SUCCEEDED, ""),
        (Exit(CODE, 7), False, Outcome.FAILED, "exit code 7"),
        (Exit(SIGNAL, 11), False, Outcome.FAILED, "signal 11, not sent by the platform"),
        (Exit(SIGNAL, 9, reason="memory limit"), False, Outcome.FAILED, "memory limit (signal 9)"),
        (Exit(CODE, 0, reason="processes limit"), False, Outcome.SUCCEEDED, ""),
        (
            Exit(SIGNAL, 9, EndCause.CANCEL, "memory limit"),
            True,
            Outcome.CANCELLED,
            "cancelled while it ran",
        ),
        # Asked to stop at its timeout, a program may still end with code 0.
        (Exit(CODE, 0, EndCause.TIMEOUT), False, Outcome.TIMED_OUT, "the timeout was over"),
        (Exit(SIGNAL, 9, EndCause.TIMEOUT), True, Outcome.TIMED_OUT, "the timeout was over"),
        (Exit(CODE, 0, EndCause.CANCEL), True, Outcome.CANCELLED, "cancelled while it ran"),
        (Exit(SIGNAL, 15, EndCause.CANCEL), True, Outcome.CANCELLED, "cancelled while it ran"),
        (Exit(SIGNAL, 15, EndCause.SHUTDOWN), True, Outcome.CANCELLED, "cancelled while it ran"),
        # It ended by itself before the cancel reached it.
        (Exit(CODE, 0), True, Outcome.SUCCEEDED, ""),
        (Exit(CODE, 3), True, Outcome.FAILED, "exit code 3"),
        (Exit(NOT_STARTED, 2, reason="no such file"), False, Outcome.ERROR, "no such file"),
        (Exit(NOT_STARTED, 13), False, Outcome.ERROR, "the program could not be started"),
    ],
)
def test_the_end_of_the_program_decides_the_outcome(
    end: Exit, cancel_requested: bool, outcome: Outcome, reason: str
) -> None:
    assert judge(end, cancel_requested=cancel_requested) == (outcome, reason)


def test_only_a_task_that_ran_by_itself_to_its_end_is_finished() -> None:
    finished = {outcome for outcome in Outcome if outcome.state is TaskState.FINISHED}
    assert finished == {Outcome.SUCCEEDED, Outcome.FAILED}
    assert {state for state in TaskState if state.terminal} == {o.state for o in Outcome}


def test_a_task_goes_from_submit_to_its_outcome() -> None:
    ended = run(
        SUBMIT,
        ASSIGN,
        task.ReportStart("w", 1),
        task.ReportExit("w", 1, Exit(CODE, 0)),
        task.StoreArtifact("w", 1, Artifact(ArtifactKind.RESULT, "t/1/u/result", 10, "0" * 64)),
        task.CommitTask("w", 1),
    )
    assert (ended.state, ended.outcome) == (TaskState.FINISHED, Outcome.SUCCEEDED)
    assert ended.stored_bytes == 10
    assert ended.worker == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [(0, "result: 9 kB are over the quota and were not stored"), (7, "exit code 7")],
)
def test_a_task_without_one_of_its_outputs_has_failed(code: int, reason: str) -> None:
    spec = TaskSpec(("true",), retry=Retry(times=3, causes=(RetryCause.SIGNAL,)))
    ran = run(
        task.SubmitTask("t", "lab", "alice", 1, spec), ASSIGN, task.ReportStart("w", 1),
        task.ReportExit("w", 1, Exit(CODE, code)),
    )  # fmt: skip
    why = "result: 9 kB are over the quota and were not stored"
    committed = task.CommitTask("w", 1, unstored=why)
    assert task.decide(ran, committed) == [task.TaskCommitted(1, Outcome.FAILED, reason)]


def test_a_task_is_not_tried_again_because_an_output_could_not_be_stored() -> None:
    spec = TaskSpec(("true",), retry=Retry(times=3))
    ran = run(
        task.SubmitTask("t", "lab", "alice", 1, spec), ASSIGN, task.ReportStart("w", 1),
        task.ReportExit("w", 1, Exit(CODE, 0)),
    )  # fmt: skip
    (event,) = task.decide(ran, task.CommitTask("w", 1, unstored="result: not stored"))
    assert event == task.TaskCommitted(1, Outcome.FAILED, "result: not stored")


def test_the_worker_is_lost_for_the_last_time_at_the_limit() -> None:
    spec = TaskSpec(("true",), max_losses=2)
    state = run(task.SubmitTask("t", "lab", "alice", 1, spec), ASSIGN)
    state = run(task.RequeueTask(1, "lease over", counted=True), ASSIGN, state=state)
    events = task.decide(state, task.RequeueTask(2, "lease over", counted=True))
    reason = "worker lost 2 times: lease over"
    assert events[-1] == task.TaskCancelled(Outcome.LOST, reason)


def test_a_planned_stop_is_no_loss() -> None:
    state = run(SUBMIT, ASSIGN)
    for attempt in range(1, 10):
        state = run(task.RequeueTask(attempt, "drained", counted=False), ASSIGN, state=state)
    assert (state.attempt, state.losses) == (10, 0)


def test_a_cancel_before_the_run_ends_the_task_at_once() -> None:
    ended = run(SUBMIT, task.RequestCancel())
    assert (ended.state, ended.outcome) == (TaskState.CANCELLED, Outcome.CANCELLED)


def test_a_cancel_of_a_running_task_waits_for_its_program() -> None:
    running = run(SUBMIT, ASSIGN, task.RequestCancel("enough"))
    assert running.state is TaskState.RUNNING
    assert running.cancel_requested


def test_a_cancelled_task_is_not_given_out_again_when_its_worker_is_lost() -> None:
    running = run(SUBMIT, ASSIGN, task.RequestCancel())
    ended = run(task.RequeueTask(1, "lease over", counted=True), state=running)
    assert ended.outcome is Outcome.CANCELLED


def test_an_output_of_a_worker_needs_its_live_attempt_whatever_number_it_gives() -> None:
    state = run(SUBMIT)
    artifact = Artifact(ArtifactKind.RESULT, "o", 1, "0" * 64)
    for attempt in (0, 1, -1):
        with pytest.raises(StaleAttempt):
            task.decide(state, task.StoreArtifact("w", attempt, artifact))
    assert run(task.StoreArtifact("", 0, artifact), state=state).artifacts == (artifact,)


def test_what_a_worker_sends_is_cut_to_what_can_be_stored() -> None:
    end = Exit(
        CODE,
        usage=Usage(wall_seconds=-1.0, max_rss_bytes=2**80),
        reason="r" * 5_000,
        stdout_tail="\0" + "é" * 5_000,
    )
    [event] = task.decide(run(SUBMIT, ASSIGN), task.ReportExit("w", 1, end))
    assert isinstance(event, task.TaskExited)
    assert event.exit.usage == Usage(max_rss_bytes=2**53 - 1)
    assert len(event.exit.reason) == 1_000
    assert event.exit.stdout_tail == "é" * 2_048


def test_no_step_of_an_attempt_is_stored_before_the_one_that_was_told_before_it() -> None:
    """A report has ages: one that took seconds to arrive dates its steps later than the next."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    late, early = at + timedelta(seconds=3), at + timedelta(seconds=1)
    begun = run(SUBMIT, ASSIGN, task.ReportStart("w", 1, (Step(State.EXEC_SPAWNED, late),)))
    steps = (Step(State.EXEC_FINISHED, early), Step(State.UPLOAD_RESULT, at))
    [exited] = task.decide(begun, task.ReportExit("w", 1, Exit(CODE, 1), steps))
    assert isinstance(exited, task.TaskExited)
    assert [step.at for step in exited.steps] == [late, late]
    # The next attempt has its own times.
    again = run(
        task.RequeueTask(1, "left", counted=False), task.AssignTask("v", 600.0), state=begun
    )
    [started] = task.decide(again, task.ReportStart("v", 2, (Step(State.EXEC_SPAWNED, early),)))
    assert isinstance(started, task.TaskStarted)
    assert started.steps == (Step(State.EXEC_SPAWNED, early),)


@pytest.mark.parametrize("number", [-1, 2**31])
def test_an_exit_number_that_no_system_gives_is_refused(number: int) -> None:
    with pytest.raises(InvalidInput, match="exit code, signal or errno"):
        task.decide(run(SUBMIT, ASSIGN), task.ReportExit("w", 1, Exit(CODE, number)))


def test_a_repeated_submit_is_the_same_task_also_after_a_change() -> None:
    changed = run(
        SUBMIT,
        task.ChangeTask(TaskSpec(("false",))),
        task.ReplaceTaskLabels(("late",)),
        task.ChangeTask(TaskSpec(("false",), priority=3)),
    )
    assert changed.spec.priority == 3
    assert task.decide(changed, SUBMIT) == []


def test_the_limit_of_losses_stays_above_what_is_lost_already() -> None:
    state = run(SUBMIT, ASSIGN, task.RequeueTask(1, "lease over", counted=True))
    with pytest.raises(InvalidInput, match="has lost 1 attempts already"):
        task.decide(state, task.ChangeTask(TaskSpec(("true",), max_losses=1)))


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"argv": ()}, InvalidInput),
        ({"priority": 2**31}, InvalidInput),
        ({"priority": -(2**31)}, InvalidInput),
        ({"timeout_seconds": 0.0}, InvalidInput),
        ({"timeout_seconds": -1.0}, InvalidInput),
        ({"timeout_seconds": float("nan")}, InvalidInput),
        ({"timeout_seconds": float("inf")}, InvalidInput),
        ({"max_losses": 0}, InvalidInput),
        ({"tags": ("a,b",)}, InvalidInput),
        ({"limits": Limits(processes=0)}, InvalidInput),
        ({"stop_signal": "CHLD"}, InvalidInput),
        ({"grace_seconds": -1.0}, InvalidInput),
        ({"argv": ("x" * 131_072,)}, TooLarge),
    ],
)
def test_a_submit_out_of_bounds_is_refused(spec: dict[str, Any], error: type[Exception]) -> None:
    values = {"argv": ("true",)} | spec
    with pytest.raises(error):
        task.decide(None, task.SubmitTask("t", "lab", "alice", 1, TaskSpec(**values)))


def test_a_negative_priority_is_possible() -> None:
    assert task.check_spec(TaskSpec(("true",), priority=1 - 2**31)).priority < 0


@pytest.mark.parametrize(
    ("commands", "refused", "error"),
    [
        ([], task.RequestCancel(), NotFound),
        ([SUBMIT, task.RequestCancel()], task.RequestCancel(), WrongState),
        ([SUBMIT, task.RequestCancel()], ASSIGN, WrongState),
        ([SUBMIT, ASSIGN], ASSIGN, WrongState),
        ([SUBMIT, ASSIGN], task.CommitTask("w", 1), InvalidInput),
        ([SUBMIT, ASSIGN], task.CommitTask("other", 1), StaleAttempt),
        ([SUBMIT, ASSIGN], task.ChangeTask(TaskSpec(("false",))), WrongState),
        ([SUBMIT], task.DeleteArtifact(ArtifactKind.RESULT), NotFound),
        ([SUBMIT, ASSIGN], task.WarnTask("w", 1, "x" * 1_001), TooLarge),
    ],
)
def test_a_command_that_does_not_fit_the_state_is_refused(
    commands: list[Command], refused: Command, error: type[MitosisError]
) -> None:
    state = run(*commands) if commands else None
    with pytest.raises(error):
        task.decide(state, refused)


def test_a_command_without_a_rule_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(AssertionError, match="no rule for Command"):
        task.decide(run(SUBMIT), Command())
