"""What was at a moment of the past is what the read models said then."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from mitosis.contract import subjects
from mitosis.contract.queries import (
    GetGroup,
    GetTask,
    GetWorker,
    ListAttachments,
    ListGroups,
    ListTasks,
    ListWorkers,
)
from mitosis.domain import attachment, group, task, worker
from mitosis.domain.retry import Retry
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome
from mitosis.errors import (
    InvalidInput,
    LimitReached,
    NotAllowed,
    NotFound,
    Rejection,
    ViewUnavailable,
)
from mitosis.projections import past, queries
from mitosis.projections.pool import ReadPool
from mitosis.projections.queries import Queries
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import START, History, campaign
from mitosis.testing.views import project
from mitosis.testing.waiting import eventually

MOMENTS = 25


class Long(NamedTuple):
    """A platform with a past, and an empty database that can follow it step by step."""

    queries: Queries
    history: History
    other_url: str


def eventful(seed: int) -> History:
    """Return a history in which everything that can be asked for changes."""
    history = campaign(seed, 60, live=10)
    workers = [tail.partition(".")[2] for tail in history.states if tail.startswith("worker.")]
    lab = subjects.group_tail("lab")
    tasks = [history.submit("lab", "alice", argv=("sh", str(n)), tags=("net",)) for n in range(8)]
    tails = [subjects.task_tail("lab", uuid) for uuid in tasks]
    history.decide(tails[0], task.AssignTask(workers[2], 60.0))
    history.decide(lab, group.ChangeMembers({"bob": Role.WRITE, "root": Role.READ}))
    history.decide(tails[1], task.ReplaceTaskLabels(("later",)))
    history.decide(tails[2], task.ChangeTask(task.TaskSpec(("other",), tags=("arm",), priority=9)))
    history.decide(subjects.worker_tail(workers[2]), worker.ReplaceWorkerTags(("gpu",)))
    history.decide(subjects.worker_tail(workers[2]), worker.RemoveWorkerRoles(("lab",)))
    history.store_attachment("lab", "in/new %s.bin", 77)
    history.store_attachment("lab", "in/new %s.bin", 7)
    history.decide(subjects.attachment_tail("lab", "in/new %s.bin"), attachment.DeleteAttachment())
    history.decide(tails[0], task.RequeueTask(1, "handed back", counted=False))
    history.decide(subjects.worker_tail(workers[2]), worker.GrantWorkerRoles({"lab": Role.READ}))
    history.decide(lab, group.ChangeMembers({}, ("root",)))
    history.decide(subjects.group_tail("short"), group.CreateGroup("short", "alice"))
    history.decide(
        subjects.group_tail("short"), group.ChangeGroupState(group.GroupPhase.DELETED, "over")
    )
    history.decide(subjects.worker_tail(workers[2]), worker.LeaveWorker("done"))
    for tail in tails[3:]:
        history.decide(tail, task.RequestCancel("not needed"))
    return history


@pytest.fixture(scope="module")
def filled(make_database: Callable[[], str]) -> tuple[History, str, str]:
    history, url = eventful(7), make_database()
    asyncio.run(project(url, history))
    return history, url, make_database()


@pytest.fixture
async def long(filled: tuple[History, str, str]) -> AsyncIterator[Long]:
    history, url, other_url = filled
    pool = ReadPool(url)
    yield Long(Queries(pool, decode), history, other_url)
    await pool.close()


def questions(history: History, pick: random.Random) -> list[Callable[[Queries, Any], Any]]:
    """Return one of each kind, with different filters; each takes who answers, and when."""
    tails = [tail.split(".") for tail in history.states]
    tasks = [t[2] for t in tails if t[0] == "task"]
    workers = [t[1] for t in tails if t[0] == "worker"]
    user = pick.choice(("root", "alice", "alice", "bob"))
    name = pick.choice(("alice", "bob", "lab", "lab", "short"))
    one, number, runner = pick.choice(tasks), pick.randrange(1, 20), pick.choice(workers)
    filters: dict[str, Any] = pick.choice((
        {}, {"states": ("running", "ready")}, {"labels": ("run-1",)}, {"limit": 5, "offset": 2},
        {"outcomes": (Outcome.FAILED,)}, {"tags": ("net",), "limit": 3}, {"count_only": True},
        {"priority": ">0"}, {"creators": ("alice",), "before": 9}, {"exit_status": "7"},
    ))  # fmt: skip
    return [
        lambda q, at: q.get_task(user, GetTask(one, at)),
        lambda q, at: q.get_task(user, GetTask(f"lab#{number}", at)),
        lambda q, at: q.get_task("alice", GetTask("last", at)),
        lambda q, at: q.list_tasks(user, ListTasks(group=name, as_of=at, **filters)),
        lambda q, at: q.get_worker(user, GetWorker(runner, at)),
        lambda q, at: q.list_workers(user, ListWorkers(group=name, all=number > 9, as_of=at)),
        lambda q, at: q.get_group(user, GetGroup(name, at)),
        lambda q, at: q.list_groups(user, ListGroups(at)),
        lambda q, at: q.list_attachments(user, ListAttachments(group=name, as_of=at)),
    ]


async def answer(asked: Awaitable[Any]) -> Any:
    """Return it byte for byte, with the order of what is in it; or the type of the refusal."""
    try:
        return msgspec.json.encode(await asked)
    except Rejection as error:
        return type(error)


@pytest.mark.parity("W-02")
async def test_every_answer_is_the_one_that_was_given_then(long: Long) -> None:
    pick = random.Random(5)  # noqa: S311  the same moments in every run
    whole = long.history.commits
    positions = sorted(pick.sample(range(8, len(whole) + 1), MOMENTS))
    positions[-1] = len(whole)
    pool, compared = ReadPool(long.other_url), 0
    then = Queries(pool, decode)
    try:
        for position in positions:
            long.history.commits = whole[:position]
            await project(long.other_url, long.history)
            long.history.commits = whole
            time = START + timedelta(milliseconds=position - 1, microseconds=500)
            for ask in questions(long.history, pick):
                was = await answer(ask(then, None))
                if was is NotAllowed:
                    continue  # he may now
                assert await answer(ask(long.queries, position)) == was
                assert await answer(ask(long.queries, time)) == was
                compared += not isinstance(was, type)
    finally:
        await pool.close()
    assert compared > 4 * MOMENTS


async def test_roles_and_members_come_in_the_same_order_now_and_then(
    make_database: Callable[[], str],
) -> None:
    """Those that were stored last come first by name."""
    url, history = make_database(), campaign(3, 4)
    runner = history.add_worker("alice", {"lab": Role.WRITE})
    lab = subjects.group_tail("lab")
    await project(url, history)
    history.decide(subjects.worker_tail(runner), worker.GrantWorkerRoles({"alice": Role.READ}))
    history.decide(subjects.group_tail("early"), group.CreateGroup("early", "alice"))
    history.decide(lab, group.ChangeMembers({"aaron": Role.READ}))
    await project(url, history)
    pool, position = ReadPool(url), len(history.commits)
    queries = Queries(pool, decode)
    try:
        asked: list[Callable[[int | None], Awaitable[Any]]] = [
            lambda at: queries.get_worker("alice", GetWorker(runner, at)),
            lambda at: queries.get_group("alice", GetGroup("lab", at)),
            lambda at: queries.list_groups("alice", ListGroups(at)),
        ]
        was = [await answer(ask(None)) for ask in asked]
        history.decide(subjects.worker_tail(runner), worker.PauseWorker("a change"))
        history.decide(lab, group.ChangeMembers({"zoe": Role.READ}))
        await project(url, history)
        assert [await answer(ask(position)) for ask in asked] == was
        for text, key in zip(was, ("roles", "members", "groups"), strict=True):
            names = list(msgspec.json.decode(text)[key])
            assert names == sorted(names), key
    finally:
        await pool.close()


def restless(seed: int) -> History:
    """Return a history in which each of fifty tasks of one group has something done to it often."""
    history, pick = campaign(seed, 3), random.Random(seed)  # noqa: S311  the same in every run
    box = history.add_worker("alice", {"lab": Role.WRITE})
    exit_ = task.Exit(task.ExitKind.CODE, 7)
    stored = task.Artifact(task.ArtifactKind.RESULT, "one", 5, "0" * 64)
    live = [
        history.submit(
            "lab", "alice", argv=(str(n),), labels=(f"run-{n % 3}",), tags=("net",) * (n % 2),
            priority=n % 3, retry=Retry(times=2, delay_seconds=0.5),
        )
        for n in range(50)
    ]  # fmt: skip
    for _ in range(900):
        tail = subjects.task_tail("lab", pick.choice(live))
        attempt = history.states[tail].attempt
        command: task.Command = pick.choice((
            task.AssignTask(box, 60.0), task.ReportStart(box, attempt, ()),
            task.ReportExit(box, attempt, exit_), task.ReportExit(box, attempt, exit_),
            task.CommitTask(box, attempt, history.now), task.BeginRetry(),
            *[task.AssignTask(box, 60.0)] * 3,
            pick.choice((
                task.RequeueTask(attempt, "handed back", counted=False),
                task.RequestCancel("no"), task.ReplaceTaskLabels((f"new-{pick.randrange(3)}",)),
                task.ChangeTask(task.TaskSpec(("x",), priority=9, tags=("arm",))),
                task.StoreArtifact(box, attempt, stored),
                task.DeleteArtifact(task.ArtifactKind.RESULT),
            )),
        ))  # fmt: skip
        try:
            history.decide(tail, command)
        except Rejection:
            continue
    return history


FILTERS: tuple[dict[str, Any], ...] = (
    {}, {"states": ("running", "ready")}, {"states": ("pending",)}, {"states": ("finished",)},
    {"outcomes": (Outcome.FAILED,)}, {"exit_status": "7"}, {"exit_status": "!=7"},
    {"labels": ("run-1",)}, {"labels": ("new-1",)}, {"tags": ("net",)}, {"tags": ("arm",)},
    {"priority": ">1"}, {"creators": ("alice",)}, {"before": 20, "states": ("ready",)},
)  # fmt: skip


@pytest.mark.parity("W-02")
async def test_tasks_that_have_all_changed_since_are_found_as_they_were_by_every_filter(
    make_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More has changed than may be read again for one answer; a page and counts need less."""
    history = restless(11)
    whole = history.commits
    url, other_url = make_database(), make_database()
    await project(url, history)
    monkeypatch.setattr(past, "MAX_FOLDED_COMMITS", 250)
    pick = random.Random(1)  # noqa: S311  the same moments in every run
    moments = sorted(pick.sample(range(len(whole) // 4, len(whole)), 12))
    pools = ReadPool(url), ReadPool(other_url)
    now, then = (Queries(pool, decode) for pool in pools)
    seen: set[str] = set()
    try:
        for position in moments:
            history.commits = whole[:position]
            await project(other_url, history)
            for filters in FILTERS:
                wanted = ListTasks(group="lab", limit=4, offset=pick.randrange(3), **filters)
                was = await then.list_tasks("alice", wanted)
                wanted.as_of = position
                assert await now.list_tasks("alice", wanted) == was, (position, filters)
                seen |= {str(view.state) for view in was.tasks}
                wanted.count_only = True
                assert (await now.list_tasks("alice", wanted)).counts == was.counts
    finally:
        for pool in pools:
            await pool.close()
    assert seen == {"pending", "ready", "running", "finished", "cancelled"}


async def test_roles_of_now_decide_who_may_ask(long: Long) -> None:
    last = len(long.history.commits)
    with pytest.raises(NotAllowed):
        await long.queries.list_tasks("bob", ListTasks(group="alice", as_of=last - 5))
    with pytest.raises(NotAllowed, match="locked"):
        await long.queries.list_groups("carol", ListGroups(1))
    with pytest.raises(NotAllowed):
        await long.queries.get_group("alice", GetGroup("short", last - 1))
    assert (await long.queries.get_group("root", GetGroup("short", last))).state == "deleted"


async def test_before_the_first_commit_there_was_nothing(long: Long) -> None:
    for moment in (0, START - timedelta(days=1)):
        with pytest.raises(NotFound):
            await long.queries.list_tasks("alice", ListTasks(group="lab", as_of=moment))
        with pytest.raises(NotFound):
            await long.queries.get_task("alice", GetTask("last", moment))
        assert (await long.queries.list_groups("alice", ListGroups(moment))).groups == {}


async def test_what_is_still_to_come_is_refused_with_the_newest_position(long: Long) -> None:
    head = len(long.history.commits)
    with pytest.raises(InvalidInput, match=f"the newest one is {head}") as refused:
        await long.queries.list_groups("alice", ListGroups(head + 1))
    assert refused.value.details["position"] == head
    tomorrow = long.history.now.replace(year=2100)
    with pytest.raises(InvalidInput, match="still to come"):
        await long.queries.list_groups("alice", ListGroups(tomorrow))
    with pytest.raises(InvalidInput, match="zone"):
        await long.queries.list_groups("alice", ListGroups(tomorrow.replace(tzinfo=None)))
    with pytest.raises(InvalidInput):
        await long.queries.list_groups("alice", ListGroups(-1))


async def test_more_than_can_be_read_again_is_refused_with_advice(
    long: Long, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MAX_FOLDED_COMMITS", 3)
    with pytest.raises(LimitReached, match="mito events replay --to 100"):
        await long.queries.list_tasks("alice", ListTasks(group="lab", as_of=100))
    monkeypatch.undo()
    monkeypatch.setattr(past, "MAX_FOLDED_BYTES", 100)
    with pytest.raises(LimitReached, match="bytes"):
        await long.queries.list_tasks("alice", ListTasks(group="lab", as_of=100))


async def test_an_answer_that_takes_too_long_is_refused_with_the_same_advice(
    long: Long, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the connection serves the next one."""
    monkeypatch.setattr(queries, "PAST_SECONDS", 0.001)
    with pytest.raises(LimitReached, match=r"more than 0\.001 s just now.*replay --to 100"):
        await long.queries.list_tasks("alice", ListTasks(group="lab", as_of=100))
    monkeypatch.undo()
    await long.queries.list_tasks("alice", ListTasks(group="lab", as_of=100))


async def test_questions_to_the_past_leave_room_for_the_present(
    long: Long, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAST_WAIT_SECONDS", 0.05)
    wanted, held = ListTasks(group="lab", as_of=100), asyncio.Event()

    async def hold(*_: object) -> None:
        await held.wait()

    monkeypatch.setattr(queries.past_reads, "recall_tasks", hold)
    slow = [asyncio.create_task(long.queries.list_tasks("alice", wanted)) for _ in range(2)]
    await eventually(long.queries._past_free.locked)
    with pytest.raises(ViewUnavailable, match="too many questions to the past"):
        await long.queries.list_tasks("alice", wanted)
    assert (await long.queries.list_tasks("alice", ListTasks(group="lab"))).tasks
    held.set()
    await asyncio.gather(*slow, return_exceptions=True)


async def test_a_read_of_the_past_leaves_the_connection_as_it_was(long: Long) -> None:
    pool = long.queries._pool
    for _ in range(3):
        await long.queries.list_tasks("alice", ListTasks(group="lab", as_of=100))
        now = await long.queries.list_tasks("alice", ListTasks(group="lab"))
        assert now.counts["running"] == 0
    assert len(pool._idle) == 1
