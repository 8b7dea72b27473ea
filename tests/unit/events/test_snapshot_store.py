"""Old snapshots go when a new one is stored, by what a replica says that may be behind."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mitosis.events import snapshots
from mitosis.events.snapshots import Manifest, SnapshotStore


class Behind(SnapshotStore):
    """Stores what it is given; lists what a replica has."""

    def __init__(self, listed: list[Manifest]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.listed, self.sequence = listed, 100

    async def manifests(self) -> list[Manifest]:
        return self.listed

    async def _publish(self, tail: str, payload: bytes) -> int:
        self.sequence += 1
        return self.sequence


async def content() -> AsyncIterator[bytes]:
    yield b"all of it"


def older(position: int) -> Manifest:
    return Manifest("form", position, "digest", 9, "sha", position, 1)


@pytest.mark.parametrize(
    ("listed", "from_on"),
    [([], 101), ([older(7)], 7), ([older(9), older(8), older(7)], 8)],
    ids=["nothing", "one before it", "some before it"],
)
async def test_a_replica_that_is_behind_costs_neither_the_new_snapshot_nor_the_term(
    monkeypatch: pytest.MonkeyPatch, listed: list[Manifest], from_on: int
) -> None:
    """It had not one: the loop of snapshots failed, and with it the term of the coordinator."""
    asked: list[Any] = []

    async def request(_: Any, subject: str, body: Any) -> dict[str, Any]:
        asked.append((subject, body))
        return {}

    monkeypatch.setattr(snapshots, "request", request)
    store = Behind(listed)
    manifest = await store.save("form", 50, "digest", content())
    assert manifest.first == 101
    assert asked == [(f"$JS.API.STREAM.PURGE.{snapshots.STREAM}", {"seq": from_on})]
