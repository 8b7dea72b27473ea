"""What is made of the answers of JetStream."""

import math
from typing import Any

import pytest
from nats.errors import ConnectionClosedError

from mitosis.errors import StoreUnavailable
from mitosis.events.messages import _quiet_seconds, direct_page

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("ages", "quiet"),
    [
        ((), 0.0), ((2,), 2.0), ((1, 9), 1.0), ((9, 1), 1.0), ((0, 9), 9.0), ((0, 0), math.inf),
        ((1, 2, 9, 9), 2.0), ((1, 9, 9, 9), 9.0),
    ],
)  # fmt: skip
def test_a_leader_is_as_quiet_as_the_last_one_that_makes_a_majority_with_it(
    ages: tuple[int, ...], quiet: float
) -> None:
    replicas = [{"name": f"n{n}", "active": age * SECOND} for n, age in enumerate(ages)]
    assert _quiet_seconds({"leader": "n", "replicas": replicas}) == quiet


def test_a_leader_without_replicas_is_never_quiet() -> None:
    assert _quiet_seconds({}) == 0.0


class Closed:
    """A connection that is closed between a subscription and the question."""

    is_closed = False

    def new_inbox(self) -> str:
        return "_INBOX.x"

    async def subscribe(self, *_: Any, **__: Any) -> None:
        return None

    async def publish(self, *_: Any, **__: Any) -> None:
        self.is_closed = True
        raise ConnectionClosedError


async def test_a_read_that_cannot_be_asked_for_says_that_the_store_is_away() -> None:
    with pytest.raises(StoreUnavailable):
        await direct_page(Closed(), "STREAM", {"seq": 1})  # type: ignore[arg-type]
