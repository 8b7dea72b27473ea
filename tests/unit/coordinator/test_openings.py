"""Which workers a task is offered to: what is kept up to date says what a look at all would."""

from hypothesis import given
from hypothesis import strategies as st

from mitosis.contract import commands
from mitosis.services.coordinator import memory
from mitosis.services.coordinator.openings import Openings
from mitosis.services.coordinator.world import World

NOTES = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(-3, 3)), max_size=40)


@given(NOTES)
def test_workers_with_free_slots_come_first_who_has_the_most_then_who_has_waited(
    notes: list[tuple[str, int]],
) -> None:
    openings, free, since = Openings(), dict[str, int](), dict[str, int]()
    for at, (name, count) in enumerate(notes):
        openings.note(name, count)
        if max(0, count) != free.get(name, 0):
            free[name], since[name] = max(0, count), at
    expected = sorted((n for n in free if free[n]), key=lambda n: (-free[n], since[n]))
    assert list(openings) == expected


def free_of(world: World) -> dict[str, int]:
    found = {name: world.free_slots(name) for name, one in world.workers.items() if one.takes_work}
    return {name: count for name, count in found.items() if count > 0}


async def test_free_slots_are_known_through_all_that_happens_to_workers_and_tasks(coordinator):
    world = coordinator.world

    def check(*names: str) -> None:
        assert {name: world.free_slots(name) for name in world.openings} == free_of(world)
        assert set(world.openings) == set(names)

    one = await coordinator.register(slots=2)
    two = await coordinator.register(slots=1)
    check(one, two)
    tasks = [await coordinator.submit() for _ in range(3)]
    check()
    held = {t: world.tasks[t].worker for t in tasks}
    first = next(t for t in tasks if held[t] == one)
    await coordinator.report(one, coordinator.ended(first))
    check(one)
    await coordinator.ask(
        "alice", coordinator.workers.drain, commands.DrainWorker(worker=one, reason="")
    )
    coordinator.store.let_through()
    check()
    await coordinator.report(two, coordinator.ended(next(t for t in tasks if held[t] == two)))
    check(two)
    assert set(coordinator.replayed().openings) == {two}
    content = b"".join([part async for part in memory.frames(memory.take(world))])
    assert set(memory.restore(content).openings) == {two}
