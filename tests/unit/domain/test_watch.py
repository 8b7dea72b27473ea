"""Which reached state satisfies which watch, by the table of the original."""

import pytest

from mitosis.domain.execution import ExecutionState as S
from mitosis.domain.execution import parse_execution_state
from mitosis.domain.watch import (
    NEVER_SATISFIED,
    Verdict,
    Watch,
    check_watch,
    judge_watch,
    mask,
    reached_at_end,
)
from mitosis.errors import InvalidInput

TASK = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
LATE = {S.UPLOAD_FINISHED_RESULT, S.UPLOAD_CANCELLED_RESULT,
        S.UPLOAD_RESULT_FINISHED, S.UPLOAD_RESULT_TIMEOUT}  # fmt: skip
AFTER_SPAWNED = {S.EXEC_FINISHED, S.EXEC_TIMEOUT, S.UPLOAD_RESULT, *LATE}
FETCH_FAILURES = {S.FETCH_RESOURCE_ERROR, S.FETCH_RESOURCE_TIMEOUT,
                  S.FETCH_RESOURCE_NOT_FOUND, S.FETCH_RESOURCE_FORBIDDEN}  # fmt: skip
FROM_PENDING = {S.EXEC_PENDING, S.EXEC_SPAWNED, *AFTER_SPAWNED}
FROM_FETCH = {S.FETCH_RESOURCE, S.FETCH_RESOURCE_FINISHED, *FETCH_FAILURES, *FROM_PENDING}

SATISFIED_BY = {
    S.WATCH: {S.WATCH, S.WATCH_FINISHED, S.WATCH_TIMEOUT, *FROM_FETCH},
    S.WATCH_FINISHED: {S.WATCH_FINISHED, *FROM_FETCH},
    S.FETCH_RESOURCE: FROM_FETCH,
    S.FETCH_RESOURCE_FINISHED: {S.FETCH_RESOURCE_FINISHED, *FROM_PENDING},
    S.EXEC_PENDING: FROM_PENDING,
    S.EXEC_SPAWNED: {S.EXEC_SPAWNED, *AFTER_SPAWNED},
    S.UPLOAD_RESULT: {S.UPLOAD_RESULT, *LATE},
    S.EXEC_FINISHED: {S.EXEC_FINISHED, S.UPLOAD_FINISHED_RESULT},
    S.WORKER_EXITED: set(),
}


@pytest.mark.parametrize("wanted", S)
def test_a_watch_is_satisfied_by_exactly_what_the_table_says(wanted: S) -> None:
    satisfied = SATISFIED_BY.get(wanted, {wanted})
    for reached in S:
        verdict = judge_watch(wanted, mask([reached]), ended=False)
        assert (verdict is Verdict.REACHED) == (reached in satisfied), reached
    assert judge_watch(wanted, 0, ended=True) is Verdict.IMPOSSIBLE
    assert judge_watch(wanted, 0, ended=False) is Verdict.OPEN


def satisfied_at_end(reached: int) -> set[S]:
    return {s for s in S if judge_watch(s, reached, ended=True) is Verdict.REACHED}


def test_the_end_of_a_task_adds_what_one_that_ended_so_has_gone_through() -> None:
    failures = {*FETCH_FAILURES, S.WATCH_TIMEOUT, S.EXEC_TIMEOUT, S.UPLOAD_CANCELLED_RESULT,
                S.UPLOAD_RESULT_TIMEOUT}  # fmt: skip
    finished = satisfied_at_end(reached_at_end(0, finished=True))
    assert finished == {*S} - failures - NEVER_SATISFIED
    timed_out = satisfied_at_end(reached_at_end(0, timed_out=True))
    assert timed_out == finished - {S.EXEC_FINISHED, S.UPLOAD_FINISHED_RESULT} | {
        S.EXEC_TIMEOUT, S.UPLOAD_CANCELLED_RESULT,
    }  # fmt: skip
    cancelled = satisfied_at_end(reached_at_end(0))
    assert cancelled == {S.TASK_COMMITTED}, "cancelled before it ran"
    lost = reached_at_end(mask([S.UPLOAD_RESULT_TIMEOUT]), finished=True)
    assert S.UPLOAD_RESULT_FINISHED not in satisfied_at_end(lost), "its outputs are not all there"


def test_what_can_never_be_satisfied_is_refused() -> None:
    with pytest.raises(InvalidInput, match="WorkerExited cannot be watched"):
        check_watch(Watch(TASK, "lab", S.WORKER_EXITED))
    with pytest.raises(InvalidInput, match="watch timeout"):
        check_watch(Watch(TASK, "lab", S.WATCH, float("nan")))
    assert check_watch(Watch(TASK.upper(), "lab", S.WATCH, 1.5)).task == TASK


@pytest.mark.parametrize("state", S)
def test_the_name_of_a_state_is_exact_and_a_near_one_gets_advice(state: S) -> None:
    assert parse_execution_state(state.value) is state
    with pytest.raises(InvalidInput, match=f"did you mean {state.value!r}"):
        parse_execution_state(state.value.lower())
