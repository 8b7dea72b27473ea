"""The history: everything that was stored, for those who may read the thing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import NamedTuple

import pytest

from mitosis.contract import subjects
from mitosis.contract.queries import ListEvents
from mitosis.domain import attachment, group, task, user, worker
from mitosis.domain.roles import Role
from mitosis.errors import InvalidInput, NotAllowed, NotFound
from mitosis.projections.pool import ReadPool
from mitosis.projections.queries import Queries
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import START, History
from mitosis.testing.views import project


class Lab(NamedTuple):
    """root: platform admin; alice: Admin of lab; bob: Read in lab; eve: nothing there."""

    queries: Queries
    history: History
    tasks: list[str]
    runner: str


@pytest.fixture(scope="module")
def filled(make_database: Callable[[], str]) -> tuple[str, History, list[str], str]:
    history = History()
    history.add_user("root", admin=True)
    for name in ("alice", "bob", "eve"):
        history.add_user(name)
    history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "alice"))
    history.add_member("lab", "bob", Role.READ)
    runner = history.add_worker("alice", {"alice": Role.WRITE, "lab": Role.WRITE})
    expires = history.now + timedelta(days=1)
    opened = user.OpenSession("s" * 22, expires, history.now, "192.0.2.7")
    history.decide(subjects.user_tail("alice"), opened)
    tasks = [history.submit("lab", "alice", argv=("echo", str(n))) for n in range(5)]
    cancel = task.RequestCancel("not needed")
    tail = subjects.task_tail("lab", tasks[1])
    history.decide(tail, cancel, session="s" * 22)
    stored = attachment.StoreAttachment("lab", "a/b c.txt", "lab/up", 3, "0" * 64)
    history.decide(subjects.attachment_tail("lab", "a/b c.txt"), stored)
    history.decide(subjects.worker_tail(runner), worker.ReplaceWorkerTags(("gpu",)))
    url = make_database()
    asyncio.run(project(url, history))
    return url, history, tasks, runner


@pytest.fixture
async def lab(filled: tuple[str, History, list[str], str]) -> AsyncIterator[Lab]:
    url, history, tasks, runner = filled
    pool = ReadPool(url)
    yield Lab(Queries(pool, decode), history, tasks, runner)
    await pool.close()


async def test_the_history_of_a_task_says_who_did_what_when_and_from_where(lab: Lab) -> None:
    wanted = ListEvents(kind="task", name=lab.tasks[1])
    page = await lab.queries.list_events("bob", wanted)
    submitted, cancelled = page.commits
    assert [e.event for e in submitted.events] == ["task.submitted@1", "task.ready@1"]
    assert submitted.events[0].data["spec"]["argv"] == ["echo", "1"]
    assert cancelled.events[-1].event == "task.cancelled@1"
    assert (cancelled.actor, cancelled.source) == ("user:alice", "192.0.2.7")
    assert (cancelled.kind, cancelled.group, cancelled.name) == ("task", "lab", lab.tasks[1])
    assert cancelled.time > submitted.time
    assert page.position == len(lab.history.commits)
    assert not page.more


async def test_pages_neither_repeat_nor_miss_a_commit(lab: Lab) -> None:
    seen: list[int] = []
    after, more = 0, True
    while more:
        page = await lab.queries.list_events("root", ListEvents(after=after, limit=3))
        seen += [commit.position for commit in page.commits]
        after, more = page.position, page.more
    assert seen == list(range(1, len(lab.history.commits) + 1))


async def test_the_newest_are_the_last_ones_in_their_order(lab: Lab) -> None:
    page = await lab.queries.list_events("root", ListEvents(newest=True, limit=2))
    count = len(lab.history.commits)
    assert [commit.position for commit in page.commits] == [count - 1, count]
    assert page.more


async def test_each_filter_leaves_out_what_does_not_match(lab: Lab) -> None:
    async def found(**wanted: object) -> set[str]:
        page = await lab.queries.list_events("root", ListEvents(limit=100, **wanted))  # type: ignore[arg-type]
        return {f"{commit.kind} {commit.name}" for commit in page.commits}

    assert await found(events=("task.cancelled",)) == {f"task {lab.tasks[1]}"}
    assert await found(events=("task.cancelled@1",)) == {f"task {lab.tasks[1]}"}
    assert await found(kind="attachment", group="lab") == {"attachment a/b c.txt"}
    assert await found(group="lab", kind="task") == {f"task {one}" for one in lab.tasks}
    with pytest.raises(NotFound, match="no user 'nobody'"):
        await found(actor="user:nobody")
    assert await found(kind="user", until=1) == {"user root"}
    assert await found(before=START) == set()
    assert await found(since=START, before=START + timedelta(milliseconds=1)) == {"user root"}


async def test_the_hash_of_a_password_is_shown_to_nobody(lab: Lab) -> None:
    page = await lab.queries.list_events("root", ListEvents(kind="user", name="alice"))
    created = page.commits[0].events[0]
    assert created.withheld == ("password_hash",)
    assert "argon2" not in str(page)


async def test_a_history_is_for_those_who_may_read_the_thing(lab: Lab) -> None:
    refused = [
        ListEvents(),
        ListEvents(actor="user:eve"),
        ListEvents(group="lab"),
        ListEvents(kind="group", name="lab"),
        ListEvents(kind="user", name="alice"),
        ListEvents(kind="platform"),
    ]
    for wanted in refused:
        with pytest.raises(NotAllowed):
            await lab.queries.list_events("eve", wanted)
    for kind, name in (("task", lab.tasks[0]), ("worker", lab.runner)):
        with pytest.raises(NotFound):
            await lab.queries.list_events("eve", ListEvents(kind=kind, name=name))
    own = await lab.queries.list_events("eve", ListEvents(kind="user", name="eve"))
    assert [commit.name for commit in own.commits] == ["eve"]


async def test_members_and_foreign_groups_stay_hidden_in_a_history_too(lab: Lab) -> None:
    async def roles(name: str) -> list[object]:
        wanted = ListEvents(kind="group", name="lab", events=("group.member_role_set",))
        page = await lab.queries.list_events(name, wanted)
        return [event.data.get("user") for commit in page.commits for event in commit.events[-1:]]

    assert "bob" in await roles("alice")
    assert set(await roles("bob")) == {None}
    registered = ListEvents(kind="worker", name=lab.runner)
    full = (await lab.queries.list_events("alice", registered)).commits[0].events[0]
    part = (await lab.queries.list_events("bob", registered)).commits[0].events[0]
    assert set(full.data["roles"]) == {"alice", "lab"}
    assert set(part.data["roles"]) == {"lab"}


async def test_nonsense_is_refused_with_its_value(lab: Lab) -> None:
    for wanted in (
        ListEvents(kind="tusk"),
        ListEvents(name="alice"),
        ListEvents(kind="worker", group="lab"),
        ListEvents(after=-1),
        ListEvents(limit=0),
    ):
        with pytest.raises(InvalidInput):
            await lab.queries.list_events("root", wanted)


async def test_without_a_group_tasks_are_those_of_the_own_groups(lab: Lab) -> None:
    tasks = ListEvents(kind="task", events=("task.submitted",))
    assert [c.name for c in (await lab.queries.list_events("bob", tasks)).commits] == lab.tasks
    assert (await lab.queries.list_events("eve", tasks)).commits == []
    assert len((await lab.queries.list_events("root", tasks)).commits) == len(lab.tasks)
    files = (await lab.queries.list_events("bob", ListEvents(kind="attachment"))).commits
    assert [commit.name for commit in files] == ["a/b c.txt"]


async def test_what_one_command_caused_is_found_by_its_id(lab: Lab) -> None:
    (first, *_) = (await lab.queries.list_events("root", ListEvents(kind="worker"))).commits
    found = await lab.queries.list_events("root", ListEvents(command=first.command))
    assert found.commits == [first]


async def test_times_bound_what_is_listed_from_either_end_and_page_by_page(lab: Lab) -> None:
    second, last = (START + timedelta(milliseconds=n) for n in (1, len(lab.history.commits) - 1))

    async def found(**wanted: object) -> list[int]:
        page = await lab.queries.list_events("root", ListEvents(**wanted))  # type: ignore[arg-type]
        return [commit.position for commit in page.commits]

    everything = list(range(1, len(lab.history.commits) + 1))
    assert await found(since=second, limit=100) == everything[1:]
    assert await found(since=second, after=3, limit=2) == [4, 5]
    assert await found(before=last, newest=True, limit=2) == everything[-3:-1]
    assert await found(since=second, before=last, newest=True, limit=100) == everything[1:-1]
    assert await found(since=last + timedelta(days=1), limit=100) == []
    assert await found(before=START, newest=True, limit=100) == []
