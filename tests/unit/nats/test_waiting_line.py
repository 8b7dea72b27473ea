"""Who gets a turn, and who is sent away, when more comes than can be handled."""

import asyncio
import time

import pytest

from mitosis.nats import waiting_line
from mitosis.nats.waiting_line import LOOK_SECONDS, SLICE_SECONDS, WaitingLine

Item = tuple[str, int]


def busy(seconds: float) -> None:
    """Keep the event loop from anything else, as a handler does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


class Slow:
    """A handler that needs a whole slice for each item."""

    def __init__(self) -> None:
        self.handled: list[Item] = []

    def __call__(self, item: Item) -> None:
        self.handled.append(item)
        busy(SLICE_SECONDS)


async def finish(line: WaitingLine[Item]) -> int:
    """Let everybody have their turn; return how many turns of the loop that took."""
    turns = 0
    while len(line):
        turns += 1
        await asyncio.sleep(0)
    return turns


async def test_what_comes_alone_is_handled_at_once() -> None:
    handled: list[Item] = []
    line = WaitingLine[Item](handled.append)
    for number in range(3):
        assert line.put("alice", ("alice", number), 1)
        assert handled[-1] == ("alice", number)
        await asyncio.sleep(0)


async def test_owners_take_turns_and_each_keeps_the_own_order() -> None:
    handler = Slow()
    line = WaitingLine[Item](handler)
    for number in range(5):
        assert line.put("loud", ("loud", number), 1)
    for number in range(2):
        assert line.put("quiet", ("quiet", number), 1)
    await finish(line)
    assert handler.handled == [
        ("loud", 0), ("loud", 1), ("quiet", 0), ("loud", 2), ("quiet", 1), ("loud", 3), ("loud", 4),
    ]  # fmt: skip


async def test_other_work_of_the_loop_goes_on_between_slices() -> None:
    line = WaitingLine[Item](Slow())
    for number in range(6):
        line.put("alice", ("alice", number), 1)
    assert await finish(line) >= 5


async def test_nobody_waits_beyond_a_bound() -> None:
    line = WaitingLine[Item](Slow(), most=4, most_of_one=2, most_bytes=100)
    line.put("a", ("a", 0), 1)  # handled, and the slice is over
    assert [line.put("a", ("a", n), 1) for n in range(3)] == [True, True, False]
    assert not line.put("b", ("b", 0), 99), "over the bytes"
    assert [line.put("b", ("b", n), 1) for n in range(3)] == [True, True, False]
    assert len(line) == 4
    await finish(line)
    assert line.put("a", ("a", 9), 99), "there is room again"


async def test_who_has_more_in_a_full_line_gives_up_its_newest_place() -> None:
    """Four loud users filled the line, and a quiet one was refused for as long as they went on."""
    away: list[Item] = []
    line = WaitingLine[Item](Slow(), away.append, most=5, most_of_one=4, most_bytes=100)
    line.put("a", ("a", 0), 1)  # handled, and the slice is over
    assert all(line.put("a", ("a", n), 1) for n in (1, 2, 3, 4))
    assert line.put("b", ("b", 1), 1)
    assert away == []
    assert line.put("quiet", ("quiet", 1), 1)
    assert line.put("b", ("b", 2), 1), "its second one, where another has three"
    assert away == [("a", 4), ("a", 3)]
    assert not line.put("b", ("b", 3), 1), "it would have more than anybody else"
    assert not line.put("a", ("a", 5), 1)
    assert (len(line), away) == (5, [("a", 4), ("a", 3)])
    assert line.take() == ("a", 1)


async def test_who_has_more_bytes_in_a_full_line_gives_up_its_newest_place() -> None:
    away: list[Item] = []
    line = WaitingLine[Item](Slow(), away.append, most=9, most_of_one=4, most_bytes=100)
    line.put("a", ("a", 0), 1)  # handled, and the slice is over
    assert all(line.put("a", ("a", n), 45) for n in (1, 2))
    assert line.put("quiet", ("quiet", 1), 20)
    assert away == [("a", 2)]
    assert not line.put("a", ("a", 3), 45)
    assert not line.put("other", ("other", 1), 101), "larger than the whole line"
    assert away == [("a", 2)]


async def test_a_stopped_line_hands_on_nothing_and_gives_back_what_waits() -> None:
    handler = Slow()
    line = WaitingLine[Item](handler)
    for number in range(3):
        line.put("a", ("a", number), 1)
    line.stop()
    await asyncio.sleep(0)
    assert [line.take(), line.take(), line.take()] == [("a", 1), ("a", 2), None]
    assert handler.handled == [("a", 0)]


async def test_the_line_stands_while_there_is_no_room_and_goes_on_in_turns() -> None:
    """Of what was handed on and refused, the loudest had the most, and so the most tries."""
    handled: list[Item] = []
    room = False
    line = WaitingLine[Item](handled.append, has_room=lambda: room)
    for number in range(3):
        assert line.put("loud", ("loud", number), 1)
    assert line.put("quiet", ("quiet", 0), 1)
    await asyncio.sleep(LOOK_SECONDS * 3)
    assert handled == []
    room = True
    await finish(line)
    assert handled == [("loud", 0), ("quiet", 0), ("loud", 1), ("loud", 2)]
    assert line.put("quiet", ("quiet", 1), 1)
    assert handled[-1] == ("quiet", 1), "at once again"


async def test_a_line_that_has_stood_for_long_hands_on_what_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that it is answered, with what keeps it."""
    monkeypatch.setattr(waiting_line, "MOST_STANDING_SECONDS", 0.05)
    handled: list[Item] = []
    line = WaitingLine[Item](handled.append, has_room=lambda: False)
    began = time.monotonic()
    line.put("a", ("a", 0), 1)
    await finish(line)
    assert time.monotonic() - began >= 0.05
    assert line.put("a", ("a", 1), 1)
    assert handled == [("a", 0), ("a", 1)]


async def test_a_line_that_stands_can_be_stopped() -> None:
    handled: list[Item] = []
    room = False
    line = WaitingLine[Item](handled.append, has_room=lambda: room)
    line.put("a", ("a", 0), 1)
    await asyncio.sleep(LOOK_SECONDS)
    line.stop()
    room = True
    await asyncio.sleep(LOOK_SECONDS * 3)
    assert handled == []
    assert line.take() == ("a", 0)
