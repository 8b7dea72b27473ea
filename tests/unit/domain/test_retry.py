"""Which failure is followed by another attempt, and how long the wait is."""

import pytest

from mitosis.domain.retry import (
    ALL_CAUSES,
    MAX_RETRIES,
    NO_RETRY,
    UNLIMITED,
    Retry,
    RetryCause,
    check_losses,
    check_times,
    parse_cause,
)
from mitosis.errors import InvalidInput

EXIT, TIMEOUT, SIGNAL = ALL_CAUSES


def test_without_retries_a_task_runs_once_whatever_happens() -> None:
    assert not any(NO_RETRY.allows(cause, 0) for cause in ALL_CAUSES)
    assert not any(Retry(times=0).allows(cause, 0) for cause in ALL_CAUSES)


@pytest.mark.parametrize("used", range(4))
def test_so_many_retries_follow_as_were_asked_for(used: int) -> None:
    assert Retry(times=3).allows(EXIT, used) == (used < 3)
    assert Retry(times=UNLIMITED).allows(EXIT, 1_000_000 + used)


def test_only_the_named_failures_are_tried_again() -> None:
    retry = Retry(times=1, causes=(TIMEOUT, SIGNAL))
    assert [retry.allows(cause, 0) for cause in (EXIT, TIMEOUT, SIGNAL)] == [False, True, True]


def test_the_wait_doubles_up_to_its_bound_however_often() -> None:
    retry = Retry(times=9, delay_seconds=1.0)
    waits = [retry.wait_seconds(used) for used in range(12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert retry.wait_seconds(10**6) == 300
    assert Retry(times=9, delay_seconds=3600.0).wait_seconds(5) == 3600
    even = Retry(times=9, delay_seconds=2.0, max_delay_seconds=2.0)
    assert {even.wait_seconds(used) for used in range(9)} == {2.0}


@pytest.mark.parametrize(
    "retry",
    [
        Retry(times=-1),
        Retry(times=MAX_RETRIES + 1),
        Retry(times=1, delay_seconds=0.0),
        Retry(times=1, delay_seconds=float("nan")),
        Retry(times=1, delay_seconds=8 * 86_400.0),
        Retry(times=1, delay_seconds=10.0, max_delay_seconds=5.0),
        Retry(times=1, causes=()),
        # Without end and without a pause would fill the stream.
        Retry(times=UNLIMITED, delay_seconds=1.0, max_delay_seconds=59.0),
    ],
)
def test_what_cannot_be_kept_is_refused(retry: Retry) -> None:
    with pytest.raises(InvalidInput):
        retry.checked()


def test_the_order_and_the_repetition_of_causes_mean_nothing() -> None:
    given = Retry(times=1, causes=(SIGNAL, EXIT, SIGNAL)).checked()
    assert given.causes == (EXIT, SIGNAL)


@pytest.mark.parametrize("given", [-1, 1_001, 1.5, "3", "", "UNLIMITED", "inf", True])
def test_a_number_of_retries_is_a_whole_number_or_the_word(given: int | str) -> None:
    with pytest.raises(InvalidInput, match="retries"):
        check_times(given)
    assert check_times(UNLIMITED) == UNLIMITED
    assert check_times(0) == 0


def test_an_unknown_cause_is_named_with_the_nearest() -> None:
    assert parse_cause("signal") is RetryCause.SIGNAL
    with pytest.raises(InvalidInput, match="'exit'"):
        parse_cause("exits")


@pytest.mark.parametrize("count", [0, -1, 1_001])
def test_the_limit_of_losses_has_bounds(count: int) -> None:
    with pytest.raises(InvalidInput):
        check_losses(count)
