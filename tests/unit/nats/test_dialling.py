"""What a refusal means: a bad identity, nobody who decides, or somebody who comes late."""

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

    async def __call__(self, server: str, credentials: Credentials) -> Link:
        self.asked.append(credentials)
        answer = self.left.pop(0)
        if answer is True:
            return Link()
        raise answer if isinstance(answer, Exception) else failures.refused(server, credentials)


async def test_a_token_that_is_refused_between_two_terms_is_let_in_by_the_next_one() -> None:
    """Else a worker would throw away all that it runs."""
    dials = Dials([False, True, True])
    await dial_any([SERVER], TOKEN, dials)
    assert [type(asked) for asked in dials.asked] == [Token, Guest, Token]


async def test_a_token_that_is_refused_before_and_after_a_guest_is_no_good() -> None:
    with pytest.raises(AuthenticationFailed, match="not accepted any more"):
        await dial_any([SERVER], TOKEN, Dials([False, True, False]))


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
        await dial_any([SERVER], TOKEN, dials)
    assert dials.left == []
