"""A memory that goes through a snapshot is the memory that all of history would have given."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict

from mitosis.services.coordinator import memory
from mitosis.services.coordinator.history import take_in
from mitosis.services.coordinator.world import World
from mitosis.testing.history import Stored, campaign


def folded(commits: list[Stored], world: World | None = None) -> World:
    world = world or World()
    for position, subject, payload in commits:
        take_in(world, position, subject, payload)
    return world


async def stored(world: World) -> bytes:
    return b"".join([frame async for frame in memory.frames(memory.take(world))])


def content(world: World) -> dict[str, Any]:
    # A worker or a user that had something once and has nothing now may or may not have an entry.
    return {name: value for name, value in asdict(world).items() if value}


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1))
async def test_a_snapshot_and_what_came_after_it_are_all_of_history(
    seed: int, share: float
) -> None:
    commits = campaign(seed, 20, live=5).commits
    cut = int(len(commits) * share)
    before = await stored(folded(commits[:cut]))
    assert content(folded(commits[cut:], memory.restore(before))) == content(folded(commits))


async def test_decisions_during_the_encoding_are_not_in_the_snapshot() -> None:
    commits = campaign(1, 40, live=10).commits
    world = folded(commits[:100])
    wanted = content(folded(commits[:100]))
    frames = memory.frames(memory.take(world))
    parts = [await anext(frames)]
    folded(commits[100:], world)
    parts += [frame async for frame in frames]
    assert content(memory.restore(b"".join(parts))) == wanted


async def test_of_many_ended_tasks_each_frame_holds_a_part() -> None:
    """So that encoding a million of them never holds up the loop for long."""
    ids = set(range(1 << 59, (1 << 59) + 25_000))
    world = World(ended=set(ids))
    frames = memory.frames(memory.take(world))
    parts = [await anext(frames)]
    world.ended.add(1)  # later than the snapshot
    parts += [frame async for frame in frames]
    assert max(map(len, parts)) <= 8 * memory.CHUNK_OF_IDS + 100
    assert memory.restore(b"".join(parts)).ended == ids
