"""What is lined up in a slot: when that is done, and how each attempt leaves the line."""

from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mitosis.contract.work import Assignment, CancelAttempt, Held
from mitosis.domain.task import EndCause, TaskSpec
from mitosis.processes.runs import Exited, NotBegun, Signaled
from mitosis.services.worker.attempt import Attempt, Phase
from mitosis.services.worker.line import (
    LINE_PATIENCE_SECONDS,
    LINED_UP_SECONDS,
    MOST_LINED_UP,
    Pace,
)

from .recording import Bench

SHORT_SECONDS = 0.001


def short(bench: Bench, *, tasks: int = 1) -> None:
    """Let short tasks pass, so that the worker knows how long they take."""
    for number in range(tasks):
        attempt = bench.running(f"short{number}")
        bench.end(attempt, left_nothing=True, wall_seconds=SHORT_SECONDS)
        bench.accept()
    bench.effects.take()


@pytest.fixture
def line(bench: Bench) -> list[Attempt]:
    """Two that run and two that are lined up."""
    short(bench)
    held = [bench.assign(f"t{number}") for number in (1, 2, 3, 4)]
    assert [attempt.phase for attempt in held] == [
        Phase.RUNNING, Phase.RUNNING, Phase.LINED_UP, Phase.LINED_UP,
    ]  # fmt: skip
    for attempt in held[:2]:
        bench.core.started(attempt, 101.0)
    bench.accept()
    bench.effects.take()
    return held


def test_nothing_is_lined_up_before_it_is_known_how_long_programs_take(bench: Bench) -> None:
    waiting = [bench.assign(f"t{number}") for number in (1, 2, 3)][2]
    assert waiting.phase is Phase.WAITING


def test_nothing_is_lined_up_while_programs_take_long_or_leave_something(bench: Bench) -> None:
    pace = Pace()
    assert pace.most_lined_up() == 0
    pace.learn(bench.result(left_nothing=True, wall_seconds=SHORT_SECONDS))
    assert pace.most_lined_up() == MOST_LINED_UP
    pace.learn(bench.result(left_nothing=False, wall_seconds=SHORT_SECONDS))
    assert pace.most_lined_up() == 0
    pace.learn(bench.result(left_nothing=True, wall_seconds=2 * LINED_UP_SECONDS))
    assert pace.most_lined_up() == 0
    pace.learn(bench.result(left_nothing=True, wall_seconds=SHORT_SECONDS))
    assert pace.most_lined_up() == 0, "one short program tells nothing"


def test_what_is_lined_up_is_held_and_counts_as_waiting(bench: Bench, line: list[Attempt]) -> None:
    assert Held("t4", "lab", 1) in bench.core.held
    assert bench.core.waiting == 2


def test_what_was_lined_up_is_reported_as_anything_that_runs(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.core.started(line[2], 103.0)
    report = bench.reported()
    assert (report.task, report.started) == ("t3", True)
    bench.end(line[2], Exited(0), left_nothing=True)
    assert ("release", "t3") in bench.effects.take()
    assert bench.core.waiting == 1


def test_who_is_lined_up_behind_a_long_program_is_recalled(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.effects.clock += LINE_PATIENCE_SECONDS
    bench.core.waited(line[2])
    assert bench.effects.take() == [("recall", "t3")]


def test_what_came_back_waits_at_its_old_place(bench: Bench, line: list[Attempt]) -> None:
    bench.effects.lined_up += MOST_LINED_UP  # every slot is stuck
    later = bench.assign("t5")
    for attempt in (line[3], line[2]):
        bench.end(attempt, NotBegun())
    assert {attempt.phase for attempt in (*line[2:], later)} == {Phase.WAITING}
    bench.effects.take()
    for attempt in line[:2]:
        bench.end(attempt, left_nothing=True, wall_seconds=SHORT_SECONDS)
    bench.core.fill()
    starts = [one[1] for one in bench.effects.take() if one[0] == "start"]
    assert starts == ["t3", "t4"], "and t5 after them"


def test_what_came_back_after_long_waiting_is_handed_back(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.effects.lined_up += MOST_LINED_UP
    bench.effects.clock += 60.0
    bench.end(line[2], NotBegun())
    bench.core.waited(line[2])
    assert "no slot became free" in bench.reported().handed_back


def test_a_cancel_of_what_is_lined_up_hands_it_back(bench: Bench, line: list[Attempt]) -> None:
    bench.core.cancel(CancelAttempt("t3", 1))
    assert bench.effects.take() == [("stop", "t3", "cancel", None)]
    bench.end(line[2], NotBegun())
    assert bench.reported().handed_back == "cancelled before it started"


def test_a_cancel_that_comes_when_it_has_begun_stops_the_program(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.core.cancel(CancelAttempt("t3", 1))
    bench.effects.take()
    bench.end(line[2], Signaled(15), "cancel", left_nothing=True)
    [report] = [one[1] for one in bench.effects.take() if one[0] == "report"]
    assert report.exit.cause is EndCause.CANCEL
    assert report.committed


def test_a_drain_hands_back_what_is_lined_up_unless_it_has_begun(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.core.drain("leaving")
    assert bench.effects.take() == [("recall", "t3"), ("recall", "t4")]
    bench.end(line[2], NotBegun())
    assert bench.reported().handed_back == "leaving"
    bench.core.started(line[3], 103.0)
    assert bench.reported().started


def test_a_forced_drain_stops_what_is_lined_up_before_what_it_is_behind(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.core.drain("leaving", force=True, grace_seconds=3.0)
    stops = [one for one in bench.effects.take() if one[0] == "stop"]
    assert [one[1:] for one in stops] == [
        (f"t{number}", "shutdown", 3.0) for number in (3, 4, 1, 2)
    ]


def test_the_end_of_a_registration_stops_what_is_lined_up_before_what_it_is_behind(
    bench: Bench, line: list[Attempt]
) -> None:
    bench.core.drop_all()
    stops = [one for one in bench.effects.take() if one[0] == "stop"]
    assert [one[1:] for one in stops] == [(f"t{number}", "lease", 0.0) for number in (3, 4, 1, 2)]


def test_of_what_is_not_ours_any_more_nothing_is_said(bench: Bench, line: list[Attempt]) -> None:
    bench.core.drop(("t3", 1))
    assert bench.effects.take() == [("forget", "t3", 1), ("stop", "t3", "lease", 0.0)]
    bench.end(line[2], NotBegun())
    assert not [one for one in bench.effects.take() if one[0] == "report"]
    assert Held("t3", "lab", 1) not in bench.core.held
    bench.core.drop(("t4", 1))
    bench.end(line[3], Signaled(9), "lease")
    assert not [one for one in bench.effects.take() if one[0] == "report"]


def test_a_change_of_slots_recalls_what_is_lined_up(bench: Bench, line: list[Attempt]) -> None:
    bench.core.resize(1)
    assert [one for one in bench.effects.take() if one[0] == "recall"] == [
        ("recall", "t3"), ("recall", "t4"),
    ]  # fmt: skip


STEPS = st.lists(
    st.sampled_from(["assign", "end", "end", "left", "long", "back", "cancel", "drop", "waited"]),
    max_size=80,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, choices=st.randoms(use_true_random=False))
def test_every_attempt_is_told_of_once_and_begun_once_at_most(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], choices: object
) -> None:
    bench = Bench(tmp_path_factory.mktemp("core"))
    held: dict[str, Attempt] = {}
    dropped: set[str] = set()
    numbers = count()
    pick = choices.choice  # type: ignore[attr-defined]

    def in_slots(*phases: Phase) -> list[Attempt]:
        return [attempt for attempt in held.values() if attempt.phase in phases]

    for step in steps:
        if step == "assign":
            name = f"t{next(numbers)}"
            bench.core.assign(Assignment(name, "lab", 1, 600.0, TaskSpec(("true",))))
            held[name] = bench.core._attempts[name, 1]
        elif step in {"end", "left", "long"} and (running := in_slots(Phase.RUNNING)):
            bench.end(
                pick(running), left_nothing=step != "left", wall_seconds=float(step == "long")
            )
        elif step == "back" and (lined_up := in_slots(Phase.LINED_UP)):
            bench.end(pick(lined_up), NotBegun())
        elif step in {"cancel", "drop", "waited"} and held:
            attempt = pick(list(held.values()))
            if step == "cancel":
                bench.core.cancel(CancelAttempt(attempt.key[0], 1))
            elif step == "drop" and bench.core.attempt(attempt.key):
                dropped.add(attempt.key[0])
                bench.core.drop(attempt.key)
            elif step == "waited":
                bench.core.waited(attempt)
        bench.accept()
    for _ in range(len(held) * 3):
        for attempt in in_slots(Phase.LINED_UP):
            if bench.core.attempt(attempt.key):
                bench.end(attempt, NotBegun())
        for attempt in in_slots(Phase.RUNNING):
            if bench.core.attempt(attempt.key):
                bench.end(attempt, left_nothing=False)
        bench.accept()
    assert bench.core.empty
    done = bench.effects.take()
    finals = Counter(one[1].task for one in done if one[0] == "report" and _is_final(one[1]))
    assert all(number == 1 for number in finals.values())
    assert set(finals) | dropped == set(held)
    starts = Counter(one[1] for one in done if one[0] == "start")
    assert all(number == 1 for number in starts.values())


def _is_final(report: object) -> bool:
    return bool(report.committed or report.handed_back or report.fault)  # type: ignore[attr-defined]


def test_a_pace_forgets_one_long_program_after_many_short_ones(tmp_path: Path) -> None:
    bench, pace = Bench(tmp_path), Pace()
    pace.learn(bench.result(left_nothing=True, wall_seconds=1.0))
    for number in count():
        if pace.most_lined_up():
            break
        pace.learn(bench.result(left_nothing=True, wall_seconds=SHORT_SECONDS))
        assert number < 100


def test_nothing_is_lined_up_where_no_program_can_run(bench: Bench) -> None:
    """A moment after it was still well, as the folder is not looked at for each of many."""
    short(bench)
    held = [bench.assign(f"t{number}") for number in (1, 2, 3)]
    bench.effects.why = "no space is left"
    assert bench.assign("t4").phase is Phase.LINED_UP
    bench.effects.clock += LINED_UP_SECONDS
    assert bench.assign("t5").phase is Phase.WAITING
    assert [attempt.phase for attempt in held[:2]] == [Phase.RUNNING] * 2
