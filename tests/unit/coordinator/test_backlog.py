"""More is decided than the store takes: how long answers may wait for it."""

import asyncio
import contextlib
from typing import Any

import pytest

from mitosis.contract import commands
from mitosis.domain.limits import MAX_BATCH
from mitosis.errors import OutcomeUnknown, StoreUnavailable
from mitosis.services.coordinator.handlers import tasks
from mitosis.services.coordinator.handlers.tasks import PART
from mitosis.services.coordinator.journal import BACKLOG_SECONDS


def submit(key: str) -> commands.SubmitTask:
    return commands.SubmitTask(("true",), key)


async def test_commands_are_turned_away_while_one_has_waited_too_long_for_the_store(
    coordinator: Any,
) -> None:
    """Every answer waits for what was decided before it, those to workers too."""

    async def ask(key: str) -> str:
        reply: str = await coordinator.ask("alice", coordinator.tasks.submit, submit(key))
        return reply

    first = await ask("on its way")
    coordinator.store.room = 0
    second = await ask("waits")
    coordinator.clock.seconds += BACKLOG_SECONDS
    third = await ask("still in time")
    coordinator.clock.seconds += 0.01
    refused = coordinator.answer(await ask("too much")).error
    assert (refused.code, refused.details["retry_after_seconds"]) == ("unavailable.overloaded", 1.0)
    coordinator.store.room = 500
    coordinator.store.let_through()
    last = await ask("in time again")
    coordinator.store.let_through()
    answers = [
        coordinator.answer(one, commands.Submitted).result for one in (first, second, third, last)
    ]
    assert [one.number for one in answers] == [1, 2, 3, 4]


async def test_what_waits_goes_on_when_the_store_has_room_again_although_nothing_was_on_its_way(
    coordinator: Any,
) -> None:
    """After lost answers are settled nobody tells of room: commands were refused for ever."""
    coordinator.store.room = 0
    first = await coordinator.ask("alice", coordinator.tasks.submit, submit("waits"))
    coordinator.clock.seconds += 1
    coordinator.store.room = 500
    second = await coordinator.ask("alice", coordinator.tasks.submit, submit("in time"))
    coordinator.store.let_through()
    assert coordinator.answer(first, commands.Submitted).result.number == 1
    assert coordinator.answer(second, commands.Submitted).result.number == 2


async def wait_with_a_full_backlog(coordinator: Any) -> None:
    coordinator.store.room = 0
    await coordinator.ask("alice", coordinator.tasks.submit, submit("waits"))
    coordinator.clock.seconds += BACKLOG_SECONDS + 0.01


async def give_up_a_flush(coordinator: Any) -> None:
    """As a handler after its time, or a coordinator that stops."""
    flush = asyncio.create_task(coordinator.core.journal.flush())
    await asyncio.sleep(0)
    flush.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await flush


async def test_many_submits_are_turned_away_at_once_as_a_single_one_is(coordinator: Any) -> None:
    await wait_with_a_full_backlog(coordinator)
    many = commands.SubmitMany([submit(f"{n}") for n in range(MAX_BATCH)])
    reply = await coordinator.ask("alice", coordinator.tasks.submit_many, many)
    error = coordinator.answer(reply, commands.SubmittedMany).error
    assert (error.code, error.details["retry_after_seconds"]) == ("unavailable.overloaded", 1.0)


async def test_a_part_of_many_submits_does_not_wait_for_room_for_ever(
    coordinator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handler would be ended without an answer, and nobody else would have a turn."""
    monkeypatch.setattr(tasks, "PATIENCE_SECONDS", 0.05)
    coordinator.store.room = 0
    bodies = commands.SubmitMany([submit(f"{n}") for n in range(2 * PART)])
    many = asyncio.create_task(coordinator.ask("alice", coordinator.tasks.submit_many, bodies))
    await asyncio.sleep(0)  # the first part is decided, whatever comes
    coordinator.clock.seconds += BACKLOG_SECONDS + 0.01
    reply = await asyncio.wait_for(many, 5)
    coordinator.store.room = 3 * PART
    coordinator.core.journal.hand_on()
    coordinator.store.let_through()
    error = coordinator.answer(reply, commands.SubmittedMany).error
    assert error.code == OutcomeUnknown.code
    assert "too much is on its way" in error.message
    again = await asyncio.wait_for(
        coordinator.ask("alice", coordinator.tasks.submit_many, bodies), 5
    )
    coordinator.store.let_through()
    results = coordinator.answer(again, commands.SubmittedMany).result.results
    assert len({one.submitted.task for one in results}) == 2 * PART


async def test_who_gives_up_waiting_for_the_store_keeps_nobody_behind_it_from_hearing_of_it(
    coordinator: Any,
) -> None:
    await wait_with_a_full_backlog(coordinator)
    await give_up_a_flush(coordinator)
    told: list[int] = []
    coordinator.core.journal.after_settled(told.append, lambda _: None)
    coordinator.store.room = 500
    coordinator.core.journal.hand_on()
    coordinator.store.let_through()
    assert told == [coordinator.store.stored[-1][0]]


async def test_who_gives_up_waiting_for_the_store_does_not_keep_the_term_from_its_end(
    coordinator: Any,
) -> None:
    await wait_with_a_full_backlog(coordinator)
    await give_up_a_flush(coordinator)
    told: list[object] = []
    coordinator.core.journal.after_settled(lambda _: None, told.append)
    error = StoreUnavailable("the end")
    coordinator.core.journal.fail(error)
    assert told == [error]
