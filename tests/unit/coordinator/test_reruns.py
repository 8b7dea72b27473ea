"""A task that repeats another one: linked to it, and only by those who may see it."""

import pytest

from mitosis.contract import commands
from mitosis.domain.task import TaskState

NOWHERE = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"


def rerun(origin, key="again", **options):
    return commands.SubmitTask(("true",), key, rerun_of=origin, **options)


async def test_a_rerun_names_its_origin_also_when_that_has_ended(coordinator):
    worker = await coordinator.register()
    origin = await coordinator.submit()
    await coordinator.report(worker, coordinator.ended(origin))
    assert origin not in coordinator.world.tasks, "it is only in the store"
    reply = await coordinator.ask("alice", coordinator.tasks.submit, rerun(origin.upper()))
    coordinator.store.let_through()
    submitted = coordinator.answer(reply, commands.Submitted).result
    again = coordinator.world.tasks[submitted.task]
    assert again.rerun_of == origin
    assert again.state is TaskState.RUNNING


@pytest.mark.parametrize(
    ("origin", "code"), [(NOWHERE, "not_found"), ("no uuid", "invalid"), (None, "not_found")]
)
async def test_what_cannot_be_seen_cannot_be_repeated_and_leaves_no_trace(
    coordinator, origin, code
):
    coordinator.add_user("bob")
    foreign = await coordinator.submit(owner="bob")
    before = len(coordinator.store.stored), dict(coordinator.world.numbers)
    reply = await coordinator.ask("alice", coordinator.tasks.submit, rerun(origin or foreign))
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code == code
    assert (len(coordinator.store.stored), coordinator.world.numbers) == before


async def test_the_same_key_is_the_same_rerun_and_a_conflict_for_another_origin(coordinator):
    one, other = await coordinator.submit(), await coordinator.submit()
    answers = []
    for origin in (one, one, other):
        reply = await coordinator.ask("alice", coordinator.tasks.submit, rerun(origin))
        coordinator.store.let_through()
        answers.append(coordinator.answer(reply, commands.Submitted))
    assert answers[0].result.task == answers[1].result.task
    assert answers[2].error.code == "conflict.exists"
