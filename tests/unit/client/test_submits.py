from datetime import timedelta

import msgspec
import pytest

from mitosis.client.submits import (
    MAX_BATCH_BYTES,
    batches,
    to_change,
    to_request,
)
from mitosis.config.client import NO_LIMIT, ChangeTaskArgs, SubmitTaskArgs
from mitosis.contract.commands import SubmitMany
from mitosis.contract.wire import MAX_REQUEST_BYTES
from mitosis.domain.limits import MAX_BATCH
from mitosis.domain.resources import Limits
from mitosis.errors import InvalidInput, TooLarge

TASK = "123e4567-e89b-12d3-a456-426614174000"


def test_a_key_is_drawn_unless_one_is_given() -> None:
    args = SubmitTaskArgs(command=("x",))
    assert to_request(args).key != to_request(args).key
    assert to_request(SubmitTaskArgs(command=("x",), key="mine")).key == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        SubmitTaskArgs(command=()),
        SubmitTaskArgs(command=("a\0b",)),
        SubmitTaskArgs(command=("x",), group="a/b"),
        SubmitTaskArgs(command=("x",), tags=("a,b",)),
        SubmitTaskArgs(command=("x",), labels=("",)),
        SubmitTaskArgs(command=("x",), envs={"": "1"}),
        SubmitTaskArgs(command=("x",), priority=2**31),
        SubmitTaskArgs(command=("x",), timeout=timedelta(0)),
        SubmitTaskArgs(command=("x",), timeout=timedelta(days=100_000)),
        SubmitTaskArgs(command=("x",), key="k" * 256),
        SubmitTaskArgs(command=("x",), memory=5),
        SubmitTaskArgs(command=("x",), memory="lots"),
        SubmitTaskArgs(command=("x",), cpu_time="10"),
        SubmitTaskArgs(command=("x",), cpu_time=timedelta(0)),
        SubmitTaskArgs(command=("x",), processes="many"),
        SubmitTaskArgs(command=("x",), processes=0),
        SubmitTaskArgs(command=("x",), open_files=2),
        SubmitTaskArgs(command=("x",), file_size=-1),
        SubmitTaskArgs(command=("x",), stop_signal="SIGSTOP"),
        SubmitTaskArgs(command=("x",), grace="3d"),
    ],
)
def test_what_cannot_be_accepted_is_refused_here(wrong: SubmitTaskArgs) -> None:
    with pytest.raises(InvalidInput):
        to_request(wrong)


def test_limits_are_sent_as_numbers_and_what_a_change_does_not_name_stays() -> None:
    given = SubmitTaskArgs(
        command=("x",), memory="2GiB", cpu_time="10min", processes=3, file_size=0, grace="30s",
        stop_signal="sigint",
    )  # fmt: skip
    body = to_request(given)
    assert body.limits == Limits(
        memory_bytes=2 << 30, cpu_seconds=600, processes=3, file_size_bytes=0
    )
    assert (body.stop_signal, body.grace_seconds) == ("INT", 30.0)
    change = to_change(TASK, ChangeTaskArgs(task=TASK, memory=NO_LIMIT, open_files=9))
    assert change.limits is not None
    assert change.limits.of(body.limits) == Limits(
        cpu_seconds=600, processes=3, open_files=9, file_size_bytes=0
    )
    assert (change.stop_signal, change.grace_seconds) == (None, None)
    assert to_change(TASK, ChangeTaskArgs(task=TASK, priority=1)).limits is None


def test_a_command_over_the_bound_is_too_large() -> None:
    with pytest.raises(TooLarge):
        to_request(SubmitTaskArgs(command=("x" * 131_072,)))


def test_requests_are_as_large_as_they_may_be_and_no_larger() -> None:
    tasks = [to_request(SubmitTaskArgs(command=("x" * 100_000,))) for _ in range(25)]
    cut = list(batches(tasks))
    assert [task for batch in cut for task in batch] == tasks
    assert [len(batch) for batch in cut] == [10, 10, 5]
    for batch in cut:
        assert len(msgspec.json.encode(SubmitMany(batch))) <= MAX_BATCH_BYTES < MAX_REQUEST_BYTES


def test_a_large_campaign_is_submitted_in_requests_as_large_as_the_coordinator_takes() -> None:
    tasks = [to_request(SubmitTaskArgs(command=("x",))) for _ in range(2 * MAX_BATCH + 1)]
    assert [len(batch) for batch in batches(tasks)] == [MAX_BATCH, MAX_BATCH, 1]
    assert list(batches([])) == []
