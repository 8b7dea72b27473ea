"""A campaign during which the coordinator is killed again and again, against one without kills."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from mitosis import MitoClient
from mitosis.config.client import ChangeTaskArgs, WatchArgs
from mitosis.contract.commands import Submitted
from mitosis.domain.platform import TermStarted
from mitosis.domain.task import TaskAssigned
from mitosis.errors import LimitReached
from mitosis.projections.commit import Commit
from mitosis.testing.waiting import eventually

from .conftest import Platform, in_shell
from .standby import stored_commits

SEED = 26
PRIORITIES = (0, 5, -2, 5, 0, 1, -2, 3)
STEPS = 26  # of the campaign, at each of which a kill may come
LONGEST_DELAY_SECONDS = 0.05
BEAT_SECONDS = 0.02
TASK_SECONDS = 0.05  # too long to be sent ahead of a free slot
PATIENCE = timedelta(seconds=90)
FILE_BYTES = 10_000
QUOTA_BYTES = 25_000


class Nemesis:
    """Kills the coordinator in the midst of some steps, chosen by a seed."""

    def __init__(self, platform: Platform, kills: int, seed: int = SEED) -> None:
        self._platform = platform
        self._random = random.Random(seed)  # noqa: S311  reproducible, not secret
        self._chosen = set(self._random.sample(range(STEPS), kills))
        self.steps = 0
        self.killed: list[int] = []

    async def step(self) -> None:
        """Say that the next step of the campaign begins."""
        chosen, self.steps = self.steps in self._chosen, self.steps + 1
        if not chosen:
            return
        pid = await eventually(self._coordinator, seconds=60)
        delay = self._random.uniform(0, LONGEST_DELAY_SECONDS)
        self.killed.append(pid)
        asyncio.get_running_loop().call_later(delay, os.kill, pid, signal.SIGKILL)

    def _coordinator(self) -> int:
        """The process that leads, which is another one than was killed before; 0: none yet."""
        terms = (self._platform.data / "logs" / "coordinator.log").read_text().count(": serving")
        found = set(self._platform.children("mitosis coordinator")) - set(self.killed)
        return found.pop() if len(found) == 1 and terms > len(self.killed) else 0


class Result(msgspec.Struct):
    """What must not depend on whether the coordinator was killed."""

    numbers: list[int]
    cancelled: list[bool]
    ran: list[str]
    assigned: list[tuple[str, int]]
    tasks: list[tuple[object, ...]]
    processes_of_the_long_task: int
    used_bytes: list[int]
    refused: int
    task_count: int


class Campaign:
    """The script; all names are fixed, so that tasks have the same UUIDs on every platform."""

    def __init__(self, client: MitoClient, folder: Path, nemesis: Nemesis) -> None:
        self._client, self._nemesis = client, nemesis
        self._ran, self._beats, self._gate = folder / "ran", folder / "beats", folder / "gate"
        self._file = folder / "file"
        self._file.write_bytes(bytes(FILE_BYTES))
        self._tasks: list[Submitted] = []
        self._used: list[int] = []
        self._group = ""

    async def run(self) -> Result:
        """Run it to its end."""
        await self._begin()
        cancelled = await self._change_what_waits()
        refused = await self._store_files()
        await self._nemesis.step()
        self._gate.touch()
        await self._client.wait_for_tasks(self._tasks, PATIENCE)
        await self._fail_and_leave_results()
        assert self._nemesis.steps == STEPS
        views = await self._client.wait_for_tasks(self._tasks, PATIENCE)
        await self._note_use()
        await self._fill_up_exactly()
        return Result(
            numbers=[one.number for one in self._tasks],
            cancelled=cancelled,
            ran=self._ran.read_text().split(),
            assigned=[],
            tasks=[
                (
                    view.uuid, view.number, view.state, view.outcome, view.reason, view.attempt,
                    view.losses, view.retries, len(view.former_attempts), view.spec, view.labels,
                    view.exit and (view.exit.kind, view.exit.number), view.warnings,
                    [(one.kind, one.size_bytes) for one in view.artifacts],
                )
                for view in views
            ],
            processes_of_the_long_task=len(set(self._beats.read_text().split("\n")) - {""}),
            used_bytes=self._used,
            refused=refused,
            task_count=(await self._client.get_group(self._group)).task_count,
        )  # fmt: skip

    async def _submit(self, script: str, **options: object) -> Submitted:
        await self._nemesis.step()
        key = f"task-{len(self._tasks)}"
        task = in_shell(f"sleep {TASK_SECONDS}; {script}", key=key, **options)
        self._tasks.append(await self._client.submit_task(task))
        return self._tasks[-1]

    async def _begin(self) -> None:
        """One task runs until it may end; others wait behind it, for the slot or for a task."""
        beat = f"echo $MITO_ATTEMPT $$ >> {self._beats}; sleep {BEAT_SECONDS}"
        long = await self._submit(f"until [ -e {self._gate} ]; do {beat}; done")
        self._group = long.group
        await eventually(self._beats.exists, seconds=60)
        for number, priority in enumerate(PRIORITIES):
            await self._submit(f"echo {number} >> {self._ran}", priority=priority)
        first = self._tasks[1]
        for name, watched, state in (
            ("after-long", long, "ExecFinished"),
            ("after-first", first, "TaskCommitted"),
            ("never", first, "ExecTimeout"),
        ):
            watch = WatchArgs(watched.task, state)
            await self._submit(f"echo {name} >> {self._ran}", watch=watch)

    async def _change_what_waits(self) -> list[bool]:
        await self._nemesis.step()
        cancelled = [(await self._client.cancel_task(self._tasks[2].task)).ended]
        await self._nemesis.step()
        await self._client.change_task(ChangeTaskArgs(task=self._tasks[3].task, priority=9))
        await self._nemesis.step()
        await self._client.update_task_labels(self._tasks[4].task, ["kept"])
        return cancelled

    async def _store_files(self) -> int:
        """Store, replace and delete files until the quota is used up; how many were refused."""
        refused = 0
        await self._nemesis.step()
        await self._client.set_storage_quota(self._group, str(QUOTA_BYTES))
        for key in ("a", "b", "c", "a"):
            await self._nemesis.step()
            try:
                await self._client.upload_attachment(self._file, key)
            except LimitReached:
                refused += 1
            await self._note_use()
        await self._nemesis.step()
        await self._client.delete_attachment(self._group, "b")
        await self._note_use()
        return refused

    async def _fail_and_leave_results(self) -> None:
        """Tasks that need several attempts, and one whose output is over the quota."""
        small = f"head -c 1000 /dev/zero > $MITO_RESULT_DIR/f; echo result >> {self._ran}"
        for script, options in (
            ("test $MITO_ATTEMPT = 3", {"retries": 3, "retry_delay": "300ms"}),
            ("exit 7", {"retries": 1, "retry_delay": "300ms"}),
            (small, {}),
        ):
            task = await self._submit(script, **options)
            await self._client.wait_for_tasks([task], PATIENCE)
            await self._note_use()
        await self._nemesis.step()
        await self._client.delete_artifact(self._tasks[-1].task, "result")
        await self._note_use()

    async def _fill_up_exactly(self) -> None:
        """The coordinator counts every byte: what is left fits, one more is refused."""
        left = QUOTA_BYTES - self._used[-1]
        self._file.write_bytes(bytes(left + 1))
        with pytest.raises(LimitReached):
            await self._client.upload_attachment(self._file, "last")
        self._file.write_bytes(bytes(left))
        await self._client.upload_attachment(self._file, "last")
        await self._note_use()

    async def _note_use(self) -> None:
        self._used.append((await self._client.get_group(self._group)).storage_used_bytes)


def assigned(commits: list[Commit]) -> list[tuple[str, int]]:
    """Which attempt of which task was given out, in this order."""
    return [
        (one.tail.rpartition(".")[2], event.attempt)
        for one in commits
        for event in one.events
        if isinstance(event, TaskAssigned)
    ]


async def campaign(platform: Platform, folder: Path, kills: int) -> Result:
    """Run the campaign on a platform of its own, and return what came of it."""
    folder.mkdir()
    await platform.start()
    nemesis = Nemesis(platform, kills)
    async with MitoClient(platform.config(timeout=PATIENCE)) as client:
        result = await Campaign(client, folder, nemesis).run()
    with contextlib.closing(platform):
        commits = await stored_commits(platform)
    result.assigned = assigned(commits)
    terms = [event for one in commits for event in one.events if isinstance(event, TermStarted)]
    assert len(nemesis.killed) == kills
    assert len(terms) == kills + 1
    return result


@pytest.mark.timeout(600)
async def test_a_campaign_with_kills_of_the_coordinator_is_the_same_as_one_without(
    make_platform: Callable[..., Platform], tmp_path: Path, scaled: Callable[[int, int], int]
) -> None:
    """Order, attempts, watches, quotas and numbers; and the running task goes on as it was."""
    control, killed = await asyncio.gather(
        campaign(make_platform(workers=1, slots=1), tmp_path / "control", 0),
        campaign(make_platform(workers=1, slots=1), tmp_path / "killed", scaled(4, STEPS)),
    )
    assert control.processes_of_the_long_task == 1
    assert control.refused == 1
    assert control.ran[0] == "2", "the one that was given the highest priority later"
    scripts = str(tmp_path / "control"), str(tmp_path / "killed")
    plain = msgspec.json.encode(killed).decode().replace(scripts[1], scripts[0])
    assert msgspec.json.decode(plain) == msgspec.json.decode(msgspec.json.encode(control))
