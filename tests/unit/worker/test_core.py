"""The core against recording effects: each test also says that nothing else was done."""

from typing import Any

import pytest

from mitosis.contract.work import Assignment, CancelAttempt, Held, StoredArtifact
from mitosis.domain.dispatch import MOST_AHEAD
from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.task import ArtifactKind, Exit, ExitKind, TaskSpec
from mitosis.processes.runs import (
    Cause,
    Exited,
    Lost,
    Signaled,
    SpawnFailed,
    StreamResult,
)
from mitosis.services.worker.attempt import Phase
from mitosis.services.worker.core import DISK_PATIENCE_SECONDS, PATIENCE_SECONDS, STALE

from .recording import Bench


def steps(report: Any) -> list[State]:
    return [step.state for step in report.steps]


# --- the straight way --------------------------------------------------------------------------


def test_an_assignment_starts_the_program_and_says_nothing_yet(bench: Bench) -> None:
    bench.assign()
    assert bench.effects.take() == [("start", "t1", 1)]
    assert bench.core.held == [Held("t1", "lab", 1)]


def test_a_start_is_reported_with_its_steps_and_their_ages(bench: Bench) -> None:
    attempt = bench.assign()
    bench.effects.take()
    bench.effects.clock = 104.0
    bench.core.started(attempt, 101.5)
    report = bench.reported()
    assert (report.task, report.group, report.attempt) == ("t1", "lab", 1)
    assert report.started
    assert [(s.state, s.age_seconds) for s in report.steps] == [
        (State.FETCH_RESOURCE_FINISHED, 4.0),
        (State.EXEC_PENDING, 4.0),
        (State.EXEC_SPAWNED, 2.5),
    ]
    assert report.exit is None
    assert not report.committed


def test_an_end_without_outputs_is_reported_and_committed_at_once(bench: Bench) -> None:
    attempt = bench.running()
    bench.end(attempt, Exited(3), stdout=StreamResult(kept_bytes=4, tail=b"a\xff\nb"))
    released, (_, report) = bench.effects.take()
    assert released == ("release", "t1")
    assert steps(report) == [State.EXEC_FINISHED]
    assert (report.exit.kind, report.exit.number) == (ExitKind.CODE, 3)
    assert report.exit.stdout_tail == "a\ufffd\nb"
    assert report.exit.usage.stdout_bytes == 4
    assert report.committed
    bench.accept()
    assert bench.effects.take() == [("idle",)]
    assert bench.core.held == []


def test_outputs_are_delivered_before_the_commit(bench: Bench) -> None:
    attempt = bench.running()
    (bench.folder / "result" / "x").touch()
    bench.end(attempt)
    (_, report), deliver = bench.effects.take()
    assert deliver == ("deliver", "t1", 1)
    assert steps(report) == [
        State.EXEC_FINISHED,
        State.UPLOAD_RESULT,
        State.UPLOAD_FINISHED_RESULT,
    ]
    assert report.exit is not None
    assert not report.committed
    bench.core.delivered(attempt, ["a warning"], timed_out=False)
    report = bench.reported()
    assert steps(report) == [State.UPLOAD_RESULT_FINISHED]
    assert report.warnings == ["a warning"]
    assert report.committed


def test_terminal_output_is_delivered_even_when_it_is_empty(bench: Bench) -> None:
    attempt = bench.running(terminal=True)
    bench.end(attempt)
    assert bench.effects.take()[-1] == ("deliver", "t1", 1)


def test_a_delivery_over_its_limit_says_so_and_commits(bench: Bench) -> None:
    attempt = bench.running(terminal=True)
    bench.end(attempt)
    bench.effects.take()
    bench.core.delivered(attempt, [], timed_out=True)
    report = bench.reported()
    assert steps(report) == [State.UPLOAD_RESULT_TIMEOUT]
    assert report.committed


def test_an_uploaded_output_is_a_report_that_is_judged_alone(bench: Bench) -> None:
    attempt = bench.running()
    artifact = StoredArtifact(ArtifactKind.RESULT, "t1/1/u/result.tar.gz", 9, "0" * 64)
    draft = bench.core.artifact(attempt, artifact)
    assert draft.alone
    assert draft.report(0).artifacts == [artifact]
    assert not draft.merge(attempt.draft())


# --- how programs end --------------------------------------------------------------------------


def test_a_timeout_keeps_its_cause_and_has_its_own_steps(bench: Bench) -> None:
    attempt = bench.running()
    bench.end(attempt, Signaled(15), "timeout")
    report = bench.effects.take()[-1][1]
    assert steps(report) == [State.EXEC_TIMEOUT]
    assert (report.exit.kind, report.exit.number, report.exit.cause) == (
        ExitKind.SIGNAL,
        15,
        "timeout",
    )
    assert report.committed


def test_outputs_of_a_timed_out_task_are_delivered_as_of_a_cancelled_one(bench: Bench) -> None:
    attempt = bench.running()
    (bench.folder / "exec" / "x").touch()
    bench.end(attempt, Signaled(9), "timeout")
    report = bench.effects.take()[0][1]
    assert steps(report)[1:] == [State.UPLOAD_RESULT, State.UPLOAD_CANCELLED_RESULT]


@pytest.mark.parametrize("stage", ["arguments", "program", "exec"])
def test_a_program_that_cannot_be_started_is_the_task_s_own_end(bench: Bench, stage: Any) -> None:
    attempt = bench.assign()
    bench.effects.take()
    bench.end(attempt, SpawnFailed(stage, 2, "nope: no such program"))
    report = bench.effects.take()[-1][1]
    assert report.exit == Exit(ExitKind.NOT_STARTED, 2, reason="nope: no such program")
    assert report.steps == []
    assert report.committed


@pytest.mark.parametrize(
    ("outcome", "cause", "reason"),
    [
        (SpawnFailed("folder", 28, "no space"), "own", "could not set the task up"),
        (SpawnFailed("output", 28, "no space"), "own", "could not set the task up"),
        (Signaled(9), "lease", "no contact"),
        (Lost("the runner died"), "own", "the runner died"),
    ],
)
def test_what_the_worker_did_is_a_fault_and_no_end_of_the_task(
    bench: Bench, outcome: Any, cause: Cause, reason: str
) -> None:
    attempt = bench.running()
    bench.end(attempt, outcome, cause)
    report = bench.effects.take()[-1][1]
    assert reason in report.fault
    assert report.exit is None
    assert not report.committed
    bench.accept()
    assert bench.core.empty


def test_a_program_that_was_refused_after_the_lease_is_no_loss(bench: Bench) -> None:
    """It never ran. The runner says both: what failed, and that the lease is the cause."""
    attempt = bench.assign()
    bench.effects.take()
    bench.end(attempt, SpawnFailed("lease", 0, "over"), "lease")
    report = bench.effects.take()[-1][1]
    assert "lease" in report.handed_back
    assert not report.fault


def test_a_program_that_the_engine_does_not_take_ends_the_attempt(bench: Bench) -> None:
    bench.effects.accepts = False
    attempt = bench.assign()
    bench.effects.take()
    bench.core.not_started(attempt, Exit(ExitKind.NOT_STARTED, reason="too long"))
    assert bench.reported().committed


@pytest.mark.parametrize(("stage", "before_start"), [("folder", True), ("limits", False)])
def test_only_what_would_have_failed_for_any_task_is_not_counted(
    bench: Bench, stage: Any, before_start: bool
) -> None:
    bench.end(bench.assign(), SpawnFailed(stage, 28, "no space"))
    assert bench.effects.take()[-1][1].before_start is before_start


@pytest.mark.parametrize("outcome", [Exited(1), Signaled(6)])
def test_a_program_that_failed_on_a_broken_disk_goes_elsewhere_and_is_counted(
    bench: Bench, outcome: Any
) -> None:
    attempt = bench.running()
    bench.effects.why = "no space is left"
    bench.end(attempt, outcome)
    report = bench.effects.take()[-1][1]
    assert report.fault == "no space is left, and so the program failed"
    assert (report.exit, report.committed, report.before_start) == (None, False, False)


@pytest.mark.parametrize(
    ("outcome", "cause"), [(Exited(0), "own"), (Exited(1), "timeout"), (Signaled(15), "cancel")]
)
def test_a_program_that_succeeded_or_was_stopped_keeps_its_end_on_a_broken_disk(
    bench: Bench, outcome: Any, cause: Cause
) -> None:
    attempt = bench.running()
    bench.effects.why = "no space is left"
    bench.end(attempt, outcome, cause)
    report = bench.effects.take()[-1][1]
    assert (report.fault, report.committed) == ("", True)


def test_a_success_whose_results_have_vanished_with_the_disk_is_none(bench: Bench) -> None:
    attempt = bench.running()
    (bench.folder / "result").rmdir()
    bench.effects.why = "it has vanished"
    bench.end(attempt)
    assert "it has vanished" in bench.effects.take()[-1][1].fault


def test_a_worker_without_room_for_the_outputs_gives_the_task_away(bench: Bench) -> None:
    attempt = bench.running(terminal=True)
    bench.end(attempt)
    bench.effects.take()
    bench.core.delivered(attempt, [], timed_out=False, fault="result: no space")
    report = bench.reported()
    assert (report.fault, report.committed, report.steps) == ("result: no space", False, [])


def test_what_waits_for_a_slot_that_will_never_come_goes_elsewhere(bench: Bench) -> None:
    bench.effects.free = 0
    attempt = bench.assign()
    bench.effects.take()
    bench.core.waited(attempt)
    assert bench.effects.take() == [("remind", "t1", 1)]
    bench.effects.why = "no runner lives"
    bench.effects.clock += DISK_PATIENCE_SECONDS
    bench.core.waited(attempt)
    report = bench.reported()
    assert report.fault == "the worker could not set the task up: no runner lives"
    assert report.before_start


def test_a_disk_that_is_full_for_a_moment_delays_a_task_and_is_no_fault(bench: Bench) -> None:
    bench.effects.why = "no space is left"
    attempt = bench.assign()
    bench.effects.clock += DISK_PATIENCE_SECONDS / 2
    bench.core.waited(attempt)
    assert bench.effects.take() == [("remind", "t1", 1), ("remind", "t1", 1)]
    bench.effects.why = ""
    bench.core.waited(attempt)
    assert bench.effects.take() == [("start", "t1", 1)]


# --- slots -------------------------------------------------------------------------------------


def test_the_same_assignment_again_changes_nothing(bench: Bench) -> None:
    bench.assign()
    bench.effects.take()
    bench.assign()
    assert bench.effects.take() == []


def test_an_assignment_that_comes_again_after_its_end_changes_nothing(bench: Bench) -> None:
    bench.end(bench.running())
    bench.accept()
    bench.effects.take()
    bench.core.assign(Assignment("t1", "lab", 1, 600.0, TaskSpec(("true",))))
    assert bench.effects.take() == []
    assert bench.core.empty


def test_what_is_sent_ahead_waits_for_a_slot_and_starts_when_one_is_free(bench: Bench) -> None:
    first = bench.running("t1")
    bench.running("t2")
    bench.effects.take()
    bench.assign("t3")
    assert bench.effects.take() == [("remind", "t3", 1)]
    bench.end(first)
    bench.core.fill()
    assert ("start", "t3", 1) in bench.effects.take()


def test_what_is_sent_ahead_is_handed_back_when_no_slot_becomes_free_in_time(bench: Bench) -> None:
    bench.running("t1")
    bench.running("t2")
    ahead = bench.assign("t3")
    bench.effects.take()
    bench.effects.clock += PATIENCE_SECONDS
    bench.core.waited(ahead)
    report = bench.reported()
    assert report.task == "t3"
    assert report.handed_back == "sent ahead, and no slot became free in time"
    bench.accept()
    assert [held.task for held in bench.core.held] == ["t1", "t2"]


def test_what_is_sent_ahead_waits_on_while_others_are_started_before_it_but_not_for_ever(
    bench: Bench,
) -> None:
    running = bench.running("t1")
    bench.running("t2")
    waiting = [bench.assign(f"ahead-{number}") for number in range(7)]
    last = waiting[-1]
    for number in range(5):
        bench.effects.clock += PATIENCE_SECONDS
        bench.end(running)
        running = waiting[number]
        bench.core.fill()
        bench.effects.take()
        bench.core.waited(last)
        if number < 4:
            assert bench.effects.take() == [("remind", *last.key)]
    assert bench.reported().handed_back == "sent ahead, and no slot became free in time"


def test_more_than_may_be_sent_ahead_is_handed_back(bench: Bench) -> None:
    for number in range(2 + MOST_AHEAD):
        bench.assign(f"t{number}")
    bench.effects.take()
    bench.assign("one-more")
    assert bench.reported().handed_back == "all 2 slots of the worker are taken"


def test_an_attempt_whose_end_is_reported_takes_no_slot_any_more(bench: Bench) -> None:
    first = bench.running("t1")
    bench.running("t2")
    bench.end(first)
    bench.effects.take()
    bench.assign("t3")
    assert bench.effects.take() == [("start", "t3", 1)]


def test_an_assignment_waits_while_a_folder_is_cleaned(bench: Bench) -> None:
    bench.effects.free = 0
    attempt = bench.assign()
    assert bench.effects.take() == [("remind", "t1", 1)]
    bench.core.waited(attempt)  # nothing runs, so that nobody else would start it sooner
    assert bench.effects.take() == [("remind", "t1", 1)]
    bench.effects.free = 1
    bench.core.fill()
    assert bench.effects.take() == [("start", "t1", 1)]


# --- orders ------------------------------------------------------------------------------------


def test_a_cancel_stops_the_program_with_the_grace_asked_for(bench: Bench) -> None:
    attempt = bench.running()
    bench.core.cancel(CancelAttempt("t1", 1, 3.0))
    assert bench.effects.take() == [("stop", "t1", "cancel", 3.0)]
    bench.end(attempt, Signaled(15), "cancel")
    report = bench.effects.take()[-1][1]
    assert report.exit.cause == "cancel"
    assert report.committed


def test_a_cancel_by_another_signal_sends_that(bench: Bench) -> None:
    bench.running()
    bench.core.cancel(CancelAttempt("t1", 1, 3.0, "INT"))
    bench.core.cancel(CancelAttempt("t1", 1, None, "KILL"))
    assert bench.effects.take() == [
        ("stop", "t1", "cancel", 3.0, 2), ("stop", "t1", "cancel", None, 9),
    ]  # fmt: skip


def test_a_cancel_ends_the_upload_of_a_program_that_has_ended_by_itself(bench: Bench) -> None:
    attempt = bench.running(terminal=True)
    bench.end(attempt)
    bench.accept()
    bench.effects.take()
    for _ in range(3):  # the order is repeated at each renewal
        bench.core.cancel(CancelAttempt("t1", 1))
    assert bench.effects.take() == [("cut", "t1", 1)]
    bench.core.delivered(attempt, ["not all"], timed_out=False, cut_short=True)
    report = bench.reported()
    assert (report.committed, report.cut_short, report.warnings) == (True, True, ["not all"])
    assert steps(report) == []


def test_outputs_of_a_program_that_was_stopped_are_delivered_however_often_that_is_ordered(
    bench: Bench,
) -> None:
    attempt = bench.running(terminal=True)
    bench.core.cancel(CancelAttempt("t1", 1))
    bench.end(attempt, Signaled(15), "cancel")
    bench.effects.take()
    bench.core.cancel(CancelAttempt("t1", 1))
    assert bench.effects.take() == []


@pytest.mark.parametrize(
    ("first", "second", "cuts"),
    [
        ((3.0, ""), (3.0, "KILL"), True),
        ((None, ""), (0.5, ""), True),
        ((3.0, "KILL"), (3.0, "KILL"), False),
        ((3.0, "KILL"), (0.0, "KILL"), True),
        ((3.0, ""), (60.0, "INT"), False),
    ],
)
def test_a_sharper_cancel_ends_also_the_delivery_of_a_program_that_was_stopped(
    bench: Bench, first: tuple[Any, str], second: tuple[Any, str], cuts: bool
) -> None:
    attempt = bench.running(terminal=True)
    bench.core.cancel(CancelAttempt("t1", 1, *first))
    bench.end(attempt, Signaled(15), "cancel")
    bench.effects.take()
    for _ in range(3):
        bench.core.cancel(CancelAttempt("t1", 1, *second))
    assert bench.effects.take() == ([("cut", "t1", 1)] if cuts else [])


def test_a_cancel_of_another_attempt_does_nothing(bench: Bench) -> None:
    bench.running()
    bench.core.cancel(CancelAttempt("t1", 2))
    bench.core.cancel(CancelAttempt("t9", 1))
    assert bench.effects.take() == []


def test_a_cancel_that_overtakes_its_assignment_counts(bench: Bench) -> None:
    bench.core.cancel(CancelAttempt("t1", 1))
    bench.assign()
    assert bench.reported().handed_back == "cancelled before it started"


def test_a_cancel_of_what_waits_for_a_slot_hands_it_back(bench: Bench) -> None:
    bench.effects.free = 0
    bench.assign()
    bench.core.cancel(CancelAttempt("t1", 1))
    assert bench.reported().handed_back == "cancelled before it started"
    bench.effects.free = 1
    bench.core.fill()
    assert bench.effects.take() == []


def test_a_stale_verdict_kills_at_once_and_nothing_more_is_said(bench: Bench) -> None:
    attempt = bench.assign()
    bench.core.started(attempt, 101.0)
    bench.effects.take()
    bench.accept(STALE)
    assert bench.effects.take() == [("forget", "t1", 1), ("stop", "t1", "lease", 0.0)]
    assert bench.core.held == []
    assert not bench.core.empty
    bench.end(attempt, Signaled(9), "lease")
    assert bench.effects.take() == [("release", "t1"), ("idle",)]


def test_a_foreign_attempt_in_delivery_is_aborted(bench: Bench) -> None:
    attempt = bench.running(terminal=True)
    bench.end(attempt)
    bench.effects.take()
    bench.core.drop_foreign([Held("t1", "lab", 1), Held("t9", "lab", 1)])
    assert bench.effects.take() == [("forget", "t1", 1), ("abort", "t1", 1)]
    bench.core.delivered(attempt, [], timed_out=False)
    assert bench.effects.take() == [("idle",)]


def test_a_newer_attempt_starts_only_when_the_older_one_is_dead(bench: Bench) -> None:
    older = bench.running("t1", 1)
    bench.assign("t1", 2)
    assert bench.effects.take() == [
        ("forget", "t1", 1),
        ("stop", "t1", "lease", 0.0),
        ("remind", "t1", 2),
    ]
    bench.end(older, Signaled(9), "lease")
    assert bench.effects.take() == [("release", "t1"), ("start", "t1", 2)]
    assert bench.core.held == [Held("t1", "lab", 2)]


def test_an_older_attempt_that_comes_late_is_ignored(bench: Bench) -> None:
    bench.running("t1", 2)
    bench.core.assign(Assignment("t1", "lab", 1, 600.0, TaskSpec(("true",))))
    assert bench.effects.take() == []


def test_a_refused_last_report_frees_the_task_once(bench: Bench) -> None:
    bench.end(bench.running())
    bench.effects.take()
    bench.accept("invalid")
    assert bench.reported().fault == "the coordinator refused the worker's report (invalid)"
    bench.accept("invalid")
    assert bench.effects.take() == [("idle",)]


# --- leaving -----------------------------------------------------------------------------------


def test_a_drain_lets_what_runs_finish_and_takes_nothing_new(bench: Bench) -> None:
    attempt = bench.running()
    bench.core.drain("asked to leave")
    assert bench.effects.take() == []
    bench.assign("t2")
    assert bench.reported().handed_back == "asked to leave"
    bench.accept()
    bench.effects.take()
    bench.end(attempt)
    assert bench.effects.take()[-1][1].committed
    bench.accept()
    assert bench.effects.take() == [("idle",)]


def test_a_forced_drain_hands_back_what_it_stopped(bench: Bench) -> None:
    attempt = bench.running()
    bench.core.drain("the worker got SIGTERM", force=True)
    assert bench.effects.take() == [("stop", "t1", "shutdown", 10.0)]
    bench.end(attempt, Signaled(15), "shutdown")
    report = bench.effects.take()[-1][1]
    assert report.handed_back == "the worker got SIGTERM"
    assert report.exit is None
    assert not report.committed


def test_a_program_that_ends_by_itself_during_a_forced_drain_keeps_its_end(bench: Bench) -> None:
    attempt = bench.running()
    bench.core.drain("bye", force=True)
    bench.effects.take()
    bench.end(attempt, Exited(0), "own")
    assert bench.effects.take()[-1][1].committed


def test_a_drain_hands_back_what_waits(bench: Bench) -> None:
    bench.effects.free = 0
    bench.assign()
    bench.core.drain("bye")
    assert bench.reported().handed_back == "bye"


def test_an_empty_worker_is_idle_at_once(bench: Bench) -> None:
    bench.core.drain("bye")
    assert bench.effects.take() == [("idle",)]


def test_the_end_of_a_registration_kills_everything(bench: Bench) -> None:
    running = bench.running("t1")
    reported = bench.running("t2")
    bench.end(reported)
    bench.effects.take()
    bench.core.drop_all()
    assert bench.effects.take() == [
        ("forget", "t1", 1),
        ("stop", "t1", "lease", 0.0),
        ("forget", "t2", 1),
    ]
    bench.end(running, Signaled(9), "lease")
    assert bench.effects.take() == [("release", "t1"), ("idle",)]


def test_a_tree_that_could_not_be_killed_is_remembered(bench: Bench) -> None:
    bench.end(bench.running(), tree_clean=False)
    assert bench.core.unclean


def test_the_phases_of_an_attempt_follow_each_other(bench: Bench) -> None:
    bench.effects.free = 0
    attempt = bench.assign(terminal=True)
    seen = [attempt.phase]
    bench.effects.free = 1
    bench.core.fill()
    seen.append(attempt.phase)
    bench.end(attempt)
    seen.append(attempt.phase)
    bench.core.delivered(attempt, [], timed_out=False)
    seen.append(attempt.phase)
    assert seen == [Phase.WAITING, Phase.RUNNING, Phase.DELIVERING, Phase.REPORTED]
