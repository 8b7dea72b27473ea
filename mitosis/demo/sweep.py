"""The campaign of the demo: submit, follow, download, judge. Uses what any user's program has."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from mitosis.artifacts.unpack import unpack
from mitosis.client.client import MitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.contract.commands import Submitted
from mitosis.contract.queries import TaskView
from mitosis.domain.task import ArtifactKind, Outcome
from mitosis.errors import MitosisError
from mitosis.examples.campaign import (
    RESULT_FILE,
    SERIES_FILE,
    Cell,
    Result,
    Row,
    cells,
    check,
    decode_result,
)

WORKER_TAGS = ("demo-1", "demo-2")
LABEL = "mito-demo"
PARALLEL_DOWNLOADS = 4


class View(Protocol):
    """How the progress of the demo is shown."""

    def phase(self, text: str) -> None:
        """Something new begins."""
        ...

    def begin(self, total: int) -> None:
        """So many tasks were submitted."""
        ...

    def ended(self, done: int) -> None:
        """So many tasks have ended."""
        ...

    def finish(self) -> None:
        """Nothing more is followed."""
        ...


class Report(msgspec.Struct, frozen=True):
    """What came out. `problems` empty: every result was right."""

    rows: Sequence[Row]
    tasks: int
    wall_seconds: float
    problems: Sequence[str]


async def run_sweep(client: MitoClient, folder: Path, view: View) -> Report:
    """Run the campaign and judge every result.

    Args:
        client: A connected client; one worker with each of `WORKER_TAGS` serves its own group.
        folder: Gets the downloaded artifacts.
        view: Is told how it goes.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    sweep = cells()
    requests = [_task(cell, WORKER_TAGS) for cell in sweep]
    # A worker runs a task only when its tags are a subset of the task's: with one tag each, the
    # two copies of the first cell must run on different workers.
    twins = [_task(sweep[0], (tag,)) for tag in WORKER_TAGS]
    view.phase(f"submitting {len(requests) + len(twins)} simulations")
    submitted = await client.submit_many([*requests, *twins])
    ended = await _follow(client, submitted, view)
    problems = [
        f"task {one.uuid} ended as {one.outcome}: {one.reason}"
        for one in ended.values()
        if one.outcome is not Outcome.SUCCEEDED
    ]
    view.phase("downloading and checking every artifact")
    folders = await _download_all(client, submitted, folder, problems)
    results = _read_results(folders[: len(sweep)], problems)
    problems += _compare_twins(submitted[len(sweep) :], folders[len(sweep) :], ended)
    rows = check(results, sweep)
    problems += [
        f"loss {row.loss:g}, RTT {row.rtt_ms:g} ms: {row.verdict}" for row in rows if not row.agrees
    ]
    return Report(rows, len(submitted), clock() - began, problems)


def _task(cell: Cell, tags: tuple[str, ...]) -> SubmitTaskArgs:
    return SubmitTaskArgs(command=cell.argv(sys.executable), tags=tags, labels=(LABEL,))


async def _follow(
    client: MitoClient, submitted: Sequence[Submitted], view: View
) -> dict[str, TaskView]:
    ended: dict[str, TaskView] = {}
    view.begin(len(submitted))
    async for task in client.watch(submitted):
        if task.state.terminal:
            ended[task.uuid] = task
            view.ended(len(ended))
    view.finish()
    return ended


async def _download_all(
    client: MitoClient, submitted: Sequence[Submitted], folder: Path, problems: list[str]
) -> list[Path | None]:
    limit = asyncio.Semaphore(PARALLEL_DOWNLOADS)

    async def one(task: str) -> Path | None:
        target = folder / task
        try:
            async with limit:
                target.mkdir()
                archive = await client.get_artifact(task, ArtifactKind.RESULT, target)
                await asyncio.to_thread(unpack, archive, target)
        except MitosisError as error:
            problems.append(f"task {task}: {error}")
            return None
        return target / ArtifactKind.RESULT.value

    return list(await asyncio.gather(*(one(each.task) for each in submitted)))


def _read_results(folders: Sequence[Path | None], problems: list[str]) -> list[Result]:
    results = []
    for folder in folders:
        if folder is None:
            continue
        try:
            if not (folder / SERIES_FILE).stat().st_size:
                problems.append(f"{folder / SERIES_FILE} is empty")
            results.append(decode_result((folder / RESULT_FILE).read_bytes()))
        except (OSError, MitosisError) as error:
            problems.append(f"a result cannot be read: {error}")
    return results


def _compare_twins(
    twins: Sequence[Submitted], folders: Sequence[Path | None], ended: dict[str, TaskView]
) -> list[str]:
    """Check that one cell, run on two workers, gave the same bytes."""
    workers = {ended[twin.task].worker for twin in twins if twin.task in ended}
    if len(workers) != len(twins):
        return ["the cell that was run twice was not run by two workers"]
    contents = [_contents(folder) for folder in folders]
    if None in contents or contents[0] != contents[1]:
        return ["the cell that was run twice gave different bytes on the two workers"]
    return []


def _contents(folder: Path | None) -> dict[str, bytes] | None:
    if folder is None:
        return None
    with contextlib.suppress(OSError):
        return {name: (folder / name).read_bytes() for name in (RESULT_FILE, SERIES_FILE)}
    return None
