"""Pages of tasks and their totals, by every filter and pair of them, are those of a plain look."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import combinations
from string import ascii_letters, digits
from typing import Any, NamedTuple

import psycopg
import pytest

from mitosis.contract import subjects
from mitosis.contract.queries import ListTasks
from mitosis.contract.subjects import EVENTS_STREAM
from mitosis.domain import task
from mitosis.domain.limits import MAX_PRIORITY, MAX_TAG_BYTES
from mitosis.domain.retry import Retry
from mitosis.domain.roles import Role
from mitosis.domain.task import Outcome
from mitosis.errors import Rejection
from mitosis.projections import store, task_pages
from mitosis.projections.beside import History as Origin
from mitosis.projections.beside import rebuild
from mitosis.projections.comparison import verify
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.plan import fold_all
from mitosis.projections.pool import ReadPool
from mitosis.projections.queries import Queries
from mitosis.projections.rows import Tables, TaskCountRow, TaskRow
from mitosis.projections.statements import rows_json
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History, Stored
from mitosis.testing.views import expected_rows, project, stored_rows

MakeDatabase = Callable[[], str]


class Known(NamedTuple):
    """What the events say of a task."""

    row: TaskRow
    spec: task.TaskSpec

    @property
    def code(self) -> int | None:
        """The exit code of its latest program."""
        ended = self.row.exit
        return ended.number if ended and ended.kind is task.ExitKind.CODE else None


Matches = Callable[[Known], bool]


def varied(seed: int, tasks: int = 60, changes: int = 1_200) -> History:
    """Return a history in which much happens to tasks of two groups that differ in everything."""
    history = History(seed)
    pick = history.random
    for name in ("alice", "bob"):
        history.add_user(name)
    history.add_member("alice", "bob", Role.WRITE)
    box = history.add_worker("alice", {"alice": Role.WRITE, "bob": Role.WRITE})
    tails = []
    for number in range(tasks):
        name = pick.choice(("alice", "alice", "bob"))
        uuid = history.submit(
            name, pick.choice(("alice", "bob")), argv=(str(number),),
            priority=pick.choice((-2, 0, 0, 5)),
            labels=tuple(sorted(pick.sample(("a", "b", "c"), pick.randrange(3)))),
            tags=tuple(sorted(pick.sample(("a", "gpu"), pick.randrange(2)))),
            retry=Retry(times=1, delay_seconds=0.5),
        )  # fmt: skip
        tails.append(subjects.task_tail(name, uuid))
    ends = (
        task.Exit(task.ExitKind.CODE), task.Exit(task.ExitKind.CODE, 7),
        task.Exit(task.ExitKind.CODE, 137), task.Exit(task.ExitKind.SIGNAL, 7),
    )  # fmt: skip
    for _ in range(changes):
        tail = pick.choice(tails)
        attempt = history.states[tail].attempt
        command: task.Command = pick.choice((
            task.AssignTask(box, 60.0), task.AssignTask(box, 60.0),
            task.ReportStart(box, attempt, ()), task.ReportExit(box, attempt, pick.choice(ends)),
            task.CommitTask(box, attempt, history.now), task.BeginRetry(),
            pick.choice((
                task.RequeueTask(attempt, "handed back", counted=False),
                task.RequestCancel("no"), task.ReplaceTaskLabels(pick.choice(((), ("a", "c")))),
                task.ChangeTask(task.TaskSpec(("x",), priority=pick.choice((0, 9)), tags=("a",))),
            )),
        ))  # fmt: skip
        try:
            history.decide(tail, command)
        except Rejection:
            continue
    for tail in tails:  # of these all are in one state
        if history.states[tail].state is task.TaskState.FINISHED and pick.random() < 0.7:
            history.decide(tail, task.ReplaceTaskLabels(pick.choice((("a", "done"), ("done",)))))
    return history


FILTERS: tuple[tuple[dict[str, Any], Matches], ...] = (
    ({"states": ("running", "ready")}, lambda t: t.row.state in {"running", "ready"}),
    ({"states": ("finished",)}, lambda t: t.row.state == "finished"),
    ({"outcomes": (Outcome.FAILED,)}, lambda t: t.row.outcome == "failed"),
    (
        {"outcomes": (Outcome.SUCCEEDED, Outcome.CANCELLED)},
        lambda t: t.row.outcome in {"succeeded", "cancelled"},
    ),
    ({"creators": ("bob",)}, lambda t: t.row.creator == "bob"),
    ({"creators": ("carol",)}, lambda _: False),
    ({"exit_status": "0"}, lambda t: t.code == 0),
    ({"exit_status": "!=0"}, lambda t: t.code not in {None, 0}),
    ({"exit_status": ">-1"}, lambda t: t.code is not None),
    ({"exit_status": "<=7"}, lambda t: t.code in {0, 7}),
    ({"exit_status": ">999999999999999999"}, lambda _: False),
    ({"priority": "0"}, lambda t: t.spec.priority == 0),
    ({"priority": "<0"}, lambda t: t.spec.priority < 0),
    ({"priority": ">=5"}, lambda t: t.spec.priority >= 5),
    ({"labels": ("a",)}, lambda t: "a" in t.row.labels),
    ({"labels": ("a", "c")}, lambda t: {"a", "c"} <= set(t.row.labels)),
    ({"labels": ("a", "done")}, lambda t: {"a", "done"} <= set(t.row.labels)),
    ({"labels": ("none",)}, lambda _: False),
    ({"tags": ("a",)}, lambda t: "a" in t.spec.tags),
)
PAIRS = [
    ({**one, **other}, (matches, also))
    for (one, matches), (other, also) in combinations(FILTERS, 2)
    if not one.keys() & other.keys()
]
ALL = [({}, ()), *((filters, (matches,)) for filters, matches in FILTERS), *PAIRS]


def known(commits: Sequence[Stored], group: str) -> list[Known]:
    """Return what some commits say of the tasks of a group, newest first."""
    tables = fold_all(Tables(), [decode(*raw) for raw in commits])
    specs = tables.task_specs.rows
    rows = [row for row in tables.tasks.rows.values() if row.group_name == group]
    return [Known(row, specs[row.uuid,].spec) for row in sorted(rows, key=lambda r: -r.number)]


async def compare(
    queries: Queries, commits: Sequence[Stored], pick: random.Random, as_of: int | None = None
) -> int:
    """Ask for every filter, each with another page; return how many tasks were seen."""
    seen, tasks = 0, known(commits, "alice")
    for filters, matches in ALL:
        found = [one.row for one in tasks if all(match(one) for match in matches)]
        numbers, counts = [row.number for row in found], Counter(row.state.value for row in found)
        limit, offset = pick.choice((1, 3, 50)), pick.choice((0, 0, 2))
        before = pick.choice((0, 0, 15))
        page = await queries.list_tasks(
            "bob",
            ListTasks(
                group="alice", limit=limit, offset=offset, before=before, as_of=as_of, **filters
            ),
        )
        behind = [number for number in numbers if not before or number < before]
        shown = [view.number for view in reversed(page.tasks)]
        assert shown == behind[offset : offset + limit], filters
        assert page.total == len(numbers), filters
        assert +Counter(page.counts) == counts, filters
        seen += len(shown)
    return seen


async def project_in_parts(url: str, history: History, size: int = 100) -> None:
    """Let no batch have the whole life of a task, as usual."""
    part = History()
    for end in range(size, len(history.commits) + size, size):
        part.commits = history.commits[:end]
        await project(url, part)


class Asked(NamedTuple):
    queries: Queries
    history: History
    url: str


@pytest.fixture(scope="module", params=range(3))
def filled(make_database: MakeDatabase, request: pytest.FixtureRequest) -> tuple[History, str]:
    history, url = varied(request.param), make_database()
    asyncio.run(project_in_parts(url, history))
    return history, url


@pytest.fixture
async def asked(filled: tuple[History, str]) -> AsyncIterator[Asked]:
    history, url = filled
    pool = ReadPool(url, size=1)
    yield Asked(Queries(pool, decode), history, url)
    await pool.close()


@pytest.mark.parametrize("few", [10_000, 0])
async def test_every_pair_of_filters_gives_the_page_and_the_totals_of_a_plain_look(
    asked: Asked, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By counters and words when few rows have to be read for that; else by a walk."""
    monkeypatch.setattr(task_pages, "FEW_ROWS", few)
    monkeypatch.setattr(task_pages, "DEAR_JOIN", 0 if few else 1_000_000)
    pick = random.Random(few)  # noqa: S311  the same pages in every run
    assert await compare(asked.queries, asked.history.commits, pick) > 100


async def test_totals_of_the_past_are_those_of_then(asked: Asked) -> None:
    whole = asked.history.commits
    pick = random.Random(1)  # noqa: S311  the same moments in every run
    for part in (0.4, 0.8):
        position = int(len(whole) * part)
        assert await compare(asked.queries, whole[:position], pick, position) > 20


@pytest.mark.parametrize("dear", [0, 4])
async def test_tasks_with_several_words_are_counted_where_all_with_one_have_ended_alike(
    database: str, dear: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody looks at the tasks for their states, unless most have all the words."""
    monkeypatch.setattr(task_pages, "DEAR_JOIN", dear)
    history = History()
    history.add_user("alice")
    words = (("x", "y"), ("x",), ("x", "y"), ("y",), ("y", "z"), ("x", "y", "z"))
    tasks = [
        history.submit("alice", "alice", labels=labels, tags=("x",), priority=number)
        for number, labels in enumerate(words)
    ]
    for uuid in (tasks[0], tasks[1], tasks[2], tasks[5]):  # all with x, not all with y
        history.decide(subjects.task_tail("alice", uuid), task.RequestCancel("no"))
    await project(database, history)
    pool = ReadPool(database)
    queries = Queries(pool, decode)

    async def found(**filters: Any) -> tuple[list[int], dict[str, int]]:
        page = await queries.list_tasks("alice", ListTasks(**filters))
        return [view.number for view in page.tasks], {s: n for s, n in page.counts.items() if n}

    try:
        assert await found(labels=("x", "y")) == ([1, 3, 6], {"cancelled": 3})
        assert await found(labels=("x", "x")) == ([1, 2, 3, 6], {"cancelled": 4})
        assert await found(labels=("x", "y", "z")) == ([6], {"cancelled": 1})
        assert await found(labels=("x",), tags=("x",)) == ([1, 2, 3, 6], {"cancelled": 4})
        assert await found(labels=("y", "z")) == ([5, 6], {"ready": 1, "cancelled": 1})
        assert await found(labels=("x", "y"), priority=">0") == ([3, 6], {"cancelled": 2})
        assert await found(labels=("x", "y"), states=("ready",)) == ([], {})
        cancelled = (Outcome.CANCELLED,)
        assert await found(labels=("x", "y"), outcomes=cancelled) == ([1, 3, 6], {"cancelled": 3})
        page = await found(labels=("x", "y"), limit=1, offset=1)
        assert page == ([3], {"cancelled": 3})
        assert await found(labels=("x", "y"), before=6) == ([1, 3], {"cancelled": 3})
    finally:
        await pool.close()


def origin(history: History) -> Origin:
    return Origin(MemoryCommitSource(history.commits), decode, EVENTS_STREAM)


async def test_a_verification_finds_wrong_counters_and_words_and_a_rebuild_rights_them(
    database: str,
) -> None:
    history = varied(4)
    await project_in_parts(database, history)
    assert (await verify(database, origin(history))).differing == 0
    with psycopg.connect(database, autocommit=True) as session:
        session.execute(
            "UPDATE views.task_counts SET tasks = tasks + 1 WHERE word = ''"
            " AND ctid = (SELECT min(ctid) FROM views.task_counts WHERE word = '')"
        )
        session.execute("DELETE FROM views.task_counts WHERE word = 'label b'")
        session.execute("DELETE FROM views.task_words WHERE word = 'tag gpu'")
        session.execute("INSERT INTO views.task_words VALUES ('alice', 'label x', 1)")
    found = await verify(database, origin(history))
    told = {(one.table, one.what, tuple(one.columns)) for one in found.differences}
    assert told == {
        ("task_counts", "differs", ("tasks",)), ("task_counts", "missing", ()),
        ("task_words", "missing", ()), ("task_words", "unexpected", ()),
    }  # fmt: skip
    await rebuild(database, origin(history))
    assert stored_rows(database) == expected_rows(history)
    pool = ReadPool(database)
    try:
        await compare(Queries(pool, decode), history.commits, random.Random(2))  # noqa: S311
    finally:
        await pool.close()


async def test_counters_that_have_come_to_nothing_are_gone(database: str) -> None:
    history = History()
    history.add_user("alice")
    uuid = history.submit("alice", "alice", labels=("a",))
    await project(database, history)
    history.decide(subjects.task_tail("alice", uuid), task.RequestCancel("no"))
    await project(database, history)
    counted = [
        (row["word"], row["state"], row["tasks"]) for row in stored_rows(database)["task_counts"]
    ]
    assert counted == [("", "cancelled", 1), ("label a", "cancelled", 1)]


async def test_the_longest_names_and_the_oddest_words_can_be_stored_and_found(
    database: str,
) -> None:
    """Of a counter everything is in the key, and Postgres takes no more than 2,700 bytes there."""
    pick = random.Random(1)  # noqa: S311  nothing that Postgres could compress
    group, creator = (
        "".join(pick.choices(ascii_letters + digits + "-_", k=255)) for _ in ("group", "creator")
    )
    long = [
        "".join(pick.choices(ascii_letters + digits + "\"\\'%{}", k=MAX_TAG_BYTES))
        for _ in range(2)
    ]
    odd = [
        "label a",
        "tag a",
        "é",
        "e\u0301",
        "\N{GRINNING FACE}" * 63,
        "a  b",
        "{}",
        "%s",
        "\\",
        '"',
    ]
    history = History()
    for name in (group, creator):
        history.add_user(name)
    history.add_member(group, creator, Role.WRITE)
    box = history.add_worker(group, {group: Role.WRITE})
    uuid = history.submit(
        group, creator, priority=-MAX_PRIORITY,
        labels=tuple(sorted([*odd, long[0]])), tags=tuple(sorted([*odd, long[1]])),
    )  # fmt: skip
    tail = subjects.task_tail(group, uuid)
    ended = task.Exit(task.ExitKind.CODE, 2**31 - 1)
    for command in (
        task.AssignTask(box, 60.0), task.ReportStart(box, 1, ()),
        task.ReportExit(box, 1, ended), task.CommitTask(box, 1, history.now),
    ):  # fmt: skip
        await project(database, history)
        history.decide(tail, command)
    await project(database, history)
    assert stored_rows(database) == expected_rows(history)
    pool = ReadPool(database)
    queries = Queries(pool, decode)
    code, priority = f">={2**31 - 1}", f"<={-MAX_PRIORITY}"
    try:
        for labels, tags in (*(((word,), (word,)) for word in odd), ((long[0],), (long[1],))):
            for words in ({"labels": labels}, {"tags": tags}, {"labels": labels, "tags": tags}):
                wanted = ListTasks(
                    group=group, creators=(creator,), exit_status=code, priority=priority, **words
                )
                page = await queries.list_tasks(creator, wanted)
                assert (page.total, [view.uuid for view in page.tasks]) == (1, [uuid])
    finally:
        await pool.close()


async def test_counters_of_a_batch_are_written_in_parts(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand tasks with 128 words of their own have 256,000: a gigabyte of memory at once."""
    written = []

    def noted(rows: list[Any]) -> str:
        written.append(sum(isinstance(row, TaskCountRow) for row in rows))
        return rows_json(rows)

    monkeypatch.setattr(store, "_COUNTERS_AT_ONCE", 3)
    monkeypatch.setattr(store, "rows_json", noted)
    history = varied(5)
    await project_in_parts(database, history)
    assert max(written) == 3
    assert stored_rows(database) == expected_rows(history)
