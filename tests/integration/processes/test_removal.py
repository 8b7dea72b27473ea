"""Large folders: the slot is free at once, and what a task left is removed beside it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.guard.trash import MOST_WAITING, REMOVED_AT_ONCE
from mitosis.processes.run import Run
from mitosis.processes.runs import Exited, RunResult
from mitosis.testing.disks import can_mount, scratch_disk

from .conftest import Bench, names, tool, until

LARGE = REMOVED_AT_ONCE + 500
MAKE = (
    "import os\nfor n in range({}):\n if n % 1000 == 0: os.mkdir(str(n // 1000))\n"
    " os.close(os.open(f'{{n // 1000}}/{{n}}', os.O_CREAT | os.O_WRONLY))\n"
)


def litter(bench: Bench, count: int = LARGE) -> Run:
    """A task that leaves so many empty files, 1,000 in each folder."""
    return bench.python(MAKE.format(count), timeout_seconds=600.0)


def leave(folder: Path, count: int = LARGE) -> None:
    """What a worker that was killed left."""
    for n in range(count):
        if n % 1000 == 0:
            (folder / str(n // 1000)).mkdir(parents=True)
        (folder / str(n // 1000) / str(n)).touch()


async def released(bench: Bench, run: Run) -> RunResult:
    result = await run.result()
    assert result.outcome == Exited(0), result
    run.release()
    await until(lambda: bench.engine.free_slots)
    return result


def only_the_slot(root: Path) -> bool:
    return [name.partition("-")[0] for name in names(root)] == ["slot"]


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parity("R-14")
async def test_a_folder_with_very_many_files_is_removed_beside_its_slot(
    bench: Bench, scaled: Callable[[int, int], int]
) -> None:
    """With `--full` 300,000 files: their removal takes half a minute, the slot a moment."""
    result = await released(bench, litter(bench, scaled(LARGE, 300_000)))
    after = await bench.finish(bench.start("true"))
    assert after.folder != result.folder, "the next task does not wait for the folder"
    await until(lambda: only_the_slot(bench.root / "root"), 600)
    assert bench.engine.folders_set_aside == []


async def test_what_waits_when_the_guardian_is_killed_is_removed_by_the_next_one(
    bench: Bench,
) -> None:
    waiting = bench.root / "root" / "trash-0-0-x"
    leave(bench.root / "ready", 10)
    os.kill(bench.engine.guardian_pid, signal.SIGKILL)
    (bench.root / "ready").rename(waiting)
    await until(lambda: not waiting.exists() and bench.engine.free_slots)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_what_was_large_when_a_worker_was_killed_does_not_delay_the_next_start(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    leave(root / "slot-0-0" / "work")
    leave(root / "trash-0-1-x", 10)
    leave(root / "aside-0-2-y", 10)
    engine = Engine(1, root)
    await engine.start()
    assert engine.free_slots == 1
    await until(lambda: only_the_slot(root))
    assert engine.folders_set_aside == []
    await engine.close(0.0)
    assert names(root) == []


async def test_an_engine_that_ends_takes_the_trash_with_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    engine = Engine(1, root)
    await engine.start()
    bench = Bench(engine, tmp_path)
    assert (await litter(bench).result()).outcome == Exited(0)
    await engine.close(0.0)
    assert names(root) == []


async def test_when_much_waits_already_a_slot_removes_its_folder_itself(bench: Bench) -> None:
    root = bench.root / "root"
    waiting = [root / f"trash-0-0-{number}" for number in range(MOST_WAITING)]
    for folder in waiting:
        folder.mkdir()
    await released(bench, litter(bench))
    assert len(names(root)) == MOST_WAITING + 1, "nothing was added to what waits"
    assert not any((root / name / "work" / "0").exists() for name in names(root))


async def test_on_a_disk_that_is_nearly_full_the_next_task_has_the_room_again(
    tmp_path: Path,
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount a small disk")
    with scratch_disk(tmp_path / "root", files=5_000) as disk:
        engine = Engine(1, disk.path)
        await engine.start()
        bench = Bench(engine, tmp_path)
        for _ in range(3):
            await released(bench, litter(bench, 4_700))
        await engine.close(0.0)


async def test_what_cannot_be_removed_is_named_and_the_rest_goes(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount a small disk")
    root = tmp_path / "root"
    precious = tmp_path / "precious"
    leave(precious, 1)
    held, other = root / "trash-0-0-x", root / "trash-0-0-y"
    leave(held / "mnt", 1)
    leave(other, 10)
    tool("mount", "--bind", str(precious), str(held / "mnt"))
    try:
        engine = Engine(1, root)
        await engine.start()
        await until(lambda: engine.folders_set_aside)
        assert engine.folders_set_aside == [root / "aside-0-0-x"]
        assert not other.exists()
        await engine.close(0.0)
    finally:
        tool("umount", str(root / "aside-0-0-x" / "mnt"))
    assert (precious / "0" / "0").exists()
