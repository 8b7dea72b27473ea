"""A task that failed and runs again: when, how often, and what can come between."""

import msgspec
import pytest

from mitosis.contract import commands, subjects, work
from mitosis.domain.retry import ALL_CAUSES, UNLIMITED, Retry
from mitosis.domain.task import ArtifactKind, EndCause, Exit, ExitKind, Outcome, TaskState, Usage
from mitosis.services.coordinator.faults import MAX_UNCOUNTED_ATTEMPTS

EXIT, TIMEOUT, SIGNAL = ALL_CAUSES
CODE_3 = Exit(ExitKind.CODE, 3, usage=Usage(wall_seconds=60.0))


def failed(task, attempt=1, end=CODE_3, **more):
    return work.TaskReport(task, "alice", attempt, started=True, exit=end, committed=True, **more)


async def restarted(coordinator):
    """The same history, read by a new coordinator."""
    coordinator.world = coordinator.replayed()
    coordinator.start()
    coordinator.core.dispatcher.restore()
    coordinator.core.retries.restore()


def orders_to_stop(coordinator):
    decode = msgspec.json.Decoder(work.Control).decode
    sent = [decode(d) for s, d in coordinator.sent if s.startswith("mito.control.")]
    return [order for order in sent if isinstance(order, work.CancelAttempt)]


async def ended(coordinator, task):
    """A task that has ended, as the store has it."""
    async with coordinator.core.kept_task(task) as state:
        return state


async def cancel(coordinator, task, **options):
    body = commands.CancelTask(task, **options)
    reply = await coordinator.ask("alice", coordinator.tasks.cancel, body)
    coordinator.store.let_through()
    return coordinator.answer(reply, commands.Cancelled)


async def test_a_failed_task_waits_without_a_slot_and_runs_again_as_the_next_attempt(coordinator):
    worker = await coordinator.register(slots=1)
    task = await coordinator.submit(retry=Retry(times=2, delay_seconds=10.0))
    for attempt, wait in ((1, 10.0), (2, 20.0)):
        assert await coordinator.report(worker, failed(task, attempt)) == [""]
        state = coordinator.world.tasks[task]
        assert (state.state, state.retries) == (TaskState.PENDING, attempt)
        assert coordinator.world.free_slots(worker) == 1
        coordinator.clock.seconds += wait - 0.1
        assert not coordinator.core.retries.begin_due()
        assert coordinator.world.tasks[task].state is TaskState.PENDING
        coordinator.clock.seconds += 0.2
        coordinator.core.retries.begin_due()
        coordinator.store.let_through()
        assert coordinator.store.topics()[-1] == ["task.ready", "task.assigned"]
        assert coordinator.pushed()[-1].attempt == attempt + 1
    await coordinator.report(worker, failed(task, 3))
    last = await ended(coordinator, task)
    assert (last.outcome, last.retries, last.attempt) == (Outcome.FAILED, 2, 3)


@pytest.mark.parametrize(
    ("end", "causes", "again"),
    [
        (CODE_3, (EXIT,), True),
        (CODE_3, (TIMEOUT, SIGNAL), False),
        (Exit(ExitKind.SIGNAL, 11), (SIGNAL,), True),
        (Exit(ExitKind.SIGNAL, 11), (EXIT, TIMEOUT), False),
        (Exit(ExitKind.CODE, 0, EndCause.TIMEOUT), (TIMEOUT,), True),
        (Exit(ExitKind.SIGNAL, 15, EndCause.TIMEOUT), (EXIT, SIGNAL), False),
        (Exit(ExitKind.CODE, 0), ALL_CAUSES, False),
        (Exit(ExitKind.NOT_STARTED, 2), ALL_CAUSES, False),
    ],
)
async def test_only_the_failures_that_were_named_are_tried_again(coordinator, end, causes, again):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=1, causes=causes))
    await coordinator.report(worker, failed(task, end=end))
    assert (task in coordinator.world.tasks) == again


@pytest.mark.parametrize("away", [1.0, 1_000.0])
async def test_a_restart_goes_on_waiting_and_begins_what_is_overdue_at_once(coordinator, away):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=1, delay_seconds=60.0))
    await coordinator.report(worker, failed(task))
    coordinator.clock.seconds += away
    await restarted(coordinator)
    coordinator.core.retries.begin_due()
    overdue = away > 60
    assert coordinator.world.tasks[task].state is (
        TaskState.RUNNING if overdue else TaskState.PENDING
    )
    if not overdue:
        coordinator.clock.seconds += 59.1
        coordinator.core.retries.begin_due()
        assert coordinator.world.tasks[task].state is TaskState.RUNNING
    assert coordinator.world.tasks[task].attempt == 2


async def test_a_wall_clock_that_was_set_back_delays_by_no_more_than_one_wait(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=1, delay_seconds=60.0))
    await coordinator.report(worker, failed(task))
    coordinator.clock.seconds -= 10_000
    await restarted(coordinator)
    coordinator.clock.seconds += 60.1
    coordinator.core.retries.begin_due()
    assert coordinator.world.tasks[task].state is TaskState.RUNNING


async def test_a_task_that_waits_to_run_again_is_cancelled_at_once_and_stays_so(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=5, delay_seconds=60.0))
    await coordinator.report(worker, failed(task))
    assert (await cancel(coordinator, task)).result.ended
    coordinator.clock.seconds += 100
    assert not coordinator.core.retries.begin_due()
    last = await ended(coordinator, task)
    assert (last.outcome, last.attempt) == (Outcome.CANCELLED, 1)
    assert (await cancel(coordinator, task)).error.code == "conflict.state"


async def test_a_task_that_fails_while_it_is_being_cancelled_is_not_tried_again(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=5))
    assert not (await cancel(coordinator, task)).result.ended
    await coordinator.report(worker, failed(task))
    assert (await ended(coordinator, task)).outcome is Outcome.FAILED


async def test_losses_and_retries_are_counted_apart(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=1, delay_seconds=1.0), max_losses=2)
    await coordinator.report(worker, work.TaskReport(task, "alice", 1, started=True))
    await coordinator.ask(worker, coordinator.reports.leave, work.Leave("killed", died=True))
    other = await coordinator.register()
    assert coordinator.world.tasks[task].losses == 1
    await coordinator.report(other, failed(task, 2))
    coordinator.clock.seconds += 2
    coordinator.core.retries.begin_due()
    coordinator.store.let_through()
    state = coordinator.world.tasks[task]
    assert (state.attempt, state.losses, state.retries) == (3, 1, 1)
    await restarted(coordinator)
    assert coordinator.world.tasks[task] == state
    await coordinator.ask(other, coordinator.reports.leave, work.Leave("killed", died=True))
    coordinator.store.let_through()
    assert (await ended(coordinator, task)).outcome is Outcome.LOST


async def test_a_task_that_runs_again_keeps_its_place_in_the_order(coordinator):
    worker = await coordinator.register(slots=1)
    first = await coordinator.submit(retry=Retry(times=1, delay_seconds=1.0))
    second, third = await coordinator.submit(), await coordinator.submit()
    await coordinator.report(worker, failed(first))
    assert coordinator.pushed()[-1].task == second, "nobody waits for one that waits"
    coordinator.clock.seconds += 2
    coordinator.core.retries.begin_due()
    await coordinator.report(worker, coordinator.ended(second))
    assert coordinator.pushed()[-1].task == first
    await coordinator.report(worker, coordinator.ended(first, 2))
    assert coordinator.pushed()[-1].task == third


async def test_a_task_without_a_limit_is_never_ended_by_a_hidden_one(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=UNLIMITED))
    attempts = MAX_UNCOUNTED_ATTEMPTS + 5
    for attempt in range(1, attempts):
        await coordinator.report(worker, failed(task, attempt))
        coordinator.clock.seconds += 301
        coordinator.core.retries.begin_due()
        coordinator.store.let_through()
    fault = work.TaskReport(task, "alice", attempts, fault="no disk", before_start=True)
    await coordinator.report(worker, fault)
    state = coordinator.world.tasks[task]
    assert (state.state, state.losses, state.retries) == (TaskState.RUNNING, 0, attempts - 1)
    assert len(coordinator.core.retries) == 0


async def test_many_that_are_due_at_once_are_begun_in_slices_and_cancelled_ones_forgotten(
    coordinator,
):
    worker = await coordinator.register(slots=600)
    tasks = [await coordinator.submit(retry=Retry(times=1, delay_seconds=60.0)) for _ in range(600)]
    await coordinator.report(worker, *(failed(task) for task in tasks[:250]))
    for task in tasks[:240]:
        await cancel(coordinator, task)
    await coordinator.report(worker, *(failed(task) for task in tasks[250:500]))
    await coordinator.report(worker, *(failed(task) for task in tasks[500:]))
    assert len(coordinator.core.retries) <= 500
    assert coordinator.core.retries.waiting() == 360
    coordinator.clock.seconds += 61
    assert coordinator.core.retries.begin_due()
    while coordinator.core.retries.begin_due():
        pass
    coordinator.store.let_through()
    assert len(coordinator.world.attempts[worker]) == 360


async def test_outputs_of_a_failed_attempt_are_there_until_the_next_one_has_ended(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(retry=Retry(times=1, delay_seconds=1.0))
    reply = await coordinator.ask(
        worker,
        coordinator.reports.upload,
        work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 7),
    )
    coordinator.store.let_through()
    name = coordinator.answer(reply, work.UploadGranted).result.object_name
    coordinator.objects.sizes[name] = 7
    stored = work.StoredArtifact(ArtifactKind.RESULT, name, 7, "0" * 64)
    await coordinator.report(worker, failed(task, artifacts=[stored]))
    coordinator.clock.seconds += 2
    coordinator.core.retries.begin_due()
    coordinator.store.let_through()
    assert coordinator.world.tasks[task].stored_bytes == coordinator.world.used_bytes["alice"] == 7
    await coordinator.report(worker, coordinator.ended(task, 2))
    await settled(coordinator)
    assert coordinator.store.topics()[-1] == [
        "task.started", "task.exited", "task.artifact_deleted", "task.committed",
    ]  # fmt: skip
    assert (await ended(coordinator, task)).artifacts == ()
    assert coordinator.world.used_bytes["alice"] == 0
    assert coordinator.objects.deleted == [name]


async def settled(coordinator):
    """Let work in the background come to its end."""
    for task in list(coordinator.core.background):
        await task


async def test_a_change_can_end_the_wait_only_by_another_wait(coordinator):
    worker = await coordinator.register(slots=2)
    server = await coordinator.submit()
    task = await coordinator.submit(retry=Retry(times=3, delay_seconds=60.0))
    await coordinator.report(worker, failed(task))
    body = commands.ChangeTask(task, retry=commands.ChangedRetry(times=1), priority=4)
    await coordinator.ask("alice", coordinator.tasks.change, body)
    state = coordinator.world.tasks[task]
    assert (state.state, state.spec.retry.times) == (TaskState.PENDING, 1)
    assert state.spec.retry.delay_seconds == 60.0
    wanted = commands.WatchWanted(server, "ExecFinished")
    await coordinator.ask(
        "alice", coordinator.tasks.change, commands.ChangeTask(task, watch=wanted)
    )
    coordinator.clock.seconds += 61
    coordinator.core.retries.begin_due()
    assert coordinator.world.tasks[task].state is TaskState.PENDING, "it waits for the other now"
    await coordinator.report(worker, coordinator.ended(server))
    assert coordinator.world.tasks[task].state is TaskState.RUNNING


async def test_a_watch_looks_at_every_attempt_and_a_task_that_is_tried_again_has_not_ended(
    coordinator,
):
    worker = await coordinator.register(slots=1)
    server = await coordinator.submit(retry=Retry(times=1, delay_seconds=1.0))
    of_first = await coordinator.submit(watch=commands.WatchWanted(server, "ExecSpawned"))
    at_end = await coordinator.submit(watch=commands.WatchWanted(server, "UploadResultFinished"))
    spawned = work.AgedStep("ExecSpawned", 0.0)
    await coordinator.report(worker, failed(server, steps=[spawned]))
    tasks = coordinator.world.tasks
    assert tasks[of_first].state is TaskState.RUNNING
    assert tasks[at_end].state is TaskState.PENDING
    await coordinator.report(worker, coordinator.ended(of_first))
    coordinator.clock.seconds += 2
    coordinator.core.retries.begin_due()
    await coordinator.report(worker, coordinator.ended(server, 2))
    assert tasks[at_end].state is TaskState.RUNNING


# --- cancel ------------------------------------------------------------------------------------


async def test_how_to_stop_is_stored_with_the_cancel_and_ordered_again_by_a_successor(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await cancel(coordinator, task, stop_signal="sigint", grace_seconds=2.5)
    order = work.CancelAttempt(task, 1, 2.5, "INT")
    assert orders_to_stop(coordinator) == [order]
    coordinator.sent.clear()
    await restarted(coordinator)
    held = [work.Held(task, "alice", 1)]
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew(held))
    assert orders_to_stop(coordinator) == [order]


async def test_a_cancel_can_be_sharpened_and_the_same_again_changes_nothing(coordinator):
    await coordinator.register()
    task = await coordinator.submit()
    await cancel(coordinator, task, reason="wrong seed", grace_seconds=600.0)
    stored = len(coordinator.store.stored)
    for _ in range(2):
        assert not (await cancel(coordinator, task)).result.ended
    assert len(coordinator.store.stored) == stored
    await cancel(coordinator, task, stop_signal="KILL")
    assert orders_to_stop(coordinator)[-1] == work.CancelAttempt(task, 1, 600.0, "KILL")
    assert len(coordinator.store.stored) == stored + 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"stop_signal": "STOP"}, "no signal to stop a task by"),
        ({"grace_seconds": -1.0}, "grace in seconds"),
        ({"grace_seconds": 90_000.0}, "grace in seconds"),
        ({"reason": "x" * 1_001}, "reason"),
    ],
)
async def test_a_cancel_that_cannot_be_leaves_no_trace(coordinator, options, text):
    await coordinator.register()
    task = await coordinator.submit()
    stored = len(coordinator.store.stored)
    assert text in (await cancel(coordinator, task, **options)).error.message
    assert len(coordinator.store.stored) == stored
    assert not coordinator.world.tasks[task].cancel_requested


async def test_a_task_that_its_worker_has_not_begun_is_stopped_before_it_is_pushed_again(
    coordinator,
):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await cancel(coordinator, task)
    coordinator.sent.clear()
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    coordinator.store.let_through()
    assert [subject for subject, _ in coordinator.sent][:2] == [
        subjects.control(worker), subjects.work("alice", worker),
    ]  # fmt: skip


async def test_an_upload_that_was_cut_short_ends_as_cancelled_and_one_that_was_quicker_does_not(
    coordinator,
):
    worker = await coordinator.register(slots=2)
    cut, whole = await coordinator.submit(), await coordinator.submit()
    end = Exit(ExitKind.CODE, 0, usage=Usage(wall_seconds=1.0))
    for task in (cut, whole):
        report = work.TaskReport(task, "alice", 1, started=True, exit=end)
        await coordinator.report(worker, report)
        assert not (await cancel(coordinator, task)).result.ended
    last = [
        work.TaskReport(cut, "alice", 1, committed=True, cut_short=True),
        work.TaskReport(whole, "alice", 1, committed=True),
    ]
    assert await coordinator.report(worker, *last) == ["", ""]
    assert (await ended(coordinator, cut)).outcome is Outcome.CANCELLED
    assert (await ended(coordinator, whole)).outcome is Outcome.SUCCEEDED


async def test_a_worker_cannot_cancel_a_task_by_saying_so(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await coordinator.report(worker, failed(task, cut_short=True))
    assert (await ended(coordinator, task)).outcome is Outcome.FAILED
