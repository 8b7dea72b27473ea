"""Waits of those who guess."""

from hypothesis import given
from hypothesis import strategies as st

from mitosis.services.auth.throttle import Throttle


def throttle(**options) -> Throttle:
    return Throttle(
        **{
            "free": 3,
            "first_wait_seconds": 1.0,
            "longest_wait_seconds": 60.0,
            "forget_seconds": 900.0,
            **options,
        }
    )


def test_the_first_failures_cost_nothing():
    tries = throttle()
    for _ in range(2):
        tries.failed("alice", 10.0)
        assert tries.wait_seconds("alice", 10.0) == 0


def test_each_further_failure_doubles_the_wait_up_to_the_longest():
    tries = throttle()
    waits = []
    for _ in range(12):
        tries.failed("alice", 10.0)
        waits.append(tries.wait_seconds("alice", 10.0))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_wait_passes():
    tries = throttle()
    for _ in range(4):
        tries.failed("alice", 10.0)
    assert tries.wait_seconds("alice", 11.5) == 0.5
    assert tries.wait_seconds("alice", 12.0) == 0


def test_keys_do_not_wait_for_each_other():
    tries = throttle()
    for _ in range(9):
        tries.failed("alice", 10.0)
    assert tries.wait_seconds("bob", 10.0) == 0


def test_success_and_quiet_forget_the_failures():
    tries = throttle()
    for name in ("alice", "bob"):
        for _ in range(9):
            tries.failed(name, 10.0)
    tries.succeeded("alice")
    assert tries.wait_seconds("alice", 10.0) == 0
    tries.failed("bob", 911.0)
    assert tries.wait_seconds("bob", 911.0) == 0


@given(st.lists(st.integers(0, 30).map(str), max_size=100))
def test_memory_is_bounded_and_the_newest_is_kept(keys):
    tries = throttle(free=1, max_keys=10)
    for key in keys:
        tries.failed(key, 1.0)
    assert len(tries) <= 10
    assert not keys or tries.wait_seconds(keys[-1], 1.0) > 0


def test_a_billion_failures_do_not_overflow():
    tries = throttle()
    for _ in range(5_000):
        tries.failed("alice", 1.0)
    assert tries.wait_seconds("alice", 1.0) == 60
