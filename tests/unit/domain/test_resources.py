"""Limits of tasks: what can be asked for, what comes of it, and how it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.domain.durations import format_exact_size, parse_size
from mitosis.domain.limits import MAX_SIZE_BYTES
from mitosis.domain.resources import MAX_GRACE_SECONDS, Limits, check_grace, check_stop_signal
from mitosis.errors import InvalidInput

SOME = st.none() | st.integers(1, 5)
LIMITS = st.builds(Limits, processes=SOME, open_files=SOME, cpu_seconds=SOME)
FIELDS = ("processes", "open_files", "cpu_seconds")


@pytest.mark.parametrize(
    ("wrong", "noun"),
    [
        (Limits(memory_bytes=1000), "memory in bytes"),
        (Limits(memory_bytes=2**60), "memory in bytes"),
        (Limits(cpu_seconds=0.0), "CPU time in seconds"),
        (Limits(cpu_seconds=float("nan")), "CPU time in seconds"),
        (Limits(processes=0), "processes"),
        (Limits(processes=2**23), "processes"),
        (Limits(open_files=3), "open files"),
        (Limits(open_files=2**31), "open files"),
        (Limits(file_size_bytes=-1), "file size in bytes"),
    ],
)
def test_a_limit_that_no_machine_can_keep_is_refused_by_its_name(wrong: Limits, noun: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{noun} is .*: it must be from "):
        wrong.check()


@given(asked=LIMITS, defaults=LIMITS, ceilings=LIMITS)
def test_what_holds_is_what_was_asked_for_else_the_default_and_never_above_the_ceiling(
    asked: Limits, defaults: Limits, ceilings: Limits
) -> None:
    holds = asked.or_else(defaults, ceilings)
    assert holds.within(ceilings)
    for field in FIELDS:
        wish, default = getattr(asked, field), getattr(defaults, field)
        most, held = getattr(ceilings, field), getattr(holds, field)
        wish = default if wish is None else wish
        assert held == (wish if most is None else most if wish is None else min(wish, most))
    if asked.within(ceilings):
        for field in FIELDS:
            assert getattr(asked, field) in {None, getattr(holds, field)}


@given(st.integers(0, MAX_SIZE_BYTES))
def test_a_written_size_is_read_back_exactly(size: int) -> None:
    assert parse_size(format_exact_size(size)) == size


def test_limits_are_written_as_people_give_them() -> None:
    limits = Limits(
        memory_bytes=2 << 30, cpu_seconds=600, processes=5, open_files=9, file_size_bytes=10**9
    )
    assert list(limits.texts().items()) == [
        ("memory", "2GiB"), ("CPU time", "10m"), ("processes", "5"), ("open files", "9"),
        ("file size", "1GB"),
    ]  # fmt: skip


def test_a_stop_signal_is_named_with_or_without_sig_in_any_case() -> None:
    assert [check_stop_signal(text) for text in ("INT", "sigint", "SigUsr1")] == [
        "INT", "INT", "USR1",
    ]  # fmt: skip
    for wrong in ("", "9", "SIGSTOP", "CHLD", "SIG"):
        with pytest.raises(InvalidInput, match="no signal to stop a task by"):
            check_stop_signal(wrong)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), MAX_GRACE_SECONDS + 1])
def test_a_grace_out_of_its_bounds_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidInput, match="grace in seconds"):
        check_grace(wrong)
