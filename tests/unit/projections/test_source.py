"""What a read may take for the newest position of the stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from mitosis.errors import StoreUnavailable
from mitosis.events.messages import StoredMessage
from mitosis.services.projector import source
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


@pytest.mark.parametrize(
    ("ages", "reason"),
    [((4.0, 600.0), "does not hear a majority"), ((1.9, 1.9), "nothing after 6 comes")],
    ids=["cut off", "behind"],
)
async def test_a_projector_does_not_wait_for_ever_at_a_node_to_which_nothing_new_comes(
    monkeypatch: pytest.MonkeyPatch, ages: tuple[float, ...], reason: str
) -> None:
    """It kept the others from writing, for as long as its node was cut off."""
    ended = asyncio.Event()

    class Reader:
        def __init__(self, *_: object, **__: object) -> None: ...

        async def batches(self, start: int, **_: object) -> AsyncIterator[list[StoredMessage]]:
            try:
                yield [StoredMessage(start, "a", b"")]
                await asyncio.Event().wait()
            finally:
                ended.set()

    monkeypatch.setattr(source, "EventReader", Reader)
    monkeypatch.setattr(source, "_IDLE_SECONDS", 0.01)
    batches = StreamSource(Leader(*ages)).batches(6)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        assert [message[0] for message in await anext(batches)] == [6]
        with pytest.raises(StoreUnavailable, match=reason):
            await anext(batches)
    assert ended.is_set()
