"""A task that watches another one: pending until then, and nobody's slot is taken by waiting."""

from datetime import timedelta

import msgspec
import pytest

from mitosis.contract import commands, work
from mitosis.contract.subjects import task_tail
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import Outcome, RequestCancel, TaskState
from mitosis.domain.watch import Watch

NOWHERE = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"


def on(task, state="ExecSpawned", seconds=0.0):
    return commands.WatchWanted(task, state, seconds)


def started(task, attempt=1):
    spawned = work.AgedStep(ExecutionState.EXEC_SPAWNED, 0.0)
    return work.TaskReport(task, "alice", attempt, steps=[spawned], started=True)


async def refusal(coordinator, owner="alice", **options):
    """The error of a submit that must leave no trace."""
    before = len(coordinator.store.stored), dict(coordinator.world.numbers)
    body = commands.SubmitTask(("true",), "k", **options)
    reply = await coordinator.ask(owner, coordinator.tasks.submit, body)
    coordinator.store.let_through()
    assert (len(coordinator.store.stored), coordinator.world.numbers) == before
    return coordinator.answer(reply).error


def last_event(coordinator, task):
    """What is stored last about a task."""
    commits = [commit for subject, commit in coordinator.store.commits() if subject.endswith(task)]
    return bytes(commits[-1].events[-1][1])


async def restarted(coordinator, age_seconds=0.0):
    """The same history, read by a new coordinator."""
    coordinator.world = coordinator.replayed()
    coordinator.start()
    coordinator.core.dispatcher.restore()

    async def age(_position):
        return age_seconds

    await coordinator.core.watches.restore(coordinator.core.read_aggregate, age)
    coordinator.store.let_through()


async def test_a_watcher_starts_in_the_very_step_in_which_the_state_is_reached(coordinator):
    worker = await coordinator.register(slots=2)
    server = await coordinator.submit()
    client = await coordinator.submit(watch=on(server))
    assert coordinator.world.tasks[client].state is TaskState.PENDING
    assert coordinator.world.free_slots(worker) == 1, "it holds no slot"
    before = len(coordinator.store.topics())
    await coordinator.report(worker, started(server))
    assert coordinator.store.topics()[before:] == [
        ["task.started"], ["task.ready", "task.assigned"],
    ]  # fmt: skip
    assert coordinator.pushed()[-1].task == client
    assert len(coordinator.core.watches) == 0


async def test_a_state_that_was_reached_before_needs_no_waiting(coordinator):
    worker = await coordinator.register(slots=2)
    server = await coordinator.submit()
    await coordinator.report(worker, started(server))
    await coordinator.submit(watch=on(server))
    assert coordinator.store.topics()[-1] == ["task.submitted", "task.ready", "task.assigned"]


async def test_all_attempts_count_and_a_fired_watch_stays_fired(coordinator):
    worker = await coordinator.register(slots=1)
    server = await coordinator.submit()
    await coordinator.report(worker, started(server))
    early = await coordinator.submit(watch=on(server))
    handed_back = work.TaskReport(server, "alice", 1, handed_back="the worker was stopped")
    await coordinator.report(worker, handed_back)
    late = await coordinator.submit(watch=on(server))
    for task in (early, late):
        assert coordinator.world.tasks[task].state is TaskState.READY


async def test_a_watched_task_that_has_ended_is_read_from_the_store(coordinator):
    worker = await coordinator.register(slots=1)
    done = await coordinator.submit()
    await coordinator.report(worker, coordinator.ended(done))
    assert done not in coordinator.world.tasks
    watcher = await coordinator.submit(watch=on(done, "TaskCommitted"))
    assert coordinator.world.tasks[watcher].state is TaskState.RUNNING
    assert done not in coordinator.world.tasks
    error = await refusal(coordinator, watch=on(done, "ExecTimeout"))
    assert error.code == "conflict.state"
    assert "has ended (succeeded) and never reached ExecTimeout" in error.message


async def test_a_watcher_of_what_can_not_come_any_more_ends_with_the_reason(coordinator):
    server = await coordinator.submit()
    client = await coordinator.submit(watch=on(server))
    third = await coordinator.submit(watch=on(client))
    after = await coordinator.submit(watch=on(client, "TaskCommitted"))
    body = commands.CancelTask(server)
    await coordinator.ask("alice", coordinator.tasks.cancel, body)
    coordinator.store.let_through()
    tasks = coordinator.world.tasks
    assert [task in tasks for task in (server, client, third, after)] == [False] * 3 + [True]
    assert tasks[after].state is TaskState.READY, "TaskCommitted also means ended by cancellation"
    async with coordinator.core.kept_task(client) as state:
        pass
    assert state.outcome is Outcome.CANCELLED
    assert b"has ended (cancelled) and never reached ExecSpawned" in last_event(coordinator, client)


async def test_the_watch_timeout_ends_the_wait_and_counts_through_a_restart(coordinator):
    server = await coordinator.submit()
    client = await coordinator.submit(watch=on(server, seconds=60.0))
    coordinator.clock.seconds += 50
    await restarted(coordinator)
    coordinator.core.watches.end_overdue()
    assert coordinator.world.tasks[client].state is TaskState.PENDING
    coordinator.clock.seconds += 11
    coordinator.core.watches.end_overdue()
    coordinator.store.let_through()
    async with coordinator.core.kept_task(client) as ended:
        pass
    assert (ended.state, ended.outcome) == (TaskState.CANCELLED, Outcome.TIMED_OUT)
    body = last_event(coordinator, client)
    assert b"did not reach ExecSpawned within 60 s" in body
    assert b"WatchTimeout" in body


@pytest.mark.parity("F-46")
@pytest.mark.parametrize("wrong", [timedelta(days=730), timedelta(days=-730)])
async def test_a_clock_that_jumps_at_a_restart_ends_no_watch(coordinator, wrong):
    server = await coordinator.submit()
    client = await coordinator.submit(watch=on(server, seconds=60.0))
    coordinator.clock.seconds += 50
    coordinator.clock.wrong = wrong
    await restarted(coordinator, age_seconds=50.0)
    coordinator.core.watches.end_overdue()
    assert coordinator.world.tasks[client].state is TaskState.PENDING
    coordinator.clock.seconds += 61  # what is left, or all of it when the clock was set back
    coordinator.core.watches.end_overdue()
    coordinator.store.let_through()
    assert client not in coordinator.world.tasks


async def test_a_restart_settles_what_was_decided_before_it(coordinator):
    worker = await coordinator.register(slots=4)
    server, done = await coordinator.submit(), await coordinator.submit()
    waits = await coordinator.submit(watch=on(server, "ExecFinished"))
    # The crash came between the commit of the watched task and those of its watchers.
    coordinator.core.journal.before_close = lambda _: None
    fires = await coordinator.submit(watch=on(done, "ExecFinished"))
    fails = await coordinator.submit(watch=on(done, "ExecTimeout"))
    await coordinator.report(worker, coordinator.ended(done))
    assert coordinator.world.tasks[fires].state is TaskState.PENDING
    await restarted(coordinator)
    tasks = coordinator.world.tasks
    assert tasks[fires].state in {TaskState.READY, TaskState.RUNNING}
    assert fails not in tasks
    assert tasks[waits].state is TaskState.PENDING
    assert len(coordinator.core.watches) == 1


@pytest.mark.parametrize(
    ("watch", "code", "message"),
    [
        (on(NOWHERE), "not_found", NOWHERE),
        (on("no uuid"), "invalid", "no UUID"),
        (on(NOWHERE, "execspawned"), "invalid", "did you mean 'ExecSpawned'"),
        (on(NOWHERE, "x" * 5_000), "invalid", "is no execution state"),
    ],
)
async def test_a_watch_that_cannot_be_is_refused_and_takes_no_number(
    coordinator, watch, code, message
):
    error = await refusal(coordinator, watch=watch)
    assert error.code == code
    assert message in error.message


async def test_a_bound_on_the_wait_and_the_worker_states_are_checked(coordinator):
    server = await coordinator.submit()
    for watch in (on(server, "WorkerExited"), on(server, seconds=-1.0), on(server, seconds=1e300)):
        assert (await refusal(coordinator, watch=watch)).code == "invalid"


async def test_who_may_not_read_the_watched_task_is_told_that_there_is_none(coordinator):
    server = await coordinator.submit()
    coordinator.add_user("eve")
    error = await refusal(coordinator, "eve", watch=on(server))
    unknown = await refusal(coordinator, "eve", watch=on(NOWHERE))
    assert (error.code, unknown.code) == ("not_found", "not_found")
    assert error.message.replace(server, "") == unknown.message.replace(NOWHERE, "")


async def test_the_same_submit_again_is_the_same_task_whatever_became_of_the_watched_one(
    coordinator,
):
    worker = await coordinator.register()
    server = await coordinator.submit()
    await coordinator.report(worker, started(server))
    client = await coordinator.submit(key="one", watch=on(server))
    await coordinator.report(worker, coordinator.ended(server))
    assert await coordinator.submit(key="one", watch=on(server)) == client
    await coordinator.report(worker, coordinator.ended(client))
    assert await coordinator.submit(key="one", watch=on(server)) == client


async def test_watcher_and_watched_may_end_in_one_step(coordinator):
    server = await coordinator.submit()
    client = await coordinator.submit(watch=on(server))
    unit = coordinator.core.journal.unit("user:alice")
    for task in (client, server):
        unit.run(task_tail("alice", task), RequestCancel())
    unit.close()
    coordinator.store.let_through()
    assert client not in coordinator.world.tasks
    assert len(coordinator.core.watches) == 0


# --- change and labels ------------------------------------------------------------------------


async def change(coordinator, task, owner="alice", **what):
    body = commands.ChangeTask(task, **what)
    reply = await coordinator.ask(owner, coordinator.tasks.change, body)
    coordinator.store.let_through()
    return coordinator.answer(reply, commands.Changed)


async def test_a_change_touches_only_what_is_given(coordinator):
    task = await coordinator.submit(env={"A": "1"}, tags=("gpu",), priority=3, terminal=True)
    before = coordinator.world.tasks[task].spec
    await change(coordinator, task, argv=("echo", "world"))
    after = coordinator.world.tasks[task].spec
    assert after.argv == ("echo", "world")
    assert (after.env, after.tags, after.priority, after.terminal, after.timeout_seconds) == (
        before.env, before.tags, before.priority, before.terminal, before.timeout_seconds,
    )  # fmt: skip
    answer = await change(coordinator, task, tags=(), terminal=False)
    assert answer.result == commands.Changed(task, True, False)
    assert (await change(coordinator, task, terminal=False)).result.changed is False


async def test_a_change_of_tags_and_priority_is_seen_by_dispatch_at_once(coordinator):
    tagged = await coordinator.submit(tags=())
    last = await coordinator.submit(tags=("gpu",), priority=-5)
    await coordinator.submit(tags=("gpu",))
    await change(coordinator, last, priority=9)
    worker = await coordinator.register(tags=("gpu",), slots=2)
    assert next(a.task for a in coordinator.pushed()) == last
    await coordinator.report(worker, coordinator.ended(last))
    assert tagged not in [a.task for a in coordinator.pushed()]
    await change(coordinator, tagged, tags=("gpu",))
    assert coordinator.pushed()[-1].task == tagged


async def test_what_runs_or_has_ended_cannot_be_changed(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    error = (await change(coordinator, task, priority=1)).error
    assert (error.code, "runs already" in error.message) == ("conflict.state", True)
    await coordinator.report(worker, coordinator.ended(task))
    assert (await change(coordinator, task, priority=1)).error.code == "conflict.state"
    assert task not in coordinator.world.tasks


async def test_a_watch_can_be_added_exchanged_and_taken_away(coordinator):
    server, other = await coordinator.submit(), await coordinator.submit()
    task = await coordinator.submit(priority=1)
    await change(coordinator, task, watch=on(server))
    assert coordinator.world.tasks[task].state is TaskState.PENDING
    await change(coordinator, task, watch=on(other))
    worker = await coordinator.register(slots=1)
    assert coordinator.pushed()[-1].task == server, "what waits is given to nobody"
    await change(coordinator, task, watch=None)
    assert coordinator.world.tasks[task].state is TaskState.READY
    await coordinator.report(worker, coordinator.ended(server))
    assert coordinator.pushed()[-1].task == task


async def test_no_task_can_be_made_to_wait_for_itself(coordinator):
    first = await coordinator.submit()
    second = await coordinator.submit(watch=on(first))
    third = await coordinator.submit(watch=on(second))
    for last in (first, second, third):
        error = (await change(coordinator, first, watch=on(last))).error
        assert (error.code, "wait for itself" in error.message) == ("invalid", True)
    assert coordinator.world.tasks[first].spec.watch is None


async def test_labels_are_replaced_also_after_the_end_and_only_by_who_may(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(labels=("a",))
    await coordinator.report(worker, coordinator.ended(task))

    async def label(owner, *labels):
        body = commands.ReplaceTaskLabels(task, labels)
        reply = await coordinator.ask(owner, coordinator.tasks.replace_labels, body)
        coordinator.store.let_through()
        return coordinator.answer(reply, commands.Changed)

    assert (await label("alice", "b", "a")).result == commands.Changed(task, True)
    assert (await label("alice", "a", "b")).result.changed is False
    assert (await label("alice", "a,b")).error.code == "invalid"
    coordinator.add_user("eve")
    stored = len(coordinator.store.stored)
    assert (await label("eve", "mine")).error.code == "not_found"
    assert (await change(coordinator, task, "eve", priority=1)).error.code == "not_found"
    assert len(coordinator.store.stored) == stored
    assert task not in coordinator.world.tasks


def test_a_watch_of_the_first_version_is_read_for_ever():
    stored = b'{"task":"t","group":"g","state":"ExecSpawned"}'
    assert msgspec.json.decode(stored, type=Watch) == Watch("t", "g", ExecutionState.EXEC_SPAWNED)


async def test_a_start_between_the_commits_of_a_chain_ends_each_watch_of_it_once(coordinator):
    """What the first of them brought about was stored while the next was read: a KeyError."""
    worker = await coordinator.register(slots=2)
    first, other = await coordinator.submit(), await coordinator.submit()
    second = await coordinator.submit(watch=on(first, "ExecTimeout"))
    beside = await coordinator.submit(watch=on(other, "ExecTimeout"))
    third = await coordinator.submit(watch=on(second, "ExecTimeout"))
    ends = work.Reports([coordinator.ended(first), coordinator.ended(other)])
    await coordinator.ask(worker, coordinator.reports.report, ends)
    coordinator.store.cut_off(after=2)
    coordinator.world = coordinator.replayed()
    coordinator.start()
    coordinator.core.dispatcher.restore()

    async def age(_):
        return 0.0

    async def read(tail):
        found = await coordinator._read(tail)
        coordinator.store.let_through()
        return found

    await coordinator.core.watches.restore(read, age)
    coordinator.store.let_through()
    assert not {second, third, beside} & coordinator.world.tasks.keys()
    for task in (second, third, beside):
        assert b"never reached ExecTimeout" in last_event(coordinator, task)
