"""While the store is asked about tasks that have ended, the world goes on."""

import asyncio

from mitosis.contract import commands, wire
from mitosis.domain.user import UserPhase


def slow(coordinator):
    """Let every read of the store wait for the returned event; the second one tells of a read."""
    read, asked, answered = coordinator.core.read_aggregate, asyncio.Event(), asyncio.Event()

    async def read_slowly(tail):
        found = await read(tail)  # as it is now, however late it arrives
        asked.set()
        await answered.wait()
        return found

    coordinator.core.read_aggregate = read_slowly
    return asked, answered


def batch(*tasks):
    return commands.SubmitMany([commands.SubmitTask(("true",), *one) for one in tasks])


async def finished(coordinator, asking, answered):
    answered.set()
    reply = await asking
    coordinator.store.let_through()
    return coordinator.answer(reply, commands.SubmittedMany).result.results


async def test_a_batch_that_is_repeated_while_its_tasks_end_is_the_same_tasks(coordinator):
    """Else a task would be submitted twice, which the store refuses, and the term would end."""
    worker = await coordinator.register(slots=2)
    first, second = [await coordinator.submit(key=key) for key in ("one", "two")]
    await coordinator.report(worker, coordinator.ended(first))
    asked, answered = slow(coordinator)
    body = batch(("one",), ("two",))
    asking = asyncio.create_task(coordinator.ask("alice", coordinator.tasks.submit_many, body))
    await asked.wait()
    await coordinator.report(worker, coordinator.ended(second))
    stored = len(coordinator.store.stored)
    results = await finished(coordinator, asking, answered)
    assert [one.submitted.task for one in results] == [first, second]
    assert len(coordinator.store.stored) == stored
    assert not coordinator.world.tasks


async def test_a_watched_task_that_ends_while_another_one_is_read_is_still_there(coordinator):
    worker = await coordinator.register(slots=2)
    first, second = [await coordinator.submit(key=key) for key in ("one", "two")]
    await coordinator.report(worker, coordinator.ended(first))
    asked, answered = slow(coordinator)
    wanted = [commands.WatchWanted(task, "TaskCommitted") for task in (first, second)]
    many = commands.SubmitMany(
        [commands.SubmitTask(("true",), f"w{n}", watch=one) for n, one in enumerate(wanted)]
    )
    asking = asyncio.create_task(coordinator.ask("alice", coordinator.tasks.submit_many, many))
    await asked.wait()
    await coordinator.report(worker, coordinator.ended(second))
    assert [one.error for one in await finished(coordinator, asking, answered)] == [None, None]


async def test_a_late_answer_of_the_store_does_not_take_back_what_was_changed_meanwhile(
    coordinator,
):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await coordinator.report(worker, coordinator.ended(task))
    read = coordinator.core.read_aggregate
    asked, answered = slow(coordinator)

    def label(text):
        body = commands.ReplaceTaskLabels(task, (text,))
        return coordinator.ask("alice", coordinator.tasks.replace_labels, body)

    late = asyncio.create_task(label("late"))
    await asked.wait()
    coordinator.core.read_aggregate = read
    await label("early")
    coordinator.store.let_through()
    answered.set()
    reply = await late
    coordinator.store.let_through()
    assert coordinator.answer(reply, commands.Changed).result.changed
    assert coordinator.store.topics()[-2:] == [["task.labels_replaced"]] * 2
    assert task not in coordinator.world.tasks


async def test_who_is_locked_while_the_store_is_asked_changes_nothing(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(key="one")
    await coordinator.report(worker, coordinator.ended(task))
    asked, answered = slow(coordinator)
    handlers = coordinator.tasks
    asking = [
        asyncio.create_task(coordinator.ask("alice", handler, body))
        for handler, body in (
            (handlers.replace_labels, commands.ReplaceTaskLabels(task, ("x",))),
            (handlers.submit_many, batch(("one",), ("new",))),
        )
    ]
    await asked.wait()
    lock = commands.ChangeUserState("alice", UserPhase.LOCKED)
    await coordinator.ask("root", coordinator.users.set_state, lock)
    coordinator.store.let_through()
    stored = len(coordinator.store.stored)
    answered.set()
    for one in asking:
        answer = coordinator.answer(await one, wire.Nothing)
        assert answer.error.code == "unauthenticated"
    assert len(coordinator.store.stored) == stored
