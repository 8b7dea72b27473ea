"""A command whose answer was lost with the coordinator comes again to the next one."""

from typing import Any

import msgspec
import pytest

from mitosis.contract import commands, subjects
from mitosis.domain.attachment import StoreAttachment
from mitosis.domain.group import GroupPhase
from mitosis.domain.quotas import QuotaChange
from mitosis.domain.roles import Role
from mitosis.domain.task import Artifact, ArtifactKind, StoreArtifact
from mitosis.domain.user import UserPhase
from mitosis.services.coordinator.repeats import REPEATS, once

Bodies = dict[str, msgspec.Struct]


async def ask(
    coordinator: Any, verb: str, body: msgspec.Struct, owner: str = "root", command: str = ""
) -> Any:
    """The result of a command by its verb, or the code of its error; its id is usually the verb."""
    every = (coordinator.tasks, coordinator.users, coordinator.groups, coordinator.workers,
             coordinator.files, coordinator.secrets)  # fmt: skip
    handlers = {name: handler for some in every for name, _, handler in some.verbs()}
    handler = once(coordinator.core, verb, handlers[verb])
    reply = await coordinator.ask(owner, handler, body, command or verb)
    coordinator.store.let_through()
    answer = coordinator.answer(reply, dict)
    return answer.result if answer.error is None else answer.error.code


def next_term(coordinator: Any) -> None:
    """Another coordinator has read the same history."""
    coordinator.world = coordinator.replayed()
    coordinator.start()
    coordinator.core.dispatcher.restore()
    for name in coordinator.world.workers:
        coordinator.core.leases.assume(name)


def with_files(coordinator: Any, group: str, name: str) -> None:
    """Have an attachment in a group and an artifact of its task."""
    unit, digest = coordinator.core.journal.unit("system:test"), "0" * 64
    file = StoreAttachment(group, "data", f"{group}/x", 5, digest)
    unit.run(subjects.attachment_tail(group, "data"), file)
    output = StoreArtifact("", 0, Artifact(ArtifactKind.RESULT, f"{name}/0/x/r", 5, digest))
    unit.run(subjects.task_tail(group, name), output)
    unit.close()
    coordinator.store.let_through()


@pytest.fixture
async def bodies(coordinator: Any) -> Bodies:
    """For each verb a command that changes something."""
    for name in ("bob", "eve", "ann"):
        coordinator.add_user(name)
    for group in ("lab", "old"):
        await ask(coordinator, "group.create", commands.CreateGroup(group), command=group)
    parked, labelled, changed = [await coordinator.submit("root") for _ in range(3)]
    worker = await coordinator.register("root", tags=("gpu",), slots=2)
    leaver = await coordinator.register("root", tags=("none",))
    with_files(coordinator, "root", labelled)
    return {
        "artifact.delete": commands.DeleteArtifact(labelled, ArtifactKind.RESULT),
        "attachment.delete": commands.DeleteAttachment("data"),
        "task.cancel": commands.CancelTask(parked),
        "task.label": commands.ReplaceTaskLabels(labelled, ("new",)),
        "task.change": commands.ChangeTask(changed, priority=3),
        "user.create": commands.CreateUser("dan", "of-dan-it-is"),
        "user.reset_password": commands.ResetPassword("eve", "of-eve-it-is"),
        "user.set_state": commands.ChangeUserState("ann", UserPhase.DELETED),
        "user.set_admin": commands.ChangeAdmin("bob", True),
        "user.set_group_quota": commands.ChangeGroupQuota("bob", QuotaChange(2, relative=True)),
        "group.create": commands.CreateGroup("new"),
        "group.change_members": commands.ChangeMembers("lab", {"bob": Role.READ}),
        "group.set_state": commands.ChangeGroupState("old", GroupPhase.DELETED),
        "group.set_storage_quota": commands.ChangeStorageQuota("lab", QuotaChange(5, True)),
        "worker.drain": commands.DrainWorker(leaver),
        "worker.update_tags": commands.ReplaceWorkerTags(worker, ("cpu",)),
        "worker.update_labels": commands.ReplaceWorkerLabels(worker, ("blue",)),
        "worker.update_roles": commands.GrantWorkerRoles(worker, {"lab": Role.WRITE}),
        "worker.update_slots": commands.ChangeWorkerSlots(worker, 3),
        "worker.pause": commands.PauseWorker(worker, "lunch"),
    }


async def test_a_command_that_a_former_term_has_done_is_answered_as_it_was_and_not_done_again(
    coordinator: Any, bodies: Bodies
) -> None:
    first = {verb: await ask(coordinator, verb, body) for verb, body in bodies.items()}
    assert all(isinstance(answer, dict) for answer in first.values()), first
    stored = len(coordinator.store.stored)
    next_term(coordinator)
    again = {verb: await ask(coordinator, verb, body) for verb, body in bodies.items()}
    assert again == first
    assert len(coordinator.store.stored) == stored


async def test_the_same_by_another_command_or_somebody_else_is_done_or_refused_by_the_rules(
    coordinator: Any, bodies: Bodies
) -> None:
    for verb, body in bodies.items():
        await ask(coordinator, verb, body)
    next_term(coordinator)
    cancel, create = bodies["task.cancel"], bodies["group.create"]
    assert await ask(coordinator, "task.cancel", cancel, command="c2") == "conflict.state"
    assert await ask(coordinator, "task.cancel", cancel, owner="alice") == "not_found"
    assert await ask(coordinator, "group.create", create, command="c3") == "conflict.exists"
    quota = bodies["user.set_group_quota"]
    before = coordinator.world.users["bob"].group_quota
    assert await ask(coordinator, "user.set_group_quota", quota, command="c4") == {
        "quota": before + 2
    }
    assert await ask(coordinator, "user.set_group_quota", quota, owner="alice") == "not_allowed"


async def test_what_somebody_has_changed_since_is_not_undone_by_a_repeat(
    coordinator: Any, bodies: Bodies
) -> None:
    pause = bodies["worker.pause"]
    assert isinstance(pause, commands.PauseWorker)
    await ask(coordinator, "worker.pause", pause)
    next_term(coordinator)
    resume = commands.ResumeWorker(pause.worker)
    assert await ask(coordinator, "worker.resume", resume, command="c2")
    assert await ask(coordinator, "worker.pause", pause) == {
        "worker": pause.worker, "changed": True,
    }  # fmt: skip
    assert coordinator.world.workers[pause.worker].phase.value == "normal"


async def test_a_cancel_of_a_running_task_that_has_ended_since_is_no_conflict(
    coordinator: Any,
) -> None:
    worker = await coordinator.register()
    task = await coordinator.submit()
    cancel = commands.CancelTask(task)
    assert (await ask(coordinator, "task.cancel", cancel, "alice"))["ended"] is False
    next_term(coordinator)
    assert (await ask(coordinator, "task.cancel", cancel, "alice"))["ended"] is False
    await coordinator.report(worker, coordinator.ended(task))
    coordinator.start()  # nor while the answer of a second one is lost
    assert (await ask(coordinator, "task.cancel", cancel, "alice"))["ended"] is True


async def test_a_password_that_was_changed_is_not_called_wrong_in_the_repeat(
    coordinator: Any,
) -> None:
    await ask(coordinator, "user.reset_password", commands.ResetPassword("alice", "first-one-is"))
    change = commands.ChangePassword("first-one-is", "second-one-is")
    first = await ask(coordinator, "user.change_password", change, "alice")
    assert first == {"changed": True}
    next_term(coordinator)
    assert await ask(coordinator, "user.change_password", change, "alice") == first


@pytest.mark.parametrize("secrets", [{}, {"TOKEN": "of bob"}])
@pytest.mark.parametrize("verb", ["task.submit", "task.submit_many"])
async def test_a_submit_is_answered_again_to_who_may_submit_no_more(
    coordinator: Any, verb: str, secrets: dict[str, str]
) -> None:
    """Else it would be called refused, and run."""
    await coordinator.register("alice")
    coordinator.add_user("bob")
    wanted = commands.SubmitTask(("true",), key="k", group="alice", secret_env=secrets)
    body = wanted if verb == "task.submit" else commands.SubmitMany([wanted])
    give = commands.ChangeMembers("alice", {"bob": Role.WRITE})
    await ask(coordinator, "group.change_members", give, "alice", "give")
    first = await ask(coordinator, verb, body, "bob")
    next_term(coordinator)
    take = commands.ChangeMembers("alice", {"bob": Role.READ})
    await ask(coordinator, "group.change_members", take, "alice", "take")
    assert await ask(coordinator, verb, body, "bob") == first
    other = msgspec.structs.replace(wanted, key="another")
    assert await ask(coordinator, "task.submit", other, "bob", "another") == "not_allowed"


def test_every_command_is_either_the_same_for_ever_or_looked_up(coordinator: Any) -> None:
    same_for_ever = {
        "task.submit", "task.submit_many",  # by key
        "attachment.begin", "artifact.begin", "upload.parts", "upload.abort",  # nothing is stored
        "attachment.complete", "artifact.complete",  # by upload
        "session.revoke",  # what has ended stays so
        "worker.register",  # the second one succeeds the first, which was given nothing
    }  # fmt: skip
    every = (coordinator.tasks, coordinator.users, coordinator.groups, coordinator.workers,
             coordinator.files, coordinator.secrets)  # fmt: skip
    verbs = {name for some in every for name, _, _ in some.verbs()}
    assert verbs - same_for_ever == REPEATS.keys()
