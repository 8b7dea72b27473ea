"""What a refusal means: a bad identity, nobody who decides, or somebody who comes late."""

import time
from collections.abc import Sequence

import pytest

from mitosis.errors import AuthenticationFailed, Unavailable
from mitosis.nats import failures
from mitosis.nats.credentials import Credentials, Guest, Token
from mitosis.nats.dialling import dial_any
from mitosis.nats.failures import Refused

SERVER = "nats://127.0.0.1:4222"
TOKEN = Token("secret", "worker", "w")


class Link:
    """An open link."""

    async def close(self) -> None:
        """Nothing is open."""


class Dials:
    """Answers those who dial, one after the other; True lets somebody in."""

    def __init__(self, answers: Sequence[bool | Exception]) -> None:
        self.left = list(answers)
        self.asked: list[Credentials] = []
        self.seconds: list[float] = []

    async def __call__(self, server: str, credentials: Credentials, seconds: float) -> Link:
        self.asked.append(credentials)
        self.seconds.append(seconds)
        answer = self.left.pop(0)
        if answer is True:
            return Link()
        raise answer if isinstance(answer, Exception) else failures.refused(server, credentials)


async def test_a_token_that_is_refused_between_two_terms_is_let_in_by_the_next_one() -> None:
    """Else a worker would throw away all that it runs."""
    dials = Dials([False, True, True])
    await dial_any([SERVER], TOKEN, dials, each_seconds=5)
    assert [type(asked) for asked in dials.asked] == [Token, Guest, Token]


async def test_a_token_that_is_refused_before_and_after_a_guest_is_no_good() -> None:
    with pytest.raises(AuthenticationFailed, match="not accepted any more"):
        await dial_any([SERVER], TOKEN, Dials([False, True, False]), each_seconds=5)


@pytest.mark.parametrize(
    "answers",
    [
        [False, False],  # not even a guest gets in
        [failures.undecided(SERVER, "late"), True],
        [False, True, failures.undecided(SERVER, "late")],
    ],
)
async def test_nobody_who_decides_is_no_refusal(answers: list[bool | Refused]) -> None:
    dials = Dials(answers)
    with pytest.raises(Unavailable):
        await dial_any([SERVER], TOKEN, dials, each_seconds=5)
    assert dials.left == []


def away(server: str) -> Exception:
    return failures.away(server, TOKEN, TimeoutError())


@pytest.mark.parametrize(("seconds", "expected"), [(3, [1.0, 1.5, 3.0]), (60, [5.0, 5.0, 5.0])])
async def test_a_server_that_is_silent_leaves_their_share_of_the_time_to_the_others(
    seconds: float, expected: list[float]
) -> None:
    """These answer at once that they are away, so that each time is shared anew."""
    dials = Dials([away(SERVER), away(SERVER), True])
    deadline = time.monotonic() + seconds
    await dial_any([SERVER] * 3, TOKEN, dials, each_seconds=5, deadline=deadline)
    assert dials.seconds == pytest.approx(expected, abs=0.5)


async def test_when_the_time_is_over_nobody_is_asked_more_and_it_is_no_refusal() -> None:
    dials = Dials([False])
    over = time.monotonic()
    with pytest.raises(Unavailable, match="took too long to decide"):
        await dial_any([SERVER], TOKEN, dials, each_seconds=5, deadline=over)
    assert dials.left == []
