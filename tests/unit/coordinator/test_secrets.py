"""Secret variables at the coordinator: where the key is, who is told, and when it is destroyed."""

from typing import Any

import msgspec
import pytest

from mitosis.contract import commands, work
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome, TaskState

from .conftest import Coordinator

STALE = "conflict.stale_attempt"
VALUES = {"TOKEN": "plaintext-1", "OTHER": "plaintext-2"}


async def told(coordinator: Coordinator, worker: str, task: str, attempt: int = 1) -> Any:
    body = work.SecretsWanted(task, attempt)
    return coordinator.answer(
        await coordinator.ask(worker, coordinator.told.tell, body, "again"), work.Secrets
    )


async def erase(coordinator: Coordinator, owner: str, task: str) -> Any:
    body = commands.EraseSecrets(task, "leaked")
    reply = await coordinator.ask(owner, coordinator.secrets.erase, body)
    coordinator.store.let_through()
    return coordinator.answer(reply, commands.Changed)


async def submitted(coordinator: Coordinator, owner: str = "alice", **options: Any) -> Any:
    body = commands.SubmitTask(("true",), **options)
    reply = await coordinator.ask(owner, coordinator.tasks.submit, body)
    coordinator.store.let_through()
    return coordinator.answer(reply, commands.Submitted)


async def clean(coordinator: Coordinator) -> None:
    """Destroy what is doomed, as the loop of the term does."""
    await coordinator.vault._destroy_doomed()


async def test_only_the_worker_of_the_live_attempt_is_told_as_often_as_it_asks(
    coordinator: Coordinator,
) -> None:
    worker, other = await coordinator.register(), await coordinator.register("root")
    task = await coordinator.submit(secret_env=VALUES)
    for _ in range(2):
        assert (await told(coordinator, worker, task)).result.values == VALUES
    for asker, attempt in ((other, 1), (worker, 2)):
        assert (
            await told(coordinator, asker, task, attempt)
        ).error.code == "conflict.stale_attempt"
    await coordinator.report(worker, coordinator.ended(task))
    assert (await told(coordinator, worker, task)).error.code == STALE


async def test_neither_the_store_nor_a_push_nor_a_kept_reply_has_a_value(
    coordinator: Coordinator,
) -> None:
    worker = await coordinator.register()
    task = await coordinator.submit(secret_env=VALUES)
    kept = b"".join(data for _, _, data in coordinator.store.stored)
    pushed = b"".join(data for _, data in coordinator.sent)
    assert (await told(coordinator, worker, task)).result.values == VALUES
    answered = b"".join(filter(None, coordinator.core.answered._replies.values()))
    keys = b"".join(coordinator.keys.kept.values())
    for place in (kept, pushed, answered, keys):
        assert b"plaintext" not in place
    assert coordinator.store.topics()[-2:] == [
        ["secret.stored"], ["task.submitted", "task.ready", "task.assigned"],
    ]  # fmt: skip
    assert coordinator.pushed()[0].spec.secrets == ("OTHER", "TOKEN")
    assert "plaintext" not in repr(commands.SubmitTask(("true",), "k", secret_env=VALUES))
    assert "plaintext" not in repr(work.Secrets(VALUES))


async def test_the_key_goes_with_the_end_of_the_task_and_not_before(
    coordinator: Coordinator,
) -> None:
    worker = await coordinator.register()
    task = await coordinator.submit(secret_env=VALUES)
    await coordinator.report(worker, work.TaskReport(task, "alice", 1, handed_back="leaving"))
    await clean(coordinator)
    assert (await told(coordinator, worker, task, 2)).result.values == VALUES
    await coordinator.report(worker, coordinator.ended(task, attempt=2))
    await clean(coordinator)
    assert coordinator.keys.kept == {}


async def test_a_cancelled_task_and_changed_secrets_lose_their_keys(
    coordinator: Coordinator,
) -> None:
    task = await coordinator.submit(secret_env=VALUES)
    (first,) = coordinator.keys.kept
    for wanted, left in (({"TOKEN": "plaintext-3"}, 1), (None, 1), ({}, 0)):
        change = commands.ChangeTask(task, secret_env=wanted, priority=left)
        await coordinator.ask("alice", coordinator.tasks.change, change)
        coordinator.store.let_through()
        await clean(coordinator)
        assert len(coordinator.keys.kept) == left
        assert first not in coordinator.keys.kept
    assert coordinator.world.tasks[task].spec.secrets == ()
    other = await coordinator.submit(secret_env=VALUES)
    await coordinator.ask("alice", coordinator.tasks.cancel, commands.CancelTask(other))
    coordinator.store.let_through()
    await clean(coordinator)
    assert coordinator.keys.kept == {}


async def test_erased_secrets_are_told_to_nobody_and_the_attempt_ends_with_the_reason(
    coordinator: Coordinator,
) -> None:
    task = await coordinator.submit(secret_env=VALUES)
    assert (await erase(coordinator, "alice", task)).result.changed
    assert coordinator.keys.kept == {}
    assert not (await erase(coordinator, "alice", task)).result.changed
    worker = await coordinator.register()
    answer = (await told(coordinator, worker, task)).result
    assert (answer.values, "erased" in answer.missing) == ({}, True)
    assert [events for events in coordinator.store.topics() if "task.secrets_erased" in events]


async def test_the_creator_and_admins_erase_and_nobody_else(coordinator: Coordinator) -> None:
    for name in ("bob", "carol", "dave"):
        coordinator.add_user(name)
    roles = {"bob": Role.ADMIN, "carol": Role.WRITE}
    await coordinator.ask(
        "alice", coordinator.groups.change_members, commands.ChangeMembers("alice", roles)
    )
    coordinator.store.let_through()
    for name, code in (
        ("alice", ""), ("bob", ""), ("root", ""), ("carol", "not_allowed"), ("dave", "not_found"),
    ):  # fmt: skip
        task = await coordinator.submit(secret_env=VALUES)
        answer = await erase(coordinator, name, task)
        assert (answer.error.code if answer.error else "") == code, name
        assert coordinator.world.tasks[task].erased is not bool(code)


async def test_the_same_submit_again_is_the_same_task_and_another_secret_is_a_conflict(
    coordinator: Coordinator,
) -> None:
    first = await submitted(coordinator, key="k", secret_env=VALUES)
    again = await submitted(coordinator, key="k", secret_env=VALUES)
    assert again.result.task == first.result.task
    for other in ({**VALUES, "TOKEN": "plaintext-3"}, {"TOKEN": "plaintext-1"}, {}):
        answer = await submitted(coordinator, key="k", secret_env=other)
        assert answer.error.code == "conflict.exists", other
    await clean(coordinator)
    assert len(coordinator.keys.kept) == 1
    assert len([t for t in coordinator.store.topics() if t == ["secret.stored"]]) == 1


async def test_many_are_sealed_one_by_one_and_a_repeat_in_one_request_is_noticed(
    coordinator: Coordinator,
) -> None:
    bodies = [
        commands.SubmitTask(("true",), key, secret_env={"TOKEN": value})
        for key, value in (("a", "one"), ("b", "one"), ("a", "one"), ("a", "two"), ("c", "x\0"))
    ]
    reply = await coordinator.ask(
        "alice", coordinator.tasks.submit_many, commands.SubmitMany(bodies)
    )
    coordinator.store.let_through()
    results = coordinator.answer(reply, commands.SubmittedMany).result.results
    codes = [one.error.code if one.error else "" for one in results]
    assert codes == ["", "", "", "conflict.exists", "invalid"]
    await clean(coordinator)
    assert len(coordinator.keys.kept) == 2


@pytest.mark.parametrize(
    ("owner", "options"),
    [
        ("alice", {"secret_env": {"TOKEN": ""}}),
        ("alice", {"secret_env": {"1": "x"}}),
        ("alice", {"secret_env": {"A": "x"}, "env": {"A": "y"}}),
        ("alice", {"secret_env": {"A": "x"}, "priority": 2**40}),
        ("bob", {"secret_env": {"A": "x"}, "group": "alice"}),
        ("alice", {"secret_env": {"A": "x"}, "group": "nowhere"}),
    ],
)
async def test_a_refused_submit_leaves_neither_a_key_nor_a_commit(
    coordinator: Coordinator, owner: str, options: dict[str, Any]
) -> None:
    coordinator.add_user("bob")
    before = len(coordinator.store.stored)
    answer = await submitted(coordinator, owner, key="k", **options)
    assert answer.error is not None
    await clean(coordinator)
    assert (coordinator.keys.kept, len(coordinator.store.stored)) == ({}, before)


async def test_a_new_term_opens_what_the_former_one_has_sealed_and_sweeps_the_rest(
    coordinator: Coordinator,
) -> None:
    task = await coordinator.submit(secret_env=VALUES)
    coordinator.keys.kept["f" * 32] = b"a key whose commit never came"
    coordinator.world = coordinator.replayed()
    coordinator.start()
    assert not [tail for tail in coordinator.world.heads if tail.startswith("secret.")]
    coordinator.vault.doom(await coordinator.keys.stored() - coordinator.vault._alive())
    await clean(coordinator)
    assert list(coordinator.keys.kept) == [coordinator.world.tasks[task].spec.sealing]
    coordinator.core.dispatcher.restore()
    worker = await coordinator.register()
    assert (await told(coordinator, worker, task)).result.values == VALUES


async def test_a_task_whose_key_is_gone_is_repeated_by_names(coordinator: Coordinator) -> None:
    worker = await coordinator.register()
    first = await submitted(coordinator, key="k", secret_env=VALUES)
    await coordinator.report(worker, coordinator.ended(first.result.task))
    await clean(coordinator)
    again = await submitted(coordinator, key="k", secret_env={**VALUES, "TOKEN": "plaintext-3"})
    assert again.result.task == first.result.task
    await clean(coordinator)
    assert coordinator.keys.kept == {}
    assert (await submitted(coordinator, key="k", secret_env={"X": "y"})).error is not None


def test_outcome_of_what_cannot_start() -> None:
    """That a refused attempt ends its task is the rule of `not_started` exits."""
    from mitosis.domain.task import Exit, ExitKind, judge

    outcome, reason = judge(Exit(ExitKind.NOT_STARTED, reason="erased"), cancel_requested=False)
    assert (outcome, outcome.state) == (Outcome.ERROR, TaskState.CANCELLED)
    assert "erased" in reason


def test_no_body_of_a_command_prints_a_secret() -> None:
    from mitosis.config.client import ChangeTaskArgs, SubmitTaskArgs

    for made in (
        commands.ChangeTask("t", secret_env=VALUES),
        commands.SubmitMany([commands.SubmitTask(("true",), "k", secret_env=VALUES)]),
        SubmitTaskArgs(command=("true",), secret_envs=VALUES),
        ChangeTaskArgs(task="t", secret_envs=VALUES),
    ):
        assert "plaintext" not in repr(made)
        assert b"plaintext" in msgspec.json.encode(made)
