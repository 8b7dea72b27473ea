"""Who is let in anew after a change: all of them, once, and until it has been done."""

import asyncio

from mitosis.errors import Unavailable
from mitosis.services.auth import changes
from mitosis.services.auth.changes import RightsChanges
from mitosis.testing.waiting import eventually


class Server:
    """Notes whose connections are closed; may be away for a while."""

    def __init__(self) -> None:
        self.kicked: list[frozenset[str] | None] = []
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def kick(self, names: frozenset[str] | None) -> int:
        self.kicked.append(names)
        await self.gate.wait()
        if self.away:
            raise Unavailable("nobody answers")
        return 1


async def test_what_changes_while_one_look_runs_is_done_by_the_next() -> None:
    server = Server()
    rights = RightsChanges(server.kick)
    rights.start()
    server.gate.clear()
    rights.changed(["alice"])
    await eventually(lambda: server.kicked)
    rights.changed(["bob", "carol"])
    rights.changed(("bob",))
    server.gate.set()
    await eventually(lambda: len(server.kicked) == 2)
    assert server.kicked == [frozenset({"alice"}), frozenset({"bob", "carol"})]
    await rights.stop()


async def test_what_could_not_be_done_is_tried_until_it_is(monkeypatch) -> None:
    monkeypatch.setattr(changes, "RETRY_SECONDS", 0.001)
    server = Server()
    rights = RightsChanges(server.kick)
    rights.start()
    server.away = True
    rights.changed(["alice"])
    await eventually(lambda: len(server.kicked) > 2)
    rights.changed(["bob"])
    server.away = False
    await eventually(lambda: server.kicked[-1] == frozenset({"alice", "bob"}))
    done = len(server.kicked)
    rights.changed(["carol"])
    await eventually(lambda: len(server.kicked) > done)
    assert server.kicked[-1] == frozenset({"carol"}), "nobody is let in anew twice"
    await rights.stop()


async def test_a_new_coordinator_lets_everybody_in_anew() -> None:
    server = Server()
    rights = RightsChanges(server.kick)
    rights.start()
    rights.unknown()
    rights.changed(["alice"])
    await eventually(lambda: server.kicked)
    assert server.kicked == [None]
    await rights.stop()
    await rights.stop()
