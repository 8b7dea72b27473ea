"""What a read may take for the newest position of the stream."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mitosis.errors import StoreUnavailable
from mitosis.services.projector.source import StreamSource


class Leader:
    """A leader of the stream of three, who has last heard of the others so many seconds ago."""

    def __init__(self, *ages: float) -> None:
        self._replicas = [{"name": f"n{n}", "active": int(age * 1e9)} for n, age in enumerate(ages)]

    @property
    def raw(self) -> "Leader":
        return self

    async def request(self, *_: object, **__: object) -> SimpleNamespace:
        state: dict[str, Any] = {"messages": 7, "first_seq": 1, "last_seq": 7}
        told = {"state": state, "cluster": {"leader": "n", "replicas": self._replicas}}
        return SimpleNamespace(data=json.dumps(told).encode())


async def test_a_leader_that_hears_a_majority_says_what_the_newest_position_is() -> None:
    assert await StreamSource(Leader(1.9, 600.0)).last_position() == 7  # type: ignore[arg-type]


async def test_the_word_of_a_leader_that_was_cut_off_makes_no_read_a_fresh_one() -> None:
    with pytest.raises(StoreUnavailable, match="does not hear a majority"):
        await StreamSource(Leader(4.0, 600.0)).last_position()  # type: ignore[arg-type]
