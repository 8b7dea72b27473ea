"""The coordinator as a reactor: what is stored, what is sent, and that nothing else is."""

import asyncio

import pytest

from mitosis.contract import commands, wire, work
from mitosis.domain.dispatch import ahead
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, TaskState
from mitosis.errors import (
    Fenced,
    ObjectsUnavailable,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from mitosis.services.coordinator.handlers.tasks import FIRST_PART, MOST_IN_PARTS, PART
from mitosis.services.coordinator.journal import BACKLOG_SECONDS
from mitosis.services.coordinator.storage import NamedArtifacts


async def test_a_submit_to_an_idle_worker_is_one_commit_and_pushed_only_when_stored(coordinator):
    await coordinator.register()
    before = len(coordinator.store.topics())
    body = commands.SubmitTask(("true",), "k")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert coordinator.store.waiting == 1
    assert coordinator.answer(reply) is None
    assert coordinator.pushed() == []
    coordinator.store.let_through()
    assert coordinator.store.topics()[before:] == [
        ["task.submitted", "task.ready", "task.assigned"]
    ]
    answer = coordinator.answer(reply, commands.Submitted)
    assert answer.position == coordinator.store.stored[-1][0]
    assert [a.task for a in coordinator.pushed()] == [answer.result.task]


async def test_a_task_without_outputs_costs_three_commits(coordinator):
    worker = await coordinator.register()
    before = len(coordinator.store.topics())
    task = await coordinator.submit()
    await coordinator.report(worker, work.TaskReport(task, "alice", 1, started=True))
    await coordinator.report(worker, coordinator.ended(task))
    assert len(coordinator.store.topics()) - before == 3
    assert task not in coordinator.world.tasks
    assert coordinator.world.has_ended(task)


async def test_waiting_tasks_run_by_priority_then_in_the_order_of_submission(coordinator):
    tasks = [await coordinator.submit(priority=p) for p in (0, 5, 0, -1, 5)]
    worker = await coordinator.register(slots=1)
    order = []
    for _ in tasks:
        running = coordinator.pushed()[-1].task
        order.append(tasks.index(running))
        await coordinator.report(worker, coordinator.ended(running))
    assert order == [1, 4, 0, 2, 3]


async def test_the_end_of_a_task_and_the_next_assignment_are_stored_in_one_go(coordinator):
    worker = await coordinator.register(slots=1)
    first = await coordinator.submit()
    second = await coordinator.submit()
    before = len(coordinator.store.topics())
    await coordinator.report(worker, coordinator.ended(first))
    assert coordinator.store.topics()[before:] == [
        ["task.started", "task.exited", "task.committed"],
        ["task.assigned"],
    ]
    assert coordinator.pushed()[-1].task == second


async def test_the_same_key_is_the_same_task_also_after_it_has_ended(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit(key="one")
    stored = len(coordinator.store.stored)
    assert await coordinator.submit(key="one") == task
    assert len(coordinator.store.stored) == stored
    await coordinator.report(worker, coordinator.ended(task))
    assert await coordinator.submit(key="one") == task
    body = commands.SubmitTask(("false",), "one")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert coordinator.answer(reply).error.code == "conflict.exists"
    assert task not in coordinator.world.tasks


async def test_a_report_of_an_old_attempt_is_refused(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    assert await coordinator.report(worker, coordinator.ended(task, attempt=2)) == [
        "conflict.stale_attempt"
    ]
    assert await coordinator.report(worker, coordinator.ended(task)) == [""]
    assert await coordinator.report(worker, coordinator.ended(task)) == ["conflict.stale_attempt"]


async def test_a_worker_that_leaves_gives_its_task_back_without_a_counted_loss(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await coordinator.ask(worker, coordinator.reports.leave, work.Leave("stopped"))
    coordinator.store.let_through()
    state = coordinator.world.tasks[task]
    assert (state.state, state.losses, state.attempt) == (TaskState.READY, 0, 1)
    successor = await coordinator.register()
    assert coordinator.pushed()[-1].attempt == 2
    assert coordinator.world.tasks[task].worker == successor


async def test_a_successor_on_the_same_folder_proves_its_predecessor_dead(coordinator):
    await coordinator.register(machine="m", folder="/w", boot="b")
    task = await coordinator.submit()
    await coordinator.register(machine="m", folder="/w", boot="b")
    state = coordinator.world.tasks[task]
    assert (state.attempt, state.losses) == (2, 1)
    assert len(coordinator.world.workers) == 1


async def test_another_boot_of_a_machine_proves_all_its_workers_of_before_dead(coordinator):
    for folder in ("/w/1", "/w/2"):
        await coordinator.register(machine="m", folder=folder, boot="first")
    other = await coordinator.register(machine="another", folder="/w/1", boot="other")
    tasks = [await coordinator.submit() for _ in range(3)]
    newest = await coordinator.register(machine="m", folder="/w/3", boot="second")
    assert coordinator.world.workers.keys() == {other, newest}
    states = [coordinator.world.tasks[task] for task in tasks]
    assert [(one.attempt, one.losses) for one in states] == [(2, 1), (1, 1), (1, 0)]


@pytest.mark.parametrize(("before", "after"), [("", "second"), ("first", ""), ("first", "first")])
async def test_a_boot_that_is_not_known_or_the_same_proves_nothing(coordinator, before, after):
    await coordinator.register(machine="m", folder="/w/1", boot=before)
    await coordinator.register(machine="m", folder="/w/2", boot=after)
    assert len(coordinator.world.workers) == 2


async def test_a_task_that_loses_three_workers_ends_as_lost(coordinator):
    task = await coordinator.submit()
    for _ in range(4):
        await coordinator.register(machine="m", folder="/w")
    assert task not in coordinator.world.tasks
    assert coordinator.store.topics().count(["task.requeued", "task.cancelled"]) == 1


async def test_a_foreign_user_cannot_declare_a_worker_dead(coordinator):
    await coordinator.register(machine="m", folder="/w")
    await coordinator.register("root", machine="m", folder="/w")
    assert len(coordinator.world.workers) == 2


async def test_submitting_to_a_group_needs_write_in_it(coordinator):
    body = commands.SubmitTask(("true",), "k", group="root")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert coordinator.answer(reply).error.code == "not_allowed"
    body = commands.SubmitTask(("true",), "k", group="nobody")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert coordinator.answer(reply).error.code == "not_found"


async def test_serving_a_group_needs_write_in_it(coordinator):
    body = commands.RegisterWorker(groups={"root": Role.WRITE})
    reply = await coordinator.ask("alice", coordinator.workers.register, body)
    assert coordinator.answer(reply).error.code == "not_allowed"
    assert coordinator.world.workers == {}


async def test_a_refusal_waits_until_what_it_stands_on_is_stored(coordinator):
    first = commands.CreateGroup("lab")
    await coordinator.ask("alice", coordinator.groups.create, first)
    reply = await coordinator.ask("alice", coordinator.groups.create, first)
    assert coordinator.answer(reply) is None
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code == "conflict.exists"


async def test_a_repeated_command_gets_its_first_reply_and_has_no_second_effect(coordinator):
    body = commands.CreateGroup("lab")
    first = await coordinator.ask("alice", coordinator.groups.create, body, "id-1")
    coordinator.store.let_through()
    again = await coordinator.ask("alice", coordinator.groups.create, body, "id-1")
    coordinator.store.let_through()
    assert coordinator.answer(again, commands.Done) == coordinator.answer(first, commands.Done)


async def test_when_the_store_fails_everybody_who_waits_is_told_and_nothing_is_pushed(coordinator):
    await coordinator.register()
    body = commands.SubmitTask(("true",), "k")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    coordinator.core.journal.fail(StoreUnavailable("gone"))
    assert coordinator.answer(reply).error.code == "unavailable.store"
    assert coordinator.pushed() == []
    later = await coordinator.ask("alice", coordinator.tasks.submit, body)
    assert coordinator.answer(later).error.code == "unavailable.store"


async def test_cancelling_a_waiting_task_ends_it_and_a_running_one_is_asked_to_stop(coordinator):
    waiting = await coordinator.submit()
    reply = await coordinator.ask(
        "alice", coordinator.tasks.cancel, commands.CancelTask(waiting, "no")
    )
    coordinator.store.let_through()
    assert coordinator.answer(reply, commands.Cancelled).result.ended is True
    worker = await coordinator.register()
    assert coordinator.pushed() == []
    running = await coordinator.submit()
    await coordinator.ask("alice", coordinator.tasks.cancel, commands.CancelTask(running))
    coordinator.store.let_through()
    assert coordinator.sent[-2][0] == f"mito.control.{worker}"
    reply = await coordinator.ask("alice", coordinator.tasks.cancel, commands.CancelTask(waiting))
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code == "conflict.state"
    assert waiting not in coordinator.world.tasks


async def test_an_upload_over_the_quota_is_refused_and_one_that_is_larger_than_declared_deleted(
    coordinator,
):
    worker = await coordinator.register()
    task = await coordinator.submit()
    wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 17 * 1000**3)
    reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code == "limit_reached"
    wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 10)
    reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
    coordinator.store.let_through()
    granted = coordinator.answer(reply, work.UploadGranted).result
    coordinator.objects.sizes[granted.object_name] = 11
    stored = work.StoredArtifact(ArtifactKind.RESULT, granted.object_name, 10, "0" * 64)
    report = work.TaskReport(task, "alice", 1, artifacts=[stored])
    assert await coordinator.report(worker, report) == [""]
    assert coordinator.store.topics()[-1] == ["task.warned"]
    for background in list(coordinator.core.background):
        await background
    assert coordinator.objects.deleted == [granted.object_name]
    assert coordinator.world.used_bytes.get("alice", 0) == 0


async def test_a_large_output_is_sent_in_parts_to_one_place_at_a_time(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    size, granted = 100 << 20, []
    for _ in range(2):  # the first place could not be used
        wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, size)
        reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
        coordinator.store.let_through()
        granted.append(coordinator.answer(reply, work.UploadGranted).result)
    for background in list(coordinator.core.background):
        await background
    assert coordinator.core.uploads.reserved_bytes("alice") == size
    assert list(coordinator.objects.open) == [granted[1].object_name]
    assert (granted[1].url, granted[1].parts, granted[1].part_bytes) == ("", 2, 64 << 20)
    store_id = coordinator.objects.open[granted[1].object_name]
    for place, code in zip(granted, ("not_found", ""), strict=True):
        wanted = work.PartsWanted(place.object_name, 2)
        reply = await coordinator.ask(worker, coordinator.reports.parts, wanted)
        coordinator.store.let_through()
        answer = coordinator.answer(reply, commands.PartUrls)
        assert (answer.error.code if answer.error else "") == code
    assert answer.result.urls == [f"part:{place.object_name}:{store_id}:2:{36 << 20}"]
    stored = work.StoredArtifact(ArtifactKind.RESULT, place.object_name, size, "0" * 64)
    report = work.TaskReport(task, "alice", 1, artifacts=[stored])
    assert await coordinator.report(worker, report) == [""]
    assert coordinator.objects.open == {}
    assert coordinator.world.used_bytes["alice"] == size
    assert coordinator.core.uploads.reserved_bytes("alice") == 0


async def uploaded(coordinator, worker, task):
    """A report on an output that is in the store."""
    wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 10)
    reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
    coordinator.store.let_through()
    name = coordinator.answer(reply, work.UploadGranted).result.object_name
    coordinator.objects.sizes[name] = 10
    stored = work.StoredArtifact(ArtifactKind.RESULT, name, 10, "0" * 64)
    return work.TaskReport(task, "alice", 1, artifacts=[stored])


async def test_a_report_on_an_output_is_answered_also_while_the_store_is_silent_and_asked_once(
    coordinator, monkeypatch
):
    monkeypatch.setattr("mitosis.services.coordinator.looks.LOOK_SECONDS", 0.01)
    worker = await coordinator.register(slots=2)
    task, other = await coordinator.submit(), await coordinator.submit()
    report = await uploaded(coordinator, worker, task)
    real, asked, answers = coordinator.objects.size_of, [], asyncio.Event()

    async def size_of(name):
        asked.append(name)
        await answers.wait()
        return await real(name)

    coordinator.objects.size_of = size_of
    async with asyncio.timeout(10):
        codes = await coordinator.report(worker, report, coordinator.ended(other))
        assert codes == ["unavailable.objects", ""], "the other one is taken in"
        assert await coordinator.report(worker, report) == ["unavailable.objects"]
        answers.set()  # and it hears of it between two tries
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one.get_name() == "look"))
        assert await coordinator.report(worker, report) == [""]
    assert len(asked) == 1, "the look goes on"
    assert coordinator.store.topics()[-1] == ["task.artifact_stored"]


@pytest.mark.parametrize("error", [ObjectsUnavailable("away"), ValueError("no sense")])
async def test_an_output_that_cannot_be_looked_at_is_looked_at_anew_and_the_others_are_taken_in(
    coordinator, error
):
    worker = await coordinator.register(slots=2)
    task, other = await coordinator.submit(), await coordinator.submit()
    report = await uploaded(coordinator, worker, task)
    real = coordinator.objects.size_of

    async def size_of(name):
        raise error

    coordinator.objects.size_of = size_of
    codes = await coordinator.report(worker, report, coordinator.ended(other))
    assert codes == ["unavailable.objects", ""]
    coordinator.objects.size_of = real
    assert await coordinator.report(worker, report) == [""]


async def test_a_place_for_a_large_output_is_refused_soon_while_the_store_is_silent_and_made_once(
    coordinator, monkeypatch
):
    """A store that took longer than the bound for it gave no place any more, however often."""
    monkeypatch.setattr("mitosis.services.coordinator.looks.LOOK_SECONDS", 0.01)
    worker = await coordinator.register()
    task = await coordinator.submit()
    real, begun, answers = coordinator.objects.begin_parts, [], asyncio.Event()

    async def begin_parts(name):
        begun.append(name)
        await answers.wait()
        return await real(name)

    async def place():
        wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 100 << 20)
        reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
        coordinator.store.let_through()
        return coordinator.answer(reply, work.UploadGranted)

    coordinator.objects.begin_parts = begin_parts
    async with asyncio.timeout(10):
        for _ in range(2):
            assert (await place()).error.code == "unavailable.objects"
            assert coordinator.core.uploads.reserved_bytes("alice") == 100 << 20
        answers.set()
        await asyncio.gather(*(one for one in asyncio.all_tasks() if one.get_name() == "begin"))
        assert (await place()).result.object_name == begun[0]
    assert len(begun) == 1
    another = (await place()).result.object_name
    assert begun == [begun[0], another], "whoever has got it asks for a new one"


async def test_a_place_that_is_asked_for_in_another_size_meanwhile_is_refused_to_who_asked_before(
    coordinator,
):
    """Whoever waited for the former one met an error inside."""
    worker = await coordinator.register()
    task, answers = await coordinator.submit(), asyncio.Event()
    real = coordinator.objects.begin_parts

    async def begin_parts(name):
        await answers.wait()
        return await real(name)

    async def place(size):
        wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, size)
        return await coordinator.ask(worker, coordinator.reports.upload, wanted)

    coordinator.objects.begin_parts = begin_parts
    first = asyncio.create_task(place(100 << 20))
    await asyncio.sleep(0)
    second = asyncio.create_task(place(200 << 20))
    await asyncio.sleep(0)
    answers.set()
    async with asyncio.timeout(10):
        refused, granted = await first, await second
    coordinator.store.let_through()
    assert coordinator.answer(refused).error.code == "unavailable.objects"
    assert coordinator.answer(granted, work.UploadGranted).error is None
    assert coordinator.core.uploads.reserved_bytes("alice") == 200 << 20


async def test_a_silent_store_keeps_no_coordinator_from_stopping(coordinator, monkeypatch):
    monkeypatch.setattr("mitosis.services.coordinator.looks.LOOK_SECONDS", 0.01)
    worker = await coordinator.register(slots=2)
    task, other = await coordinator.submit(), await coordinator.submit()
    report = await uploaded(coordinator, worker, task)

    async def never(_):
        await asyncio.Event().wait()

    coordinator.objects.size_of = coordinator.objects.begin_parts = never
    await coordinator.report(worker, report)
    wanted = work.UploadWanted(other, "alice", 1, ArtifactKind.RESULT, 100 << 20)
    await coordinator.ask(worker, coordinator.reports.upload, wanted)
    asked = [one for one in asyncio.all_tasks() if one.get_name() in {"look", "begin"}]
    assert len(asked) == 2
    coordinator.reports.close()
    async with asyncio.timeout(10):
        await asyncio.wait(asked)
    assert all(one.cancelled() for one in asked)


async def test_a_worker_cannot_close_the_upload_of_somebody_else(coordinator):
    mine, other = await coordinator.register(slots=1), await coordinator.register(slots=1)
    tasks = [await coordinator.submit(), await coordinator.submit()]
    places = {}
    for task in tasks:
        holder = coordinator.world.tasks[task].worker
        wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 10)
        reply = await coordinator.ask(holder, coordinator.reports.upload, wanted)
        coordinator.store.let_through()
        places[holder] = (task, coordinator.answer(reply, work.UploadGranted).result.object_name)
    task, (_, foreign) = places[mine][0], places[other]
    named = f"{task}/1/{foreign.split('/')[2]}/result.tar.gz"
    stored = work.StoredArtifact(ArtifactKind.RESULT, named, 10, "0" * 64)
    await coordinator.report(mine, work.TaskReport(task, "alice", 1, artifacts=[stored]))
    assert foreign in coordinator.core.uploads.names()
    assert coordinator.core.uploads.reserved_bytes("alice") == 20


async def test_a_renewal_pushes_again_what_the_worker_does_not_hold_and_names_what_is_foreign(
    coordinator,
):
    worker = await coordinator.register()
    task = await coordinator.submit()
    stranger = work.Held("00000000-0000-4000-8000-0000000fffff", "alice", 1)
    reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew([stranger]))
    coordinator.store.let_through()
    assert [a.task for a in coordinator.pushed()] == [task, task]
    assert coordinator.answer(reply, work.Renewed).result.foreign == [stranger]


async def test_a_renewal_repeats_only_what_is_stored(coordinator):
    """A store that was away for a moment may still refuse what is on its way to it.

    Seed 1 of the fault suite: a coordinator that had been frozen pushed an assignment again that
    its successor's term then kept out of the stream, and the task ran twice.
    """
    worker = await coordinator.register()
    body = commands.SubmitTask(key="on-its-way", argv=("true",))
    await coordinator.ask("alice", coordinator.tasks.submit, body)
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    assert coordinator.pushed() == []
    coordinator.store.let_through()
    assert [a.attempt for a in coordinator.pushed()] == [1, 1]


async def test_a_stop_is_repeated_only_when_the_cancel_is_stored(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await coordinator.ask("alice", coordinator.tasks.cancel, commands.CancelTask(task))
    held = work.Renew([work.Held(task, "alice", 1)])
    await coordinator.ask(worker, coordinator.reports.renew, held)

    def orders() -> list[str]:
        return [s for s, _ in coordinator.sent if s == f"mito.control.{worker}"]

    assert orders() == []
    coordinator.store.let_through()
    assert len(orders()) == 2


async def test_a_lease_that_is_over_makes_a_worker_lost_and_not_a_moment_before(coordinator):
    worker = await coordinator.register()
    leases = {worker: 600.0}
    coordinator.clock.seconds += 601.9
    assert coordinator.core.leases.expired(leases) == []
    coordinator.clock.seconds += 0.2
    assert coordinator.core.leases.expired(leases) == [worker]


async def test_the_world_is_a_fold_of_what_is_stored(coordinator):
    worker = await coordinator.register(slots=2)
    tasks = [await coordinator.submit(priority=p) for p in (0, 1, 2, 3)]
    await coordinator.report(worker, coordinator.ended(tasks[0], number=3))
    await coordinator.ask("alice", coordinator.tasks.cancel, commands.CancelTask(tasks[3]))
    coordinator.store.let_through()
    world, replayed = coordinator.world, coordinator.replayed()
    for name in world.__struct_fields__:
        if name == "attempts":
            continue  # a worker without attempts may have an empty set or none
        assert getattr(replayed, name) == getattr(world, name), name
    assert {w: a for w, a in replayed.attempts.items() if a} == {
        w: a for w, a in world.attempts.items() if a
    }


async def test_more_commits_than_the_writer_takes_wait_in_order(coordinator):
    coordinator.store.room = 0
    body = commands.SubmitMany([commands.SubmitTask(("true",), str(n)) for n in range(3)])
    reply = await coordinator.ask("alice", coordinator.tasks.submit_many, body)
    assert coordinator.store.waiting == 0
    coordinator.store.room = 500
    await coordinator.submit(key="last")
    numbers = [
        msg.result.number
        for msg in [coordinator.answer(reply, commands.SubmittedMany)]
        for msg in [type("R", (), {"result": r.submitted}) for r in msg.result.results]
    ]
    assert numbers == [1, 2, 3]
    assert [position for position, _, _ in coordinator.store.stored] == list(
        range(1, len(coordinator.store.stored) + 1)
    )


async def test_a_worker_with_quick_tasks_gets_some_ahead_and_one_with_a_slow_task_gets_none(
    coordinator,
):
    worker = await coordinator.register(slots=1)
    tasks = [await coordinator.submit() for _ in range(30)]
    assert len(coordinator.pushed()) == 1
    await coordinator.report(worker, coordinator.ended(tasks[0], wall=0.005))
    held = 1 + 1 + ahead(1, 0.005)  # one has ended, one runs, the others wait at the worker
    assert [a.task for a in coordinator.pushed()] == tasks[:held]
    await coordinator.report(worker, coordinator.ended(tasks[1], wall=30.0))
    assert len(coordinator.pushed()) == held


async def test_many_submits_are_decided_in_parts_with_room_for_others_in_between(coordinator):
    bodies = [commands.SubmitTask(("true",), f"part-{n}") for n in range(3 * PART + 1)]
    many = asyncio.create_task(
        coordinator.ask("alice", coordinator.tasks.submit_many, commands.SubmitMany(bodies))
    )
    await asyncio.sleep(0)
    other = await coordinator.ask(
        "root", coordinator.tasks.submit, commands.SubmitTask(("true",), "between")
    )
    reply = await many
    assert coordinator.answer(reply) is None
    coordinator.store.let_through()
    between = coordinator.answer(other, commands.Submitted).position
    answer = coordinator.answer(reply, commands.SubmittedMany)
    assert [one.submitted.number for one in answer.result.results] == list(range(1, 3 * PART + 2))
    assert between < answer.position == coordinator.store.stored[-1][0]


async def test_a_part_of_many_submits_waits_while_too_much_is_on_its_way(coordinator):
    bodies = [commands.SubmitTask(("true",), f"part-{n}") for n in range(3 * PART)]
    coordinator.store.room = 0
    many = asyncio.create_task(
        coordinator.ask("alice", coordinator.tasks.submit_many, commands.SubmitMany(bodies))
    )
    await asyncio.sleep(0)  # the first part is decided, whatever comes
    coordinator.clock.seconds += BACKLOG_SECONDS + 1.0
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(coordinator.world.tasks) == FIRST_PART
    coordinator.store.room = 3 * PART
    coordinator.core.journal.hand_on()
    coordinator.store.let_through()
    reply = await many
    coordinator.store.let_through()
    results = coordinator.answer(reply, commands.SubmittedMany).result.results
    assert len({one.submitted.task for one in results}) == 3 * PART


async def test_large_submits_of_many_users_take_turns_and_leave_turns_to_all_others(coordinator):
    users = [f"user{n}" for n in range(MOST_IN_PARTS + 1)]
    for user in users:
        coordinator.add_user(user)
    coordinator.store.room = 10**6
    asked = [
        asyncio.create_task(
            coordinator.ask(
                user,
                coordinator.tasks.submit_many,
                commands.SubmitMany([commands.SubmitTask(("true",), f"{n}") for n in range(600)]),
                request_id="the same",
            )
        )
        for user in users
    ]
    known, most = 0, 0
    while len(coordinator.world.tasks) < 600 * MOST_IN_PARTS:
        await asyncio.sleep(0)
        coordinator.store.let_through()
        known, before = len(coordinator.world.tasks), known
        most = max(most, known - before)
    assert most <= PART
    replies = await asyncio.gather(*asked)
    coordinator.store.let_through()
    errors = [coordinator.answer(reply, commands.SubmittedMany).error for reply in replies]
    assert [error.code for error in errors if error] == [Overloaded.code]
    (refused,) = (user for user, error in zip(users, errors, strict=True) if error)
    body = commands.SubmitMany([commands.SubmitTask(("true",), f"{n}") for n in range(600)])
    again = await coordinator.ask(
        refused, coordinator.tasks.submit_many, body, request_id="the same"
    )
    coordinator.store.let_through()
    assert len(coordinator.answer(again, commands.SubmittedMany).result.results) == 600


async def test_of_many_submits_none_is_called_refused_when_some_are_on_their_way(coordinator):
    bodies = [commands.SubmitTask(("true",), f"part-{n}") for n in range(2 * PART)]
    many = asyncio.create_task(
        coordinator.ask("alice", coordinator.tasks.submit_many, commands.SubmitMany(bodies))
    )
    await asyncio.sleep(0)
    coordinator.store.fault = "the disk is full"
    reply = await many
    coordinator.store.fault = None
    coordinator.store.let_through()
    error = coordinator.answer(reply).error
    assert error.code == OutcomeUnknown.code
    assert error.message.startswith(f"{FIRST_PART} of {2 * PART} tasks are on their way")
    again = await coordinator.ask(
        "alice", coordinator.tasks.submit_many, commands.SubmitMany(bodies)
    )
    coordinator.store.let_through()
    results = coordinator.answer(again, commands.SubmittedMany).result.results
    assert [one.submitted.number for one in results] == list(range(1, 2 * PART + 1))


async def test_many_submits_that_come_again_are_the_same_also_when_some_have_ended(coordinator):
    worker = await coordinator.register(slots=1)
    bodies = [commands.SubmitTask(("true",), f"part-{n}") for n in range(2 * PART)]
    answers = []
    for _ in range(2):
        reply = await coordinator.ask(
            "alice", coordinator.tasks.submit_many, commands.SubmitMany(bodies)
        )
        coordinator.store.let_through()
        answers.append(coordinator.answer(reply, commands.SubmittedMany).result.results)
        ended = answers[0][PART + 1].submitted.task
        if not coordinator.world.has_ended(ended):
            for one in answers[0][: PART + 2]:
                await coordinator.report(worker, coordinator.ended(one.submitted.task))
    assert coordinator.world.has_ended(ended)
    numbers = [[one.submitted.number for one in results] for results in answers]
    assert numbers[0] == numbers[1] == list(range(1, 2 * PART + 1))


async def test_only_what_could_run_counts_as_lost_with_its_worker(coordinator):
    worker = await coordinator.register(slots=1, machine="m", folder="/w")
    tasks = [await coordinator.submit() for _ in range(4)]
    await coordinator.report(worker, coordinator.ended(tasks[0], wall=0.005))
    await coordinator.register(machine="m", folder="/w")
    losses = [coordinator.world.tasks[task].losses for task in tasks[1:]]
    assert losses == [1, 0, 0]


async def test_a_worker_that_uploads_outputs_gets_nothing_ahead(coordinator):
    worker = await coordinator.register(slots=1)
    tasks = [await coordinator.submit() for _ in range(30)]
    first = coordinator.ended(tasks[0], wall=0.005)
    first.committed = False
    await coordinator.report(worker, first)
    await coordinator.report(worker, work.TaskReport(tasks[0], "alice", 1, committed=True))
    held = len(coordinator.pushed())
    assert held <= 2 + ahead(1, 0.005)
    await coordinator.report(worker, coordinator.ended(tasks[1], wall=0.005))
    assert len(coordinator.pushed()) == held


async def test_the_sweeper_keeps_what_an_event_names_or_an_upload_was_promised(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    names = []
    for _ in range(2):
        wanted = work.UploadWanted(task, "alice", 1, ArtifactKind.RESULT, 10)
        reply = await coordinator.ask(worker, coordinator.reports.upload, wanted)
        coordinator.store.let_through()
        names.append(coordinator.answer(reply, work.UploadGranted).result.object_name)
    coordinator.objects.sizes[names[0]] = 10
    stored = work.StoredArtifact(ArtifactKind.RESULT, names[0], 10, "0" * 64)
    unreported = f"{task}/1/unreported/result.tar.gz"
    assert set(await NamedArtifacts(coordinator.core)([unreported])) == {names[1], unreported}
    await coordinator.report(worker, work.TaskReport(task, "alice", 1, artifacts=[stored]))
    await coordinator.report(worker, coordinator.ended(task))
    assert task not in coordinator.world.tasks
    strange = "00000000-0000-4000-8000-000000000000/1/u/result.tar.gz"
    late = f"{task}/1/late/result.tar.gz"
    kept = await NamedArtifacts(coordinator.core)([*names, strange, late])
    assert set(kept) == set(names)
    coordinator.clock.seconds += 3_601
    coordinator.core.standing.confirm()
    kept = await NamedArtifacts(coordinator.core)([*names, strange, late])
    assert set(kept) == {names[0]}
    assert task not in coordinator.world.tasks


async def test_a_coordinator_that_was_frozen_answers_nothing_before_it_knows_that_it_still_leads(
    coordinator,
):
    worker = await coordinator.register()
    stranger = work.Held("00000000-0000-4000-8000-0000000fffff", "alice", 1)
    coordinator.alive = False
    coordinator.clock.seconds += 1.9
    reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew([stranger]))
    assert coordinator.answer(reply, work.Renewed).result.foreign == [stranger]
    coordinator.clock.seconds += 0.2
    for _ in range(2):
        reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew([stranger]))
        assert coordinator.answer(reply, work.Renewed).error.code == "unavailable"
    coordinator.core.standing.confirm()
    reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    assert coordinator.answer(reply, work.Renewed).error is None


async def test_a_coordinator_that_must_prove_its_standing_answers_nothing_without_a_proof(
    coordinator,
):
    standing, clock = coordinator.core.standing, coordinator.clock
    worker = await coordinator.register()

    async def code_of_renewal() -> str:
        reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
        error = coordinator.answer(reply, work.Renewed).error
        return error.code if error else "ok"

    clock.seconds += 100
    assert await code_of_renewal() == "ok", "alone on its server it needs none"
    standing.prove(clock.seconds)
    clock.seconds += 3.4
    assert await code_of_renewal() == "ok"
    clock.seconds += 0.2
    assert await code_of_renewal() == "unavailable"
    standing.prove(clock.seconds - 4)
    assert await code_of_renewal() == "unavailable", "that was true long ago"
    standing.prove(clock.seconds - 1)
    assert await code_of_renewal() == "ok"
    standing.prove(clock.seconds - 3)
    assert await code_of_renewal() == "ok", "an older proof takes nothing away"


async def test_a_stored_commit_proves_the_standing_of_the_time_when_it_was_decided(coordinator):
    coordinator.clock.seconds += 1
    decided = coordinator.clock.seconds
    reply = await coordinator.ask(
        "alice", coordinator.tasks.submit, commands.SubmitTask(("true",), "k")
    )
    coordinator.clock.seconds += 3
    assert coordinator.core.journal.proved_at < decided
    coordinator.store.let_through()
    assert coordinator.answer(reply, commands.Submitted).error is None
    assert coordinator.core.journal.proved_at == decided


async def test_who_waits_at_a_coordinator_that_is_fenced_is_told_to_ask_again(coordinator):
    body = commands.SubmitTask(("true",), "k")
    reply = await coordinator.ask("alice", coordinator.tasks.submit, body)
    coordinator.core.journal.fail(Fenced("position 7 is taken"))
    assert coordinator.answer(reply).error.code == "unavailable.outcome_unknown"


async def test_a_worker_cannot_have_a_commit_stored_in_another_group(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    report = work.TaskReport(task, "root", 1, started=True)
    assert await coordinator.report(worker, report) == [""]
    assert coordinator.store.stored[-1][1] == f"mito.events.task.alice.{task}"


async def test_a_worker_cannot_have_others_objects_or_its_own_stored_ones_deleted(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    foreign = "00000000-0000-4000-8000-000000000000/1/u/result.tar.gz"
    own = f"{task}/1/u/result.tar.gz"
    coordinator.objects.sizes = {foreign: 10, own: 10}

    def stored(name: str) -> work.TaskReport:
        artifact = work.StoredArtifact(ArtifactKind.RESULT, name, 10, "0" * 64)
        return work.TaskReport(task, "alice", 1, artifacts=[artifact])

    assert await coordinator.report(worker, stored(foreign)) == ["invalid"]
    assert await coordinator.report(worker, stored(own)) == [""]
    coordinator.objects.sizes[own] = 10**15  # far over the quota, were it judged again
    assert await coordinator.report(worker, stored(own)) == [""]
    for background in list(coordinator.core.background):
        await background
    assert coordinator.objects.deleted == []
    assert coordinator.world.used_bytes["alice"] == 10


async def test_who_may_not_see_a_task_cannot_tell_it_from_one_that_does_not_exist(coordinator):
    coordinator.add_user("bob")
    task = await coordinator.submit()
    missing = "00000000-0000-8000-8000-000000000000"
    tasks, files = coordinator.tasks, coordinator.files
    for handler, make in (
        (tasks.cancel, commands.CancelTask),
        (tasks.replace_labels, lambda uuid: commands.ReplaceTaskLabels(uuid, ("x",))),
        (tasks.change, lambda uuid: commands.ChangeTask(uuid, priority=1)),
        (files.begin_artifact, lambda uuid: commands.BeginArtifact(uuid, ArtifactKind.RESULT, 1)),
        (files.delete_artifact, lambda uuid: commands.DeleteArtifact(uuid, ArtifactKind.RESULT)),
    ):
        texts = []
        for uuid in (task, missing):
            reply = await coordinator.ask("bob", handler, make(uuid))
            error = coordinator.answer(reply).error
            texts.append(f"{error.code} {error.message}".replace(uuid, "UUID"))
        assert texts == ["not_found there is no task UUID"] * 2


async def test_a_batch_of_stored_and_refused_tasks_has_an_answer_whatever_is_refused(coordinator):
    no_group = commands.SubmitTask(("true",), "k", group="g" * 255)
    bad_name = commands.SubmitTask(("true",), "k", env={"\x7f" * 800 + "=": "x"})
    bad_tag = commands.SubmitTask(("true",), "k", tags=("\x7f" * 255,), priority=2**40)
    bodies = [commands.SubmitTask(("true",), "good"), *[no_group, bad_name, bad_tag] * 333]
    many = coordinator.tasks.submit_many
    reply = await coordinator.ask("alice", many, commands.SubmitMany(bodies))
    coordinator.store.let_through()
    results = coordinator.answer(reply, commands.SubmittedMany).result.results
    assert results[0].submitted is not None
    assert len(results) == len(bodies)
    assert all(result.error is not None for result in results[1:])


async def test_a_task_that_cannot_be_sent_keeps_nothing_else_back(coordinator, monkeypatch):
    """Its submitter got no answer, its worker no renewal, and so nothing else either."""
    worker = await coordinator.register(slots=2)
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 1_000)
    large = await coordinator.submit(argv=("x" * 1_000,))
    small = await coordinator.submit()
    reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    coordinator.store.let_through()
    assert coordinator.answer(reply, work.Renewed).error is None
    assert {one.task for one in coordinator.pushed()} == {small}
    assert coordinator.world.tasks[large].worker == worker


async def test_an_effect_that_fails_keeps_no_other_back(coordinator, caplog):
    done = []

    def fail(_):
        raise RuntimeError("broken")

    unit = coordinator.core.journal.unit("system:coordinator")
    unit.then(fail)
    unit.then(done.append)
    unit.close()
    coordinator.store.let_through()
    assert len(done) == 1
    assert "could not be done" in caplog.text
