"""Why a task waits, out of Postgres: for those who may read it, and within bounds."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from mitosis.contract import subjects
from mitosis.contract.queries import Explanation
from mitosis.domain import group, task, worker
from mitosis.domain.roles import Role
from mitosis.errors import NotFound
from mitosis.projections.explain_reads import Bounds, explain_task
from mitosis.projections.pool import ReadPool
from mitosis.projections.postgres import Connection
from mitosis.projections.viewer import find_viewer
from mitosis.testing.history import History
from mitosis.testing.views import project


class Lab(NamedTuple):
    """alice: Admin of lab and hidden; bob: Read in lab; eve: nothing there."""

    pool: ReadPool
    tasks: list[str]

    async def explain(self, user: str, name: str, bounds: Bounds | None = None) -> Explanation:
        async def read(connection: Connection) -> Explanation:
            async with connection.transaction():
                viewer = await find_viewer(connection, user)
                return await explain_task(connection, viewer, name, bounds or Bounds())

        return await self.pool.read(read)


@pytest.fixture(scope="module")
def filled(make_database: Callable[[], str]) -> tuple[str, list[str]]:
    """One slot, taken by a task of a hidden group; three tasks wait, the second one ends."""
    history = History()
    for name in ("alice", "bob", "eve"):
        history.add_user(name)
    for name in ("lab", "hidden"):
        history.decide(subjects.group_tail(name), group.CreateGroup(name, "alice"))
    history.add_member("lab", "bob", Role.READ)
    runner = history.add_worker("alice", {"lab": Role.WRITE, "hidden": Role.WRITE})
    blocking = history.submit("hidden", "alice")
    history.decide(subjects.task_tail("hidden", blocking), task.AssignTask(runner, 60.0))
    tasks = [history.submit("lab", "alice", priority=-n) for n in range(3)]
    for _ in range(300):  # time goes by: a millisecond a commit
        history.submit("bob", "bob")
    history.decide(subjects.worker_tail(runner), worker.PauseWorker("maintenance"))
    for _ in range(200):
        history.submit("bob", "bob")
    history.decide(subjects.task_tail("lab", tasks[1]), task.RequestCancel("not needed"))
    url = make_database()
    asyncio.run(project(url, history))
    return url, tasks


@pytest.fixture
async def lab(filled: tuple[str, list[str]]) -> AsyncIterator[Lab]:
    pool = ReadPool(filled[0])
    yield Lab(pool, filled[1])
    await pool.close()


async def test_a_task_that_has_ended_is_explained_up_to_its_end(lab: Lab) -> None:
    found = await lab.explain("alice", lab.tasks[1])
    busy, paused = found.waits
    assert (busy.cause, paused.cause) == ("busy", "paused")
    assert "with 1 task of hidden" in busy.text
    assert "1 task of lab came before it" in busy.text
    assert (busy.ended_at, paused.ended_at) == (paused.began_at, found.until)
    assert found.waiting_seconds == pytest.approx(0.504, abs=0.01)
    assert found.complete


async def test_the_wait_of_a_task_that_has_not_ended_goes_on(lab: Lab) -> None:
    found = await lab.explain("alice", lab.tasks[2])
    assert [wait.cause for wait in found.waits] == ["busy", "paused"]
    assert "2 tasks of lab came before it" in found.waits[0].text
    assert found.waits[-1].ended_at == found.until


async def test_of_hidden_groups_no_more_is_said_than_that_there_are_some(lab: Lab) -> None:
    found = await lab.explain("bob", lab.tasks[1])
    assert "busy with other groups" in found.waits[0].text
    assert not any("hidden" in wait.text for wait in found.waits)
    with pytest.raises(NotFound):
        await lab.explain("eve", lab.tasks[1])


@pytest.mark.parametrize("bounds", [Bounds(tasks=1), Bounds(commits=1), Bounds(bytes=10)])
async def test_when_too_much_happened_it_says_so_and_keeps_to_the_rules(
    lab: Lab, bounds: Bounds
) -> None:
    found = await lab.explain("alice", lab.tasks[1], bounds)
    assert not found.complete
    assert [wait.cause for wait in found.waits] == ["busy", "paused"]
    assert found.waiting_seconds == pytest.approx(0.504, abs=0.01)
