"""Cases from the field about many tasks at once, while others look on."""

import asyncio
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis import MitoClient
from mitosis.config.client import ClientConfig, GetTasksArgs, SubmitTaskArgs
from mitosis.domain.execution import ExecutionState
from mitosis.domain.task import Outcome, TaskState

from .conftest import command_of
from .crews import crew_of, own_platform

OPEN_FILES = 512
COORDINATOR_MB = 500
CALL = 10_000
LEAST_RATE = 40.0  # tasks a second; on a machine that does ten other things as well


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parity("F-47")
def test_a_mass_of_tasks_ends_and_is_counted_while_it_is_watched(
    tmp_path: Path,
    scaled: Callable[[int, int], int],
    record_property: Callable[[str, object], None],
) -> None:
    """Elsewhere a low limit of open files and an observer together brought the server down."""
    count = scaled(2_000, 100_000)
    with own_platform() as platform, crew_of(platform, tmp_path) as crew:
        box = crew.hire("--slots", "2")
        for pid in box.processes():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
        coordinator = platform.child("mitosis coordinator")
        user = platform.config(crew.owner.name, crew.owner.password)
        rate, pages, seen = asyncio.run(_submit_and_look_on(user, count))
        record_property("submits_per_second", rate)
        assert pages > 0
        assert ExecutionState.TASK_COMMITTED in seen
        page = crew.client.get_tasks(GetTasksArgs(count_only=True))
        assert (page.total, page.counts[TaskState.FINISHED.value]) == (count, count)
        good = GetTasksArgs(count_only=True, outcomes=(Outcome.SUCCEEDED,))
        assert crew.client.get_tasks(good).total == count
        assert "mitosis coordinator" in command_of(coordinator), "the same process as before"
        assert _peak_mb(coordinator) < COORDINATOR_MB


async def _submit_and_look_on(
    user: ClientConfig, count: int
) -> tuple[float, int, set[ExecutionState]]:
    """Submit all, list tasks and follow states; return submits a second, pages, states seen."""
    async with MitoClient(user) as client:
        began, tasks = time.monotonic(), list[str]()
        for begin in range(0, count, CALL):
            part = [SubmitTaskArgs(command=("true",))] * min(CALL, count - begin)
            tasks += [one.task for one in await client.submit_many(part)]
            if not begin:
                watching = asyncio.create_task(_states(client, tasks[-100:]))
                looking = asyncio.create_task(_pages(client, count))
        rate = count / (time.monotonic() - began)
        return rate, await looking, await watching


async def _pages(client: MitoClient, count: int) -> int:
    """Ask for pages until all have ended, and fail when that takes too long."""
    pages = 0
    async with asyncio.timeout(60 + count / LEAST_RATE):
        while True:
            page = await client.get_tasks(GetTasksArgs(limit=100))
            pages += 1
            if page.counts[TaskState.FINISHED.value] == count:
                return pages
            await asyncio.sleep(0.05)


async def _states(client: MitoClient, tasks: list[str]) -> set[ExecutionState]:
    """Follow some tasks to their ends."""
    return {change.state async for change in client.watch_states(tasks)}


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
