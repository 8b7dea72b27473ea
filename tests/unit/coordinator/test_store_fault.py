"""The store takes nothing until a person has helped: what is answered meanwhile."""

from typing import Any

import pytest

from mitosis.contract import commands, work
from mitosis.domain.limits import MAX_BATCH
from mitosis.errors import StoreUnavailable

FAULT = "the NATS server mito cannot write: no space left on device"


def submit(key: str) -> commands.SubmitTask:
    return commands.SubmitTask(("true",), key)


async def test_commands_are_refused_at_once_with_the_reason_and_leave_no_trace(
    coordinator: Any,
) -> None:
    stored = len(coordinator.store.stored)
    coordinator.store.fault = FAULT
    reply = await coordinator.ask("alice", coordinator.tasks.submit, submit("refused"))
    error = coordinator.answer(reply).error
    assert error.code == "unavailable.store"
    assert FAULT in error.message
    assert "Free space" in error.message
    assert (coordinator.store.waiting, len(coordinator.store.stored)) == (0, stored)
    many = commands.SubmitMany([submit(f"{n}") for n in range(MAX_BATCH)])
    reply = await coordinator.ask("alice", coordinator.tasks.submit_many, many)
    assert FAULT in coordinator.answer(reply, commands.SubmittedMany).error.message
    with pytest.raises(StoreUnavailable, match="no space left"):
        coordinator.core.check_store()
    coordinator.store.fault = None
    await coordinator.submit(key="refused")


async def test_a_command_that_waits_is_told_so_when_repeated_and_is_done_once(
    coordinator: Any,
) -> None:
    submit_task = coordinator.tasks.submit
    first = await coordinator.ask("alice", submit_task, submit("waits"), "one")
    coordinator.store.fault = FAULT
    repeated = await coordinator.ask("alice", submit_task, submit("waits"), "one")
    assert coordinator.answer(first) is None
    assert coordinator.answer(repeated).error.code == "unavailable.outcome_unknown"
    assert FAULT in coordinator.answer(repeated).error.message
    coordinator.store.fault = None
    coordinator.store.let_through()
    done = coordinator.answer(first, commands.Submitted).result
    again = await coordinator.ask("alice", submit_task, submit("waits"), "one")
    assert coordinator.answer(again, commands.Submitted).result == done
    assert len(coordinator.core.world.tasks) == 1


async def test_a_refusal_by_a_rule_that_stands_on_what_waits_is_not_told_meanwhile(
    coordinator: Any,
) -> None:
    await coordinator.ask("alice", coordinator.tasks.submit, submit("waits"))
    coordinator.store.fault = FAULT
    body = commands.CancelTask("e07a2bf2-166d-40b5-8bb6-a78104c072f9")
    reply = await coordinator.ask("alice", coordinator.tasks.cancel, body)
    assert coordinator.answer(reply).error.code == "unavailable.store"


async def test_renewals_are_answered_while_nothing_can_be_stored_so_what_runs_goes_on(
    coordinator: Any,
) -> None:
    """The answer waited for what was on its way before: the leases ended, and all was killed."""
    worker = await coordinator.register()
    running = await coordinator.submit()
    await coordinator.ask("alice", coordinator.tasks.submit, submit("waits"))
    coordinator.store.fault = FAULT
    foreign = work.Held("11111111-1111-4111-8111-111111111111", "alice", 1)
    body = work.Renew([work.Held(running, "alice", 1), foreign])
    reply = await coordinator.ask(worker, coordinator.reports.renew, body)
    renewed = coordinator.answer(reply, work.Renewed)
    assert renewed.error is None
    assert renewed.result.lease_seconds > 0
    assert renewed.result.foreign == [], "that waits until all before it is stored"
    coordinator.store.fault = None
    coordinator.store.let_through()
    reply = await coordinator.ask(worker, coordinator.reports.renew, body)
    coordinator.store.let_through()
    assert coordinator.answer(reply, work.Renewed).result.foreign == [foreign]
