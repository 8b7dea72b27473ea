"""A slot against a runner that says just what a test wants."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mitosis.processes.guard import frames
from mitosis.processes.guard.frames import Channel, Message
from mitosis.processes.run import Run
from mitosis.processes.runs import Exited, NotBegun, RunSpec
from mitosis.processes.slot import Slot, SlotState

SPEC = RunSpec(argv=["true"], env={})


class Owner:
    """Remembers what a slot tells its engine."""

    def __init__(self) -> None:
        self.free: list[Slot] = []
        self.told = asyncio.Event()

    def slot_free(self, slot: Slot) -> None:
        self.free.append(slot)
        self.told.set()

    def slot_disconnected(self, slot: Slot) -> None:
        raise AssertionError(slot)

    def slot_unresponsive(self, slot: Slot) -> None:
        raise AssertionError(slot)

    def set_aside(self, folders: list[Path]) -> None:
        raise AssertionError(folders)


class Runner:
    """The other end of the channel."""

    def __init__(self, sock: socket.socket) -> None:
        self.channel = Channel(sock)

    def say(self, *message: object) -> None:
        assert self.channel.send(message)

    def end(self, run: int, *, untouched: bool = True) -> None:
        said: Message = (
            frames.ENDED, run, ("exited", 0), "own", 1.0, 2.0, 1.0, 0.0, 0.0, 0, (), 0, True,
            untouched, (), (), (), True,
        )  # fmt: skip
        self.say(*said)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Slot, Owner, Runner]]:
    """A free slot, its engine and its runner."""
    ours, theirs = socket.socketpair()
    owner, runner = Owner(), Runner(theirs)
    slot = Slot(0, owner, asyncio.get_running_loop())
    slot.attach(ours, None)
    runner.say(frames.READY, os.getpid(), b"/folder", ())
    async with asyncio.timeout(5):
        await owner.told.wait()
    owner.free.clear()
    yield slot, owner, runner
    slot.detach()
    runner.channel.close()


def lined_up(slot: Slot, count: int) -> list[Run]:
    """Give the slot so many runs: it begins the first."""
    return [
        slot.start(SPEC, None, None),
        *(slot.line_up(SPEC, None, None) for _ in range(count - 1)),
    ]


async def test_a_run_that_comes_back_when_its_turn_had_come_frees_the_slot(
    pair: tuple[Slot, Owner, Runner],
) -> None:
    """A stop that crosses the end of the run before it."""
    slot, owner, runner = pair
    first, second = lined_up(slot, 2)
    runner.end(first.number)
    runner.say(frames.RECALLED, second.number)
    async with asyncio.timeout(5):
        assert (await first.result()).outcome == Exited(0)
        assert (await second.result()).outcome == NotBegun()
    second.release()
    assert owner.free == [slot]
    assert slot.state is SlotState.FREE


async def test_the_next_in_line_has_its_turn_when_one_comes_back_late(
    pair: tuple[Slot, Owner, Runner],
) -> None:
    slot, owner, runner = pair
    first, second, third = lined_up(slot, 3)
    runner.end(first.number)
    runner.say(frames.RECALLED, second.number)
    runner.end(third.number)
    async with asyncio.timeout(5):
        assert (await second.result()).outcome == NotBegun()
        assert (await third.result()).outcome == Exited(0)
    assert owner.free == []
    third.release()
    assert owner.free == [slot]


async def test_the_folder_of_a_run_before_is_not_released_from_under_the_next_one(
    pair: tuple[Slot, Owner, Runner],
) -> None:
    slot, owner, runner = pair
    first, second = lined_up(slot, 2)
    runner.end(first.number)
    async with asyncio.timeout(5):
        await first.result()
    first.release(wipe=True)
    assert slot.state is SlotState.BUSY
    assert slot.run is second
    assert owner.free == []
