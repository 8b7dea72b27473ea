"""Reads of every form, and who may see what."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import psycopg
import pytest

from mitosis.contract import subjects, wire
from mitosis.contract.queries import (
    GetArtifact,
    GetGroup,
    GetTask,
    GetWorker,
    ListGroups,
    ListSessions,
    ListTasks,
    ListUsers,
    ListWorkers,
)
from mitosis.domain import group, task, user, worker
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind, Outcome, TaskState
from mitosis.errors import InvalidInput, NotAllowed, NotFound, TooLarge, ViewUnavailable
from mitosis.projections.pool import READ_SETTINGS, ReadPool
from mitosis.projections.queries import Queries
from mitosis.services.platform.embedded_postgres import EmbeddedPostgres
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History
from mitosis.testing.views import project


class Lab(NamedTuple):
    """root: platform admin; alice: Admin of lab; bob: Read in lab; eve: nothing there."""

    queries: Queries
    history: History
    tasks: list[str]
    runner: str
    gone: str
    url: str


SIZE = 1234
MakeDatabase = Callable[[], str]
Filled = tuple[History, list[str], str, str, str]


@pytest.fixture(scope="module")
def filled(make_database: MakeDatabase) -> Filled:
    """One database for all tests of this file: they only read, or put back what they change."""
    history = History()
    history.add_user("root", admin=True)
    for name in ("alice", "bob", "eve", "locked"):
        history.add_user(name)
    history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "alice"))
    history.add_member("lab", "bob", Role.READ)
    history.decide(subjects.user_tail("locked"), user.ChangeUserState(user.UserPhase.LOCKED))
    runner = history.add_worker(
        "alice", {"alice": Role.WRITE, "lab": Role.WRITE}, tags=("gpu",), host="node1",
        labels=("a_b", "rack1"),
    )  # fmt: skip
    gone = history.add_worker("alice", {"lab": Role.WRITE})
    history.decide(subjects.worker_tail(gone), worker.LeaveWorker("done for today"))
    tasks = [
        history.submit("lab", "alice", tags=("gpu", "net"), labels=("a",), argv=("first", "x")),
        history.submit("lab", "alice", tags=("net",), labels=("a", "b")),
        history.submit("lab", "root", labels=("b",)),
        history.submit("alice", "alice"),
        history.submit("lab", "alice"),
    ]
    finish(history, tasks[0], runner)
    history.decide(subjects.task_tail("lab", tasks[1]), task.RequestCancel("not needed"))
    history.decide(subjects.task_tail("alice", tasks[3]), task.AssignTask(runner, 60.0))
    history.decide(subjects.task_tail("lab", tasks[4]), task.AssignTask(runner, 60.0))
    url = make_database()
    asyncio.run(project(url, history))
    return history, tasks, runner, gone, url


@pytest.fixture
async def lab(filled: Filled) -> AsyncIterator[Lab]:
    pool = ReadPool(filled[-1])
    yield Lab(Queries(pool, decode), *filled)
    await pool.close()


def finish(history: History, uuid: str, runner: str) -> None:
    tail = subjects.task_tail("lab", uuid)
    history.decide(tail, task.AssignTask(runner, 60.0))
    history.decide(tail, task.ReportStart(runner, 1))
    stored = task.Artifact(ArtifactKind.RESULT, "some/object", SIZE, "0" * 64)
    history.decide(tail, task.StoreArtifact(runner, 1, stored))
    end = task.Exit(task.ExitKind.CODE, 7, stdout_tail="bye")
    history.decide(tail, task.ReportExit(runner, 1, end))
    history.decide(tail, task.CommitTask(runner, 1))


async def test_whoami_shows_the_account_and_its_groups(lab: Lab) -> None:
    found = await lab.queries.whoami("bob")
    assert (found.username, found.admin) == ("bob", False)
    assert found.groups == {"bob": Role.ADMIN, "lab": Role.READ}
    assert (await lab.queries.list_groups("bob", ListGroups())).groups == found.groups


@pytest.mark.parametrize("name", ["locked", "nobody"])
async def test_accounts_that_may_not_be_used_read_nothing(lab: Lab, name: str) -> None:
    with pytest.raises(NotAllowed):
        await lab.queries.whoami(name)


async def test_a_task_is_shown_whole(lab: Lab) -> None:
    shown = await lab.queries.get_task("bob", GetTask(lab.tasks[0]))
    state = lab.history.states[subjects.task_tail("lab", lab.tasks[0])]
    assert (shown.uuid, shown.number, shown.group, shown.creator) == (
        state.task, 1, "lab", "alice",
    )  # fmt: skip
    assert (shown.state, shown.outcome, shown.reason) == (
        TaskState.FINISHED, Outcome.FAILED, "exit code 7",
    )  # fmt: skip
    assert (shown.spec, shown.labels, shown.exit) == (state.spec, state.labels, state.exit)
    assert (shown.worker, shown.attempt) == (lab.runner, 1)
    assert [(a.kind, a.size_bytes) for a in shown.artifacts] == [(ArtifactKind.RESULT, SIZE)]
    assert shown.started_at is not None
    assert shown.ended_at is not None
    assert shown.created_at < shown.started_at < shown.ended_at == shown.updated_at
    assert shown.created_at.utcoffset() is not None


async def test_a_task_has_many_names(lab: Lab) -> None:
    uuid = lab.tasks[0]
    names = [uuid, uuid.upper(), uuid.replace("-", ""), uuid[:6], uuid[:9], uuid[:11], "lab#1"]
    for name in names:
        assert (await lab.queries.get_task("bob", GetTask(name))).uuid == uuid, name
    assert (await lab.queries.get_task("alice", GetTask("last"))).uuid == lab.tasks[4]
    assert (await lab.queries.get_task("root", GetTask("last"))).uuid == lab.tasks[2]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("lab#99", NotFound),
        ("nolab#1", NotFound),
        ("alice#1", NotAllowed),  # bob has no role there
        ("lab#x", InvalidInput),
        ("#1", InvalidInput),
        ("last", NotFound),  # bob has submitted nothing
        ("12345", InvalidInput),
        ("zzzzzz", InvalidInput),
        ("' OR 1=1 --", InvalidInput),
        ("00000000-0000-8000-8000-000000000000", NotFound),
    ],
)
async def test_names_that_name_nothing_say_why(lab: Lab, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await lab.queries.get_task("bob", GetTask(name))


async def test_an_ambiguous_prefix_lists_the_candidates_that_one_may_see(lab: Lab) -> None:
    twins = [f"abcdef{n}0-0000-8000-8000-000000000000" for n in range(3)]
    with psycopg.connect(lab.url) as connection:
        for twin, group in zip(twins, ("lab", "lab", "eve"), strict=True):
            connection.execute(
                "INSERT INTO views.tasks SELECT (json_populate_record(t, json_build_object("
                "'uuid', %s::text, 'number', created_position + 1000 + ascii(%s), 'group_name',"
                " %s::text))).* FROM views.tasks t WHERE uuid = %s",
                (twin, twin[6], group, lab.tasks[0]),
            )
    try:
        with pytest.raises(InvalidInput) as caught:
            await lab.queries.get_task("bob", GetTask("abcdef"))
    finally:
        with psycopg.connect(lab.url) as connection:
            connection.execute("DELETE FROM views.tasks WHERE uuid = ANY(%s::uuid[])", (twins,))
    assert caught.value.details["candidates"] == twins[:2]


async def test_a_guessed_uuid_of_a_foreign_task_does_not_exist(lab: Lab) -> None:
    for name in (lab.tasks[0], lab.tasks[0][:8]):
        with pytest.raises(NotFound):
            await lab.queries.get_task("eve", GetTask(name))
    with pytest.raises(NotFound):
        await lab.queries.get_artifact("eve", GetArtifact(lab.tasks[0], ArtifactKind.RESULT))
    assert (await lab.queries.get_task("root", GetTask(lab.tasks[3]))).group == "alice"


async def test_lists_are_filtered_counted_and_newest_last(lab: Lab) -> None:
    async def numbers(**filters: object) -> list[int]:
        wanted = ListTasks(group="lab", **filters)  # type: ignore[arg-type]
        page = await lab.queries.list_tasks("bob", wanted)
        assert page.total == sum(page.counts.values())
        return [shown.number for shown in page.tasks]

    assert await numbers() == [1, 2, 3, 4]
    assert await numbers(tags=("net",)) == [1, 2]
    assert await numbers(tags=("net", "gpu")) == [1]
    assert await numbers(labels=("b",)) == [2, 3]
    assert await numbers(creators=("root",)) == [3]
    assert await numbers(creators=("root", "alice")) == [1, 2, 3, 4]
    assert await numbers(states=(TaskState.READY, TaskState.RUNNING)) == [3, 4]
    assert await numbers(outcomes=(Outcome.FAILED, Outcome.CANCELLED)) == [1, 2]
    assert await numbers(uuids=(lab.tasks[2], lab.tasks[3])) == [3]
    assert await numbers(labels=("a",), states=(TaskState.CANCELLED,)) == [2]
    assert await numbers(tags=("none",)) == []
    assert await numbers(limit=2) == [3, 4]
    assert await numbers(limit=2, offset=1) == [2, 3]
    assert await numbers(before=3) == [1, 2]
    assert await numbers(before=3, limit=1) == [2]
    assert await numbers(states=("unknown",)) == [], "a state that nothing has"
    assert await numbers(states=("unknown", "ready")) == [3]
    assert await numbers(priority="=0") == [1, 2, 3, 4]
    assert await numbers(priority=">0") == []


async def test_an_exit_status_is_compared_as_a_number(lab: Lab) -> None:
    async def numbers(condition: str) -> list[int]:
        wanted = ListTasks(group="lab", exit_status=condition)
        return [t.number for t in (await lab.queries.list_tasks("bob", wanted)).tasks]

    # The one task that ran ended with 7: as texts, "7" would be above "10".
    for condition in ("7", "=7", "!=0", "<10", "<=7", ">=7", ">-1"):
        assert await numbers(condition) == [1], condition
    for condition in ("10", ">10", "!=7", "<7", ">7"):
        assert await numbers(condition) == [], condition


async def test_a_count_does_not_depend_on_the_page(lab: Lab) -> None:
    wanted = ListTasks(group="lab", offset=3, limit=1, count_only=True)
    page = await lab.queries.list_tasks("bob", wanted)
    assert (page.tasks, page.total) == ([], 4)


async def test_counts_cover_all_that_match_whatever_the_page(lab: Lab) -> None:
    whole = {"pending": 0, "ready": 1, "running": 1, "finished": 1, "cancelled": 1}
    page = await lab.queries.list_tasks("bob", ListTasks(group="lab", limit=1))
    assert (page.total, page.counts) == (4, whole)
    page = await lab.queries.list_tasks(
        "bob", ListTasks(group="lab", states=(TaskState.READY,), limit=1)
    )
    assert (page.total, page.counts) == (1, {**dict.fromkeys(whole, 0), "ready": 1})
    page = await lab.queries.list_tasks("bob", ListTasks(group="lab", labels=("a",)))
    assert (page.total, page.counts) == (2, {**dict.fromkeys(whole, 0), "finished": 1,
                                             "cancelled": 1})  # fmt: skip


async def test_without_a_group_the_own_one_is_listed(lab: Lab) -> None:
    page = await lab.queries.list_tasks("alice", ListTasks())
    assert [shown.uuid for shown in page.tasks] == [lab.tasks[3]]
    assert (await lab.queries.list_tasks("eve", ListTasks())).tasks == []


async def test_a_named_group_is_refused_openly(lab: Lab) -> None:
    for read in (
        lambda: lab.queries.list_tasks("eve", ListTasks(group="lab")),
        lambda: lab.queries.get_group("eve", GetGroup("lab")),
        lambda: lab.queries.list_workers("eve", ListWorkers(group="lab")),
    ):
        with pytest.raises(NotAllowed, match="ask one of its Admins"):
            await read()
    with pytest.raises(NotFound):
        await lab.queries.get_group("eve", GetGroup("unknown"))
    assert (await lab.queries.list_tasks("root", ListTasks(group="lab"))).total == 4


@pytest.mark.parametrize(
    "wanted",
    [
        ListTasks(limit=0), ListTasks(limit=10_001), ListTasks(offset=-1),
        ListTasks(offset=2**63), ListTasks(uuids=("x",)), ListTasks(group="a.b"),
        ListTasks(before=-1), ListTasks(states=("asleep",)), ListTasks(exit_status="x"),
        ListTasks(priority="=>1"), ListTasks(creators=("a b",)), ListTasks(labels=("a\0b",)),
    ],
)  # fmt: skip
async def test_pages_and_filters_have_bounds(lab: Lab, wanted: ListTasks) -> None:
    with pytest.raises(InvalidInput):
        await lab.queries.list_tasks("alice", wanted)


async def test_too_many_tags_are_refused(lab: Lab) -> None:
    with pytest.raises(TooLarge):
        await lab.queries.list_tasks("alice", ListTasks(tags=("t",) * 65))


async def test_a_page_fits_into_one_message_and_goes_on_before_its_first_task(
    database: str,
) -> None:
    history = History()
    history.add_user("alice")
    uuids = [history.submit("alice", "alice", argv=("x", "y" * 100_000)) for _ in range(20)]
    await project(database, history)
    pool = ReadPool(database)
    queries, seen, before = Queries(pool, decode), list[str](), 0
    while len(seen) < 20:
        page = await queries.list_tasks("alice", ListTasks(limit=50, before=before))
        assert 0 < len(page.tasks) < 10
        assert page.total >= 20
        seen, before = [shown.uuid for shown in page.tasks] + seen, page.tasks[0].number
        # What comes meanwhile moves no page.
        history.submit("alice", "alice")
        await project(database, history)
    await pool.close()
    assert seen == uuids


async def test_an_artifact_is_found_by_the_name_of_its_task(lab: Lab) -> None:
    row = await lab.queries.get_artifact("bob", GetArtifact("lab#1", ArtifactKind.RESULT))
    assert (row.object_name, row.size_bytes) == ("some/object", SIZE)
    with pytest.raises(NotFound, match="no artifact std-log"):
        await lab.queries.get_artifact("bob", GetArtifact("lab#1", ArtifactKind.STD_LOG))


async def test_a_worker_shows_others_only_what_concerns_their_groups(lab: Lab) -> None:
    own = await lab.queries.get_worker("alice", GetWorker(lab.runner))
    assert own.roles == {"alice": Role.WRITE, "lab": Role.WRITE}
    assert own.tasks == [lab.tasks[3], lab.tasks[4]]
    assert (own.state, own.tags, own.host, own.slots) == ("normal", ("gpu",), "node1", 1)
    other = await lab.queries.get_worker("bob", GetWorker(lab.runner[:8]))
    assert (other.roles, other.tasks) == ({"lab": Role.WRITE}, [lab.tasks[4]])
    assert (await lab.queries.get_worker("root", GetWorker(lab.runner))).roles == own.roles
    with pytest.raises(NotFound):
        await lab.queries.get_worker("eve", GetWorker(lab.runner))


async def test_workers_that_are_gone_are_listed_only_when_asked_for(lab: Lab) -> None:
    page = await lab.queries.list_workers("bob", ListWorkers(group="lab"))
    assert ([w.uuid for w in page.workers], page.total) == ([lab.runner], 1)
    page = await lab.queries.list_workers("bob", ListWorkers(group="lab", all=True))
    assert [w.uuid for w in page.workers] == [lab.runner, lab.gone]
    assert page.workers[1].reason == "done for today"
    page = await lab.queries.list_workers("bob", ListWorkers(group="lab", tags=("gpu", "arm")))
    assert (page.workers, page.total) == ([], 0)
    assert (await lab.queries.list_workers("eve", ListWorkers())).total == 0


async def test_a_page_of_workers_or_users_fits_into_one_message_and_goes_on_at_its_end(
    make_database: MakeDatabase,
) -> None:
    history = History()
    history.add_user("root", admin=True)
    history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "root"))
    tags = tuple(f"{number:03}{'x' * 250}" for number in range(64))
    added = [history.add_worker("root", {"lab": Role.WRITE}, tags=tags) for _ in range(80)]
    names = sorted(f"{number:04}{'u' * 250}" for number in range(2_000))
    for name in names:
        history.add_user(name)
    url = make_database()
    await project(url, history)
    pool = ReadPool(url, size=1)
    queries, seen, accounts = Queries(pool, decode), [], []
    while len(seen) < len(added):
        page = await queries.list_workers("root", ListWorkers("lab", offset=len(seen)))
        wire.encode(wire.Reply(page))
        assert page.workers
        seen[:0] = [one.uuid for one in page.workers]
    assert seen == added
    while len(accounts) < len(names) + 1:
        users = await queries.list_users("root", ListUsers(limit=5_000, offset=len(accounts)))
        wire.encode(wire.Reply(users))
        assert users.users
        accounts += [one.username for one in users.users]
    assert accounts == [*names, "root"]
    await pool.close()


async def test_workers_are_found_by_the_role_of_the_group_by_labels_and_by_who_started_them(
    lab: Lab,
) -> None:
    for found, filters in (
        (1, {"roles": (Role.WRITE,)}),
        (1, {"roles": (Role.READ, Role.WRITE)}),
        (0, {"roles": (Role.READ, Role.ADMIN)}),
        (1, {"labels": ("rack1", "a_b")}),
        (0, {"labels": ("rack1", "axb")}),  # a label is no pattern
        (1, {"creator": "alice"}),
        (0, {"creator": "bob"}),
        (0, {"creator": "alice", "tags": ("gpu", "net")}),
    ):
        page = await lab.queries.list_workers("bob", ListWorkers(group="lab", **filters))
        assert (len(page.workers), page.total, page.group) == (found, found, "lab"), filters
    for wrong in ({"creator": "a.b"}, {"labels": ("a,b",)}, {"tags": ("x" * 300,)}):
        with pytest.raises(InvalidInput):
            await lab.queries.list_workers("bob", ListWorkers(group="lab", **wrong))


async def test_a_group_shows_its_members_only_to_admins(lab: Lab) -> None:
    members = {"alice": Role.ADMIN, "bob": Role.READ}
    shown = await lab.queries.get_group("alice", GetGroup("lab"))
    assert (shown.role, shown.members, shown.creator) == (Role.ADMIN, members, "alice")
    assert (shown.task_count, shown.worker_count, shown.storage_used_bytes) == (4, 1, SIZE)
    assert (await lab.queries.get_group("root", GetGroup("lab"))).members == members
    shown = await lab.queries.get_group("bob", GetGroup("lab"))
    assert (shown.role, shown.members) == (Role.READ, None)


async def test_accounts_are_listed_for_administrators_only(lab: Lab) -> None:
    page = await lab.queries.list_users("root", ListUsers())
    assert [one.username for one in page.users] == ["alice", "bob", "eve", "locked", "root"]
    by_name = {one.username: one for one in page.users}
    assert (by_name["alice"].groups, by_name["alice"].group_quota) == (2, 8)
    assert (by_name["root"].admin, by_name["eve"].admin) == (True, False)

    async def names(wanted: ListUsers) -> list[str]:
        return [one.username for one in (await lab.queries.list_users("root", wanted)).users]

    assert await names(ListUsers(states=(user.UserPhase.LOCKED,))) == ["locked"]
    assert await names(ListUsers(admins=True)) == ["root"]
    assert await names(ListUsers(prefix="al")) == ["alice"]
    assert await names(ListUsers(prefix="_")) == [], "no wildcard"
    assert await names(ListUsers(limit=2, offset=1)) == ["bob", "eve"]
    with pytest.raises(NotAllowed):
        await lab.queries.list_users("alice", ListUsers())
    for wrong in (ListUsers(limit=-1), ListUsers(offset=-1), ListUsers(prefix="a.b")):
        with pytest.raises(InvalidInput):
            await lab.queries.list_users("root", wrong)


async def test_sessions_are_ones_own_business_and_that_of_administrators(database: str) -> None:
    history = History()
    for name in ("root", "alice"):
        history.add_user(name, admin=name == "root")
    now = datetime.now(UTC)
    history.store(
        subjects.user_tail("alice"),
        [
            user.SessionOpened("over", now - timedelta(seconds=1), "192.0.2.1"),
            user.SessionOpened("open", now + timedelta(hours=1), "192.0.2.2"),
        ],
    )
    await project(database, history)
    queries = Queries(ReadPool(database), decode)
    try:
        found = await queries.list_sessions("alice", ListSessions())
        assert [(one.session, one.source) for one in found.sessions] == [("open", "192.0.2.2")]
        assert await queries.list_sessions("root", ListSessions("alice")) == found
        assert (await queries.list_sessions("root", ListSessions())).sessions == []
        (view,) = (await queries.list_users("root", ListUsers(prefix="alice"))).users
        assert view.sessions == 1
        with pytest.raises(NotAllowed):
            await queries.list_sessions("alice", ListSessions("root"))
        with pytest.raises(NotFound):
            await queries.list_sessions("root", ListSessions("nobody"))
    finally:
        await queries._pool.close()


async def test_a_deleted_group_is_nobodys_any_more(database: str) -> None:
    history = History()
    for name in ("root", "alice"):
        history.add_user(name, admin=name == "root")
    history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "alice"))
    history.decide(
        subjects.group_tail("lab"), group.ChangeGroupState(group.GroupPhase.DELETED, "done")
    )
    await project(database, history)
    queries = Queries(ReadPool(database), decode)
    try:
        assert set((await queries.list_groups("alice", ListGroups())).groups) == {"alice"}
        with pytest.raises(NotAllowed):
            await queries.get_group("alice", GetGroup("lab"))
        view = await queries.get_group("root", GetGroup("lab"))
        assert (view.state, view.reason) == ("deleted", "done")
    finally:
        await queries._pool.close()


async def test_no_table_has_a_password(lab: Lab) -> None:
    with psycopg.connect(lab.url) as connection:
        columns = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'views'"
        ).fetchall()
    assert [name for (name,) in columns if "password" in name or "hash" in name] == []


async def test_reads_change_nothing_even_if_they_try(lab: Lab) -> None:
    pool = ReadPool(lab.url)

    async def write(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        await connection.execute("DELETE FROM views.tasks")

    with pytest.raises(Exception, match="read-only"):
        await pool.read(write)
    await pool.close()


async def test_a_read_comes_back_after_postgres_has_restarted(
    own_postgres: EmbeddedPostgres,
) -> None:
    history = History()
    history.add_user("bob")
    await project(own_postgres.url, history)
    pool = ReadPool(own_postgres.url)
    queries = Queries(pool, decode)
    assert (await queries.whoami("bob")).username == "bob"
    await own_postgres.stop(fast=True)
    with pytest.raises(ViewUnavailable):
        await queries.whoami("bob")
    await own_postgres.start()
    assert (await queries.whoami("bob")).username == "bob"
    await own_postgres.stop(fast=True)
    await own_postgres.start()
    assert (await queries.whoami("bob")).username == "bob", "a dead connection is replaced"
    await pool.close()


async def test_a_read_that_takes_too_long_is_ended(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READ_SETTINGS, "statement_timeout", "50ms")
    pool = ReadPool(lab.url)

    async def slow(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        await connection.execute("SELECT pg_sleep(60)")

    with pytest.raises(ViewUnavailable, match="took too long"):
        await pool.read(slow)
    await pool.close()


async def test_more_reads_than_connections_wait_for_each_other(lab: Lab) -> None:
    pool = ReadPool(lab.url, size=2)
    queries = Queries(pool, decode)
    found = await asyncio.gather(*(queries.whoami("bob") for _ in range(50)))
    assert {shown.username for shown in found} == {"bob"}
    await pool.close()
