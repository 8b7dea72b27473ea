"""Changes of a worker: who may, what is stored and dispatched at once, what the worker hears."""

from typing import Any

import msgspec
import pytest

from mitosis.contract import commands, subjects, work
from mitosis.contract.presence import Presence, PresenceWanted
from mitosis.domain import group
from mitosis.domain.roles import Role
from mitosis.domain.task import TaskState
from mitosis.domain.worker import WorkerPhase
from mitosis.errors import Unavailable
from mitosis.nats.rpc import Caller
from mitosis.services.coordinator.handlers.presence import PresenceHandlers
from mitosis.services.coordinator.term import Term

ABSENT = "00000000-0000-4000-8000-0000000fffff"


@pytest.fixture
def lab(coordinator: Any) -> Any:
    """Also bob (Admin in lab, where alice has Read) and carl, who has no role but in his own."""
    for name in ("bob", "carl"):
        coordinator.add_user(name)
    unit = coordinator.core.journal.unit("system:coordinator")
    unit.run("group.lab", group.CreateGroup("lab", "bob"))
    unit.run("group.lab", group.ChangeMembers({"alice": Role.READ}))
    unit.close()
    coordinator.store.let_through()
    return coordinator


async def change(coordinator: Any, user: str, verb: str, body: msgspec.Struct) -> Any:
    """Send a change; the result, or the code of the error."""
    handler = next(h for v, _, h in coordinator.workers.verbs() if v == f"worker.{verb}")
    before = len(coordinator.store.stored)
    reply = await coordinator.ask(user, handler, body)
    coordinator.store.let_through()
    answer = coordinator.answer(reply, commands.WorkerChanged)
    if answer.error is not None:
        assert len(coordinator.store.stored) == before, "a refused command leaves no trace"
        return answer.error.code
    return answer.result


def changes(worker: str) -> list[tuple[str, msgspec.Struct]]:
    """One of each verb."""
    return [
        ("update_tags", commands.ReplaceWorkerTags(worker, ("gpu",))),
        ("update_labels", commands.ReplaceWorkerLabels(worker, ("rack1",))),
        ("update_roles", commands.GrantWorkerRoles(worker, {"alice": Role.WRITE})),
        ("remove_roles", commands.RemoveWorkerRoles(worker, ("alice",))),
        ("update_slots", commands.ChangeWorkerSlots(worker, 7)),
        ("pause", commands.PauseWorker(worker, "lunch")),
        ("resume", commands.ResumeWorker(worker)),
        ("drain", commands.DrainWorker(worker)),
    ]


async def test_each_change_is_stored_once_and_the_same_again_changes_nothing(lab):
    worker = await lab.register()
    for verb, body in changes(worker):
        assert await change(lab, "alice", verb, body) == commands.WorkerChanged(worker, True), verb
        assert await change(lab, "alice", verb, body) == commands.WorkerChanged(worker, False), verb
    topics = [names for names in lab.store.topics() if names[0].startswith("worker.")]
    assert topics == [
        ["worker.registered"], ["worker.tags_replaced"], ["worker.labels_replaced"],
        ["worker.roles_granted"], ["worker.roles_removed"], ["worker.slots_changed"],
        ["worker.paused"], ["worker.resumed"], ["worker.drain_requested"],
    ]  # fmt: skip
    assert lab.replayed().workers == lab.world.workers


async def test_only_an_admin_of_the_worker_may_change_it(lab):
    worker = await lab.register("bob", groups={"lab": Role.WRITE})
    for verb, body in changes(worker):
        assert await change(lab, "carl", verb, body) == "not_found", verb
        assert await change(lab, "alice", verb, body) == "not_allowed", verb
    for verb, _ in changes(worker):
        for name, code in ((ABSENT, "not_found"), ("me", "invalid")):
            body = next(b for v, b in changes(name) if v == verb)
            assert await change(lab, "bob", verb, body) == code, verb
    assert await change(lab, "root", "pause", commands.PauseWorker(worker)) == (
        commands.WorkerChanged(worker, True)
    )


async def test_an_admin_of_a_group_with_admin_on_the_worker_may_change_it(lab):
    worker = await lab.register("bob", groups={"lab": Role.ADMIN})
    unit = lab.core.journal.unit("system:coordinator")
    unit.run("group.lab", group.ChangeMembers({"carl": Role.ADMIN}))
    unit.close()
    body = commands.ReplaceWorkerTags(worker, ("gpu",))
    assert await change(lab, "carl", "update_tags", body) == commands.WorkerChanged(worker)


async def test_a_role_is_granted_only_to_groups_in_which_one_has_write(lab):
    worker = await lab.register()
    for role in Role:
        body = commands.GrantWorkerRoles(worker, {"alice": Role.READ, "lab": role})
        assert await change(lab, "alice", "update_roles", body) == "not_allowed"
    body = commands.GrantWorkerRoles(worker, {"nowhere": Role.READ})
    assert await change(lab, "alice", "update_roles", body) == "not_found"
    body = commands.RemoveWorkerRoles(worker, ("nowhere",))
    assert await change(lab, "alice", "remove_roles", body) == "not_found"


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("update_tags", commands.ReplaceWorkerTags("", ("a,b",)), "invalid"),
        ("update_tags", commands.ReplaceWorkerTags("", ("a\0",)), "invalid"),
        (
            "update_tags",
            commands.ReplaceWorkerTags("", tuple(map(str, range(65)))),
            "invalid.too_large",
        ),
        ("update_labels", commands.ReplaceWorkerLabels("", ("x" * 256,)), "invalid.too_large"),
        ("update_slots", commands.ChangeWorkerSlots("", 0), "invalid"),
        ("update_slots", commands.ChangeWorkerSlots("", 4_097), "invalid"),
        ("pause", commands.PauseWorker("", "x" * 1_001), "invalid.too_large"),
        ("drain", commands.DrainWorker("", reason="\0"), "invalid"),
    ],
)
async def test_what_is_out_of_bounds_is_refused(coordinator, verb, body, code):
    body.worker = await coordinator.register()
    assert await change(coordinator, "alice", verb, body) == code


async def test_what_waits_is_given_out_at_once_when_tags_roles_slots_or_a_pause_change(lab):
    worker = await lab.register("bob", tags=("cpu",))
    tagged = await lab.submit("bob", tags=("gpu",))
    assert lab.pushed() == []
    await change(lab, "bob", "update_tags", commands.ReplaceWorkerTags(worker, ("gpu",)))
    assert [a.task for a in lab.pushed()] == [tagged]
    of_group = await lab.submit("bob", group="lab", tags=("gpu",))
    await change(lab, "bob", "update_slots", commands.ChangeWorkerSlots(worker, 4))
    assert len(lab.pushed()) == 1
    await change(lab, "bob", "update_roles", commands.GrantWorkerRoles(worker, {"lab": Role.WRITE}))
    assert lab.pushed()[-1].task == of_group
    untagged = await lab.submit("bob")
    assert lab.pushed()[-1].task == of_group
    await change(lab, "bob", "pause", commands.PauseWorker(worker))
    await change(lab, "bob", "update_tags", commands.ReplaceWorkerTags(worker))
    assert lab.pushed()[-1].task == of_group
    await change(lab, "bob", "resume", commands.ResumeWorker(worker))
    assert lab.pushed()[-1].task == untagged
    assert all(lab.world.tasks[t].state is TaskState.RUNNING for t in (tagged, of_group, untagged))


async def test_more_slots_are_told_to_the_worker_before_the_tasks_for_them(coordinator):
    worker = await coordinator.register(slots=1)
    for _ in range(3):
        await coordinator.submit()
    before = len(coordinator.sent)
    await change(coordinator, "alice", "update_slots", commands.ChangeWorkerSlots(worker, 3))
    subjects = [subject for subject, _ in coordinator.sent[before:]]
    assert subjects[:3] == [f"mito.control.{worker}", *[f"mito.work.alice.{worker}"] * 2]
    order = msgspec.json.decode(coordinator.sent[before][1], type=work.Control)
    assert order == work.Resize(3)
    reply = await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    coordinator.store.let_through()
    assert coordinator.answer(reply, work.Renewed).result.slots == 3


async def test_a_resumed_worker_is_told_before_its_tasks_come(coordinator):
    worker = await coordinator.register()
    await change(coordinator, "alice", "pause", commands.PauseWorker(worker))
    await coordinator.submit()
    before = len(coordinator.sent)
    await change(coordinator, "alice", "resume", commands.ResumeWorker(worker))
    subjects = [subject for subject, _ in coordinator.sent[before:]]
    assert subjects[:2] == [f"mito.control.{worker}", f"mito.work.alice.{worker}"]
    order = msgspec.json.decode(coordinator.sent[before][1], type=work.Control)
    assert order == work.Resumed()


async def test_a_drain_that_the_worker_missed_is_told_again_with_its_renewal(coordinator):
    worker = await coordinator.register()
    await change(coordinator, "alice", "drain", commands.DrainWorker(worker, force=True))
    coordinator.sent.clear()
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    subject, data = coordinator.sent[0]
    assert subject == f"mito.control.{worker}"
    assert msgspec.json.decode(data, type=work.Control) == work.Drain(force=True)
    assert coordinator.world.workers[worker].phase is WorkerPhase.DRAINING


async def test_a_worker_that_leaves_by_itself_says_so_and_is_given_nothing_more(coordinator):
    worker = await coordinator.register(slots=2)
    running = await coordinator.submit()
    for _ in range(2):  # the second time nothing is stored
        stored = len(coordinator.store.stored)
        held = [work.Held(running, "alice", 1)]
        await coordinator.ask(
            worker, coordinator.reports.renew, work.Renew(held, leaving="its lifetime is over")
        )
        coordinator.store.let_through()
    assert len(coordinator.store.stored) == stored
    assert coordinator.world.workers[worker].phase is WorkerPhase.DRAINING
    waiting = await coordinator.submit()
    assert coordinator.world.tasks[waiting].state is TaskState.READY
    assert await coordinator.report(worker, coordinator.ended(running)) == [""]
    assert coordinator.world.tasks[waiting].attempt == 0


async def test_what_a_leaving_worker_hands_back_is_not_given_to_it_again(coordinator):
    """It went back and forth between the two a hundred times, until it was lost."""
    worker = await coordinator.register(slots=2)
    task = await coordinator.submit()
    back = work.TaskReport(task, "alice", 1, handed_back="SIGTERM")
    body = work.Reports([back], leaving="SIGTERM \0" + "x" * 9_000)
    await coordinator.ask(worker, coordinator.reports.report, body)
    coordinator.store.let_through()
    state = coordinator.world.tasks[task]
    assert (state.state, state.attempt, state.losses) == (TaskState.READY, 1, 0)
    other = await coordinator.register()
    assert coordinator.world.tasks[task].worker == other
    assert coordinator.world.workers == coordinator.replayed().workers


async def test_a_registration_that_is_refused_declares_nobody_dead(coordinator):
    worker = await coordinator.register(machine="m", folder="/w")
    task = await coordinator.submit()
    stored = len(coordinator.store.stored)
    for wrong in ({"tags": ("a,b",)}, {"slots": 0}, {"lifetime_seconds": -1.0}, {"host": "\0"}):
        body = commands.RegisterWorker(machine="m", folder="/w", **wrong)
        reply = await coordinator.ask("alice", coordinator.workers.register, body)
        coordinator.store.let_through()
        assert coordinator.answer(reply).error.code == "invalid", wrong
    assert len(coordinator.store.stored) == stored
    assert coordinator.world.tasks[task].worker == worker
    assert coordinator.world.workers == coordinator.replayed().workers


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e300])
async def test_a_lifetime_that_no_clock_can_hold_is_refused(coordinator, seconds):
    body = commands.RegisterWorker(lifetime_seconds=seconds)
    reply = await coordinator.ask("alice", coordinator.workers.register, body)
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.code == "invalid"


async def test_a_worker_without_a_lifetime_lives_as_long_as_a_session(coordinator):
    for given, told in ((None, 7 * 86_400.0), (3.0, 3.0)):
        body = commands.RegisterWorker(lifetime_seconds=given)
        reply = await coordinator.ask("alice", coordinator.workers.register, body)
        coordinator.store.let_through()
        answer = coordinator.answer(reply, commands.Registered)
        assert answer.result.lifetime_seconds == told


async def test_a_worker_whose_loss_is_told_is_asked_whether_it_is_there(coordinator):
    """The word of its loss may come behind its return: it waited minutes for its next renewal."""
    worker = await coordinator.register()
    held = object.__new__(Term)
    held.core = coordinator.core
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())  # it is back already
    coordinator.sent.clear()
    for name in (worker, ABSENT):
        held.worker_disconnected(name)
    [(subject, data)] = coordinator.sent
    assert subject == subjects.control(worker)
    assert msgspec.json.decode(data, type=work.Control) == work.Resync()
    task = await coordinator.submit()
    assert coordinator.core.world.tasks[task].state is TaskState.READY
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    assert coordinator.core.world.tasks[task].state is TaskState.RUNNING


async def test_presence_says_who_is_reachable_and_when_each_was_heard(coordinator):
    worker = await coordinator.register()
    handlers = PresenceHandlers(coordinator.core)
    caller = Caller("worker", "presence", "", "")

    def seen() -> list[Presence | None]:
        coordinator.core.standing.confirm()
        return handlers.presence(caller, PresenceWanted((worker, ABSENT))).found

    heard_at = coordinator.clock.now()
    coordinator.clock.seconds += 100
    assert seen() == [Presence(True, heard_at), None]
    coordinator.core.dispatcher.unreachable.add(worker)
    assert seen() == [Presence(False, heard_at), None]
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    assert seen() == [Presence(True, coordinator.clock.now()), None]
    coordinator.core.leases.forget(worker)
    coordinator.core.leases.assume(worker)  # as a new term does
    assert seen() == [Presence(True, None), None]
    coordinator.clock.seconds += 100
    with pytest.raises(Unavailable):
        handlers.presence(caller, PresenceWanted((worker,)))
