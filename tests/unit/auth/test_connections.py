"""Which workers are connected, put together from events and from what servers answer."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mitosis.services.auth.connections import Connections, LiveConnection

WORKER = "3b204d8c-857d-4029-8b5c-8e3e1e33e6b7"
OLD, NEW = ("A", 5), ("B", 7)


class System:
    """A system connection without a server: events are put in by hand."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self.reconnected: Callable[[], Any] | None = None

    async def subscribe(self, subject: str, callback: Callable[[Any], None]) -> None:
        self.callbacks[subject.rpartition(".")[2]] = callback

    async def flush(self) -> None:
        return None

    def add_listener(self, *, on_reconnect: Callable[[], Any]) -> None:
        self.reconnected = on_reconnect


class Watched(Connections):
    """What servers answer is set by the test, also what happens while they answer."""

    def __init__(self) -> None:
        self.system, self.told = System(), list[str]()
        super().__init__(
            self.system,  # type: ignore[arg-type]
            "ACCOUNT",
            on_worker_gone=lambda _: self.told.append("gone"),
            on_worker_back=lambda _: self.told.append("back"),
        )
        self.answer: list[tuple[str, int]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def live(self, label: str = "") -> list[LiveConnection]:
        found = [
            LiveConnection(cid, datetime.now(UTC), f"worker:{WORKER}", server=server)
            for server, cid in self.answer
        ]
        self.meanwhile()
        return found

    def event(self, kind: str, connection: tuple[str, int]) -> None:
        server, cid = connection
        data = {"server": {"id": server}, "client": {"id": cid, "user": f"worker:{WORKER}"}}
        self.system.callbacks[kind](SimpleNamespace(data=json.dumps(data).encode()))

    async def compare(self) -> None:
        assert self.system.reconnected is not None
        await self.system.reconnected()


@pytest.fixture
async def watched() -> Watched:
    """A worker is connected by its old connection, and everybody knows."""
    made = Watched()
    made.answer = [OLD]
    await made.start()
    assert made.told == ["back"]
    made.told.clear()
    return made


async def test_a_worker_that_came_back_before_anybody_looked_was_never_away(
    watched: Watched,
) -> None:
    watched.answer = [NEW]
    await watched.compare()
    assert watched.told == []
    watched.event("DISCONNECT", NEW)
    assert watched.told == ["gone"]


async def test_a_worker_that_comes_while_servers_answer_is_not_taken_for_gone(
    watched: Watched,
) -> None:
    watched.answer = []
    watched.meanwhile = lambda: watched.event("CONNECT", NEW)
    await watched.compare()
    assert watched.told == []
    watched.event("DISCONNECT", NEW)
    assert watched.told == ["gone"]


async def test_a_worker_that_leaves_while_servers_answer_is_gone(watched: Watched) -> None:
    watched.meanwhile = lambda: watched.event("DISCONNECT", OLD)
    await watched.compare()
    assert watched.told == ["gone"]


async def test_a_worker_whose_end_nobody_told_is_gone(watched: Watched) -> None:
    watched.answer = []
    await watched.compare()
    assert watched.told == ["gone"]
