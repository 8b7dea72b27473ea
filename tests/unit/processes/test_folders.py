"""Emptying of a folder by a user who is not root, to whom permissions matter."""

import os
import resource
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.processes.guard.folders import PARTS, SlotFolder, mounted_below, remove_folder

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


@pytest.mark.parametrize("change", ["file", "mode", "replaced", "link", "gone", "extra", "moved"])
def test_any_change_is_seen(tmp_path: Path, change: str) -> None:
    path = tmp_path / "slot-0-0"
    folder = SlotFolder(os.fsencode(path))
    folder.make()
    assert folder.untouched()
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


def test_mount_points_are_known_by_their_path() -> None:
    assert mounted_below(b"/proc")
    assert mounted_below(b"/")
    assert not mounted_below(b"/proc-not-there")
