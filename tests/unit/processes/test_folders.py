"""Emptying of a folder by a user who is not root, to whom permissions matter."""

import os
import resource
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.processes.guard import folders, seen
from mitosis.processes.guard.folders import PARTS, SlotFolder, remove_folder
from mitosis.processes.guard.mounts import mounted_below

NOBODY = 65534


def as_a_normal_user(work: Callable[[], None]) -> None:
    """Do the work in a forked process which gave up root, if this is root."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a forked process
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A folder of that user, below folders that it may pass."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent.name:
            parent.chmod(parent.stat().st_mode | 0o011)
    ground = tmp_path / "ground"
    ground.mkdir()
    if os.getuid() == 0:
        os.chown(ground, NOBODY, NOBODY)
    return ground


def lock_up(folder: Path) -> None:
    """Leave directories at all depths without any permission."""
    deep = folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    for path in (deep, deep.parent, deep.parent.parent):
        path.chmod(0)
    (folder / "empty").mkdir(mode=0)
    (folder / "readable").mkdir()
    (folder / "readable" / "file").write_text("x")
    (folder / "readable").chmod(0o500)


def test_directories_without_permissions_are_emptied(ground: Path) -> None:
    def work() -> None:
        folder = SlotFolder(os.fsencode(ground / "slot-0-0"))
        folder.make()
        assert folder.untouched()
        for part in PARTS:
            lock_up(ground / "slot-0-0" / part)
            (ground / "slot-0-0" / part).chmod(0)
        (ground / "slot-0-0").chmod(0)
        assert not folder.untouched()
        folder.wipe()
        assert folder.untouched()

    as_a_normal_user(work)
    assert {path.name for path in (ground / "slot-0-0").iterdir()} == set(PARTS)


def test_a_folder_is_removed_with_all_its_locked_directories(ground: Path) -> None:
    def work() -> None:
        (ground / "left").mkdir()
        lock_up(ground / "left")
        remove_folder(os.fsencode(ground / "left"))

    as_a_normal_user(work)
    assert list(ground.iterdir()) == []


def test_a_tree_deeper_than_descriptors_and_path_names_reach_is_removed(ground: Path) -> None:
    def work() -> None:
        (ground / "left").mkdir()
        os.chdir(ground / "left")
        for _ in range(150):
            os.mkdir("d" * 60)  # noqa: PTH102 - relative to a place no path name reaches
            os.chdir("d" * 60)
        os.chdir("/")
        os.closerange(3, 4096)  # what other tests have open is not the runner's
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        remove_folder(os.fsencode(ground / "left"))

    as_a_normal_user(work)
    assert list(ground.iterdir()) == []


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors of directories that are read to see whether they are untouched, from now on."""
    read: list[int] = []
    listdir = os.listdir
    monkeypatch.setattr(seen.os, "listdir", lambda fd: (read.append(fd), listdir(fd))[1])
    return read


def settle(folder: SlotFolder, readings: list[int]) -> None:
    """Return when the folder is seen to be untouched without being read."""
    deadline = time.monotonic() + 10
    readings.append(-1)
    while readings:
        assert time.monotonic() < deadline, "the folder is read again and again"
        readings.clear()
        assert folder.untouched()


def give_another_manner(path: Path, change: str) -> None:
    """Change what a directory has besides rights and content, where that can be done."""
    try:
        if change == "attribute":
            os.setxattr(path, "user.left", b"x")
        else:
            os.chown(path, NOBODY, NOBODY)
    except OSError as problem:
        pytest.skip(f"{change}: {problem}")


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("part", ["work", "."])
@pytest.mark.parametrize("change", ["attribute", "owner"])
def test_attributes_and_owners_that_a_task_gave_to_a_folder_are_not_left_to_the_next(
    tmp_path: Path, change: str, part: str, settled: bool, readings: list[int]
) -> None:
    path = tmp_path / "slot-0-0"
    folder = SlotFolder(os.fsencode(path))
    folder.make()
    if settled:
        settle(folder, readings)
    give_another_manner(path / part, change)
    (path / "work" / "f").touch()
    assert not folder.untouched()
    (path / "work" / "f").unlink()
    assert not folder.untouched()
    if part == ".":
        with pytest.raises(OSError, match="attributes"):
            folder.wipe()
    else:
        folder.wipe()
        assert os.listxattr(path / part) == os.listxattr(path)
        assert (path / part).stat().st_uid == os.getuid()
        assert folder.untouched()
    folder.close()


def test_a_folder_that_is_mounted_on_itself_is_not_untouched_before_it_is_unmounted(
    tmp_path: Path, readings: list[int]
) -> None:
    """Number, rights, times and content of the directory are the same then."""
    path = tmp_path / "slot-0-0"
    folder = SlotFolder(os.fsencode(path))
    folder.make()
    settle(folder, readings)
    work = os.fspath(path / "work")
    try:
        subprocess.run(["mount", "--bind", work, work], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    try:
        assert not folder.untouched()
        assert not folder.untouched()
    finally:
        subprocess.run(["umount", work], check=True)
    assert folder.untouched()
    folder.close()


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("change", ["file", "mode", "replaced", "link", "gone", "extra", "moved"])
def test_any_change_is_seen(
    tmp_path: Path, change: str, settled: bool, readings: list[int]
) -> None:
    path = tmp_path / "slot-0-0"
    folder = SlotFolder(os.fsencode(path))
    folder.make()
    assert folder.untouched()
    if settled:
        settle(folder, readings)
    work = path / "work"
    if change == "file":
        (path / "output" / "f").touch()
    elif change == "mode":
        work.chmod(0o755)
    elif change == "extra":
        (path / "extra").touch()
    elif change == "moved":
        path.rename(tmp_path / "elsewhere")
    else:
        work.rmdir()
        if change == "replaced":
            (path / "spare").mkdir(0o700)
            (path / "spare").rename(work)
        elif change == "link":
            work.symlink_to("/")
    assert not folder.untouched()
    if change == "moved":
        with pytest.raises(OSError, match=r"\[Errno"):
            folder.wipe()
    else:
        folder.wipe()
        assert folder.untouched()
    folder.close()


def test_a_file_that_was_there_for_a_moment_leaves_a_folder_untouched(
    tmp_path: Path, readings: list[int]
) -> None:
    folder = SlotFolder(os.fsencode(tmp_path / "slot-0-0"))
    folder.make()
    settle(folder, readings)
    (tmp_path / "slot-0-0" / "work" / "f").touch()
    (tmp_path / "slot-0-0" / "work" / "f").unlink()
    assert folder.untouched()
    assert len(readings) == 1
    folder.close()


def test_a_file_system_that_tells_of_no_change_is_read_each_time(
    tmp_path: Path, readings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (seen, folders):  # so fine a time settles soon
        monkeypatch.setattr(
            module, "look", lambda info: (info.st_dev, info.st_ino, info.st_mode, 1)
        )
    folder = SlotFolder(os.fsencode(tmp_path / "slot-0-0"))
    folder.make()
    deadline = time.monotonic() + 4 * seen.FINE_SETTLED_SECONDS
    while time.monotonic() < deadline:
        assert folder.untouched()
    readings.clear()
    (tmp_path / "slot-0-0" / "work" / "f").touch()
    assert not folder.untouched()
    assert len(readings) > 0
    folder.close()


def test_mount_points_are_known_by_their_path() -> None:
    assert mounted_below(b"/proc")
    assert mounted_below(b"/")
    assert not mounted_below(b"/proc-not-there")
