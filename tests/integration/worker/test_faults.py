"""A worker whose disk lets it down: its tasks are not to blame, and it says what is wrong."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mitosis.contract.work import Resumed
from mitosis.services.worker.faults import complaint
from mitosis.testing.descriptors import without_descriptors
from mitosis.testing.disks import ScratchDisk, can_mount, scratch_disk
from mitosis.testing.waiting import eventually

from .conftest import Working, _children

Work = Callable[..., Working]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[ScratchDisk]:
    """Under the work folder of the one worker."""
    yield from _mounted(tmp_path, "work")


@pytest.fixture
def slots_disk(tmp_path: Path) -> Iterator[ScratchDisk]:
    """Under the folders of its tasks: nothing is open for writing there when no task runs."""
    yield from _mounted(tmp_path, "work/slots")


def _mounted(folder: Path, name: str) -> Iterator[ScratchDisk]:
    if not can_mount(folder):
        pytest.skip("this user may not mount a small disk")
    with scratch_disk(folder / name) as mounted:
        yield mounted


def fill(disk: ScratchDisk) -> None:
    disk.fill()


def make_read_only(disk: ScratchDisk) -> None:
    disk.make_read_only()


@pytest.mark.parametrize(
    ("spoil", "why"), [(fill, "no space is left"), (make_read_only, "mounted read-only")]
)
async def test_on_a_spoiled_disk_no_task_is_begun_and_on_a_healed_one_they_run_again(
    coordinator: Any,
    work: Work,
    slots_disk: ScratchDisk,
    spoil: Callable[[ScratchDisk], None],
    why: str,
) -> None:
    await work().ready()
    spoil(slots_disk)
    told = await coordinator.over(coordinator.assign("true"))
    assert why in told.fault
    assert (told.before_start, told.started, told.exit) == (True, False, None)
    slots_disk.heal()
    told = await coordinator.over(coordinator.assign("true"))
    assert told.committed


async def test_a_task_that_fails_when_the_disk_is_full_goes_elsewhere_and_is_counted(
    coordinator: Any, work: Work, disk: ScratchDisk
) -> None:
    await work().ready()
    script = "head -c 1G /dev/zero > full"
    told = await coordinator.over(coordinator.assign("sh", "-c", script))
    assert "no space is left" in told.fault
    assert (told.before_start, told.started, told.exit) == (False, True, None)
    told = await coordinator.over(coordinator.assign("true"))
    assert told.committed, "the next task has the space again"


async def test_results_for_whose_archive_there_is_no_room_are_made_elsewhere(
    storing_coordinator: Any, storing_work: Work, disk: ScratchDisk
) -> None:
    coordinator = storing_coordinator
    await storing_work().ready()
    script = "head -c 40M /dev/urandom > $MITO_RESULT_DIR/x; echo log > $MITO_EXEC_DIR/y"
    told = await coordinator.over(coordinator.assign("sh", "-c", script))
    assert told.fault == "result: could not be packed on the worker: No space left on device"
    assert not told.committed
    assert told.artifacts == []
    told = await coordinator.over(coordinator.assign("sh", "-c", "echo 1 > $MITO_RESULT_DIR/x"))
    assert len(told.artifacts) == 1


async def test_a_work_folder_that_has_vanished_is_named(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    await work().ready()
    (tmp_path / "work" / "slots").rename(tmp_path / "elsewhere")
    told = await coordinator.over(coordinator.assign("true"))
    assert f"{tmp_path / 'work' / 'slots'}: No such file or directory" in told.fault
    assert told.before_start
    (tmp_path / "elsewhere").rename(tmp_path / "work" / "slots")
    assert (await coordinator.over(coordinator.assign("true"))).committed


async def test_a_folder_of_archives_that_has_vanished_is_made_anew(
    storing_coordinator: Any, storing_work: Work, tmp_path: Path
) -> None:
    """Services that clean old files away remove it, as it is mostly empty."""
    await storing_work().ready()
    (tmp_path / "work" / "outbox").rmdir()
    told = await storing_coordinator.over(
        storing_coordinator.assign("sh", "-c", "echo 1 > $MITO_RESULT_DIR/x")
    )
    assert (told.fault, len(told.artifacts)) == ("", 1)


async def test_a_folder_of_a_slot_that_has_vanished_is_made_anew(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    await work(slots=1).ready()
    (folder,) = (tmp_path / "work" / "slots").iterdir()
    folder.rename(tmp_path / "elsewhere")
    told = await coordinator.over(coordinator.assign("true"))
    assert told.before_start
    assert "(folder)" in told.fault
    assert (await coordinator.over(coordinator.assign("true"))).committed


@pytest.mark.parametrize("isolate", ["none", "pid"])
async def test_a_work_folder_that_was_removed_by_hand_is_made_anew_when_the_worker_is_resumed(
    storing_coordinator: Any, storing_work: Work, tmp_path: Path, isolate: str
) -> None:
    coordinator, folder = storing_coordinator, tmp_path / "work"
    working = storing_work(isolate=isolate)
    await working.ready()
    record = (folder / "worker.json").read_bytes()
    shutil.rmtree(folder)
    told = await coordinator.over(coordinator.assign("true"))
    assert told.before_start
    assert "No such file or directory" in told.fault
    coordinator.order(Resumed())
    script = "echo 1 > $MITO_RESULT_DIR/x; pwd"
    both = [coordinator.assign("sh", "-c", script, terminal=True) for _ in range(2)]
    for task in both:
        told = await coordinator.over(task)
        assert told.committed, told
        assert len(told.artifacts) == 2
        assert told.exit.stdout_tail.startswith(f"{folder}/slots/slot-")
    for path in (folder, folder / "slots", folder / "outbox"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (folder / "worker.json").read_bytes() == record
    assert (folder / "epitaph.json").stat().st_mode & 0o777 == 0o600
    assert not _lock_is_free(folder)
    assert await working.leave() == 0
    assert _lock_is_free(folder)


async def test_helpers_hold_the_lock_of_a_work_folder_that_was_made_anew(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    """Who gets it must know that all of them are dead."""
    folder = tmp_path / "work"
    await work(slots=1).ready()
    shutil.rmtree(folder)
    coordinator.order(Resumed())
    await eventually(lambda: (folder / "slots").exists() and list((folder / "slots").iterdir()))
    lock = (folder / "lock").stat().st_ino
    (guardian,) = [int(pid) for pid in _children() if _holds(int(pid), lock)]
    (runner,) = Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()
    assert _holds(int(runner), lock)


async def test_a_work_folder_that_cannot_be_made_anew_is_named_with_the_reason(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    await work(slots=1).ready()
    shutil.rmtree(folder)
    folder.write_text("somebody else's")
    coordinator.order(Resumed())
    told = await coordinator.over(coordinator.assign("true"))
    assert told.before_start
    assert "it could not be made anew: the work folder" in told.fault
    assert "cannot be used: File exists" in told.fault or "Not a directory" in told.fault
    folder.unlink()
    coordinator.order(Resumed())
    assert (await coordinator.over(coordinator.assign("true"))).committed


async def test_folders_of_slots_that_were_removed_are_made_anew_when_the_worker_is_resumed(
    coordinator: Any, work: Work, tmp_path: Path
) -> None:
    """`slots` alone, put back by hand, has none of them."""
    slots = tmp_path / "work" / "slots"
    await work(slots=2).ready()
    shutil.rmtree(slots)
    slots.mkdir()
    coordinator.order(Resumed())
    for task in [coordinator.assign("true") for _ in range(2)]:
        assert (await coordinator.over(task)).committed


def _lock_is_free(folder: Path) -> bool:
    with (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _holds(pid: int, inode: int) -> bool:
    return any(entry.stat().st_ino == inode for entry in Path(f"/proc/{pid}/fd").iterdir()
               if entry.exists())  # fmt: skip


def test_a_file_system_without_room_for_more_files_is_full(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this user may not mount a small disk")
    with scratch_disk(tmp_path / "disk", files=20) as disk:
        assert complaint(disk.path) == ""
        with pytest.raises(OSError, match="No space left"):
            _make_files(disk.path)
        assert complaint(disk.path).startswith("no more files fit")


def _make_files(folder: Path) -> None:
    for number in range(100):
        (folder / str(number)).touch()


async def running_until(coordinator: Any, marker: Path, **spec: Any) -> str:
    """A task with a result, which runs until there is a marker."""
    script = f'echo 1 > "$MITO_RESULT_DIR/x"; while test ! -e {marker}; do sleep 0.05; done'
    task = coordinator.assign("sh", "-c", script, **spec)
    await coordinator.started(task)
    return str(task)


@pytest.mark.parametrize("terminal", [False, True])
async def test_a_disk_that_is_taken_away_under_a_task_costs_no_result_in_silence(
    storing_coordinator: Any,
    storing_work: Work,
    slots_disk: ScratchDisk,
    tmp_path: Path,
    terminal: bool,
) -> None:
    coordinator = storing_coordinator
    await storing_work().ready()
    task = await running_until(coordinator, tmp_path / "go", terminal=terminal)
    slots_disk.take_away()
    (tmp_path / "go").touch()
    told = await coordinator.over(task)
    assert "another file system is at the work folder" in told.fault
    assert (told.committed, told.artifacts) == (False, [])
    told = await coordinator.over(coordinator.assign("true"))
    assert "another file system is at the work folder" in told.fault
    assert told.before_start, "the next ones are not begun"


async def test_a_disk_that_turns_read_only_under_a_task_costs_nothing_of_it(
    storing_coordinator: Any, storing_work: Work, slots_disk: ScratchDisk, tmp_path: Path
) -> None:
    coordinator = storing_coordinator
    await storing_work(slots=1).ready()
    task = await running_until(coordinator, tmp_path / "go")
    slots_disk.make_read_only()
    (tmp_path / "go").touch()
    told = await coordinator.over(task)
    assert told.committed
    assert len(told.artifacts) == 1, "its results were written before, and could be read"
    told = await coordinator.over(coordinator.assign("true"))
    assert "mounted read-only" in told.fault
    slots_disk.heal()
    told = await coordinator.over(coordinator.assign("sh", "-c", "ls -A . ../result"))
    if told.fault:  # the folder that could not be emptied is replaced after this one
        told = await coordinator.over(coordinator.assign("sh", "-c", "ls -A . ../result"))
    assert told.committed
    assert told.exit.stdout_tail == ".:\n\n../result:\n"


async def test_a_worker_without_descriptors_says_so_and_keeps_no_result_back(
    storing_coordinator: Any, storing_work: Work
) -> None:
    coordinator = storing_coordinator
    await storing_work(slots=1).ready()
    script = "echo 1 > $MITO_RESULT_DIR/x"
    with without_descriptors():
        told = await coordinator.over(coordinator.assign("sh", "-c", script))
        assert told.fault == "result: could not be packed on the worker: Too many open files"
        assert not told.committed
    told = await coordinator.over(coordinator.assign("sh", "-c", script))
    assert told.committed
    assert len(told.artifacts) == 1
