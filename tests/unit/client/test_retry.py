import asyncio

import pytest

from mitosis.client import retry
from mitosis.client.retry import persist
from mitosis.errors import (
    NoCoordinator,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    Unavailable,
)


class Scripted:
    """Fails with these errors one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0

    async def __call__(self, timeout_seconds: float) -> str:
        assert 0 < timeout_seconds <= retry.TRY_SECONDS
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


async def test_a_service_that_comes_back_answers() -> None:
    ask = Scripted(NoCoordinator("a"), StoreUnavailable("b"), Unavailable("c"))
    assert await persist(ask, 10.0, "id") == "answer"
    assert ask.tries == 4


async def test_a_refusal_is_an_answer() -> None:
    ask = Scripted(NotFound("x"))
    with pytest.raises(NotFound):
        await persist(ask, 10.0, "id")
    assert ask.tries == 1


async def test_a_command_that_nobody_received_is_not_unknown() -> None:
    with pytest.raises(NoCoordinator):
        await persist(Scripted(*[NoCoordinator("x")] * 99), 0.2, "id")


async def test_a_command_without_an_answer_is_unknown() -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        await persist(Scripted(Unavailable("lost"), *[NoCoordinator("x")] * 99), 0.2, "id")
    assert caught.value.details["command"] == "id"


async def test_a_command_of_which_a_part_was_done_is_unknown_whatever_comes_then() -> None:
    errors = OutcomeUnknown("a part"), *[StoreUnavailable("full")] * 99
    with pytest.raises(OutcomeUnknown) as caught:
        await persist(Scripted(*errors), 0.2, "id")
    assert caught.value.details["command"] == "id"


async def test_a_read_without_an_answer_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="lost"):
        await persist(Scripted(*[Unavailable("lost")] * 99), 0.2)


async def test_who_is_turned_away_comes_back_when_it_was_told_to() -> None:
    ask = Scripted(Overloaded("full", retry_after_seconds=0.3))
    began = asyncio.get_running_loop().time()
    assert await persist(ask, 10.0, "id") == "answer"
    assert asyncio.get_running_loop().time() - began >= 0.3


@pytest.mark.parametrize("wanted", [1e9, -1.0, "soon", None])
async def test_a_time_that_makes_no_sense_is_not_waited_for(wanted: object) -> None:
    ask = Scripted(Overloaded("full", retry_after_seconds=wanted))
    assert await persist(ask, 10.0, "id") == "answer"


async def test_a_command_that_was_always_turned_away_was_not_done() -> None:
    ask = Scripted(*[Overloaded("full", retry_after_seconds=0.05)] * 99)
    with pytest.raises(Overloaded):
        await persist(ask, 0.3, "id")
