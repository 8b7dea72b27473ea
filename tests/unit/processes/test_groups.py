"""Control groups where this machine has none of the kind: the files that are read and written."""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from mitosis.processes.guard import cgroups
from mitosis.processes.guard.slot_groups import Controller, SlotGroups, count

V2 = b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/mito.service\n"
V2_MOUNT = (
    b"24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    b"30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
)
HYBRID = b"5:pids:/a\n4:memory:/process/7\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"
HYBRID_MOUNT = (
    b"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    b"39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
    b"33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    b"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
CONTAINER_MOUNT = b"30 24 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("own", "mounts", "controller", "folder"),
    [
        (V2, V2_MOUNT, "", b"/sys/fs/cgroup" + V2[3:-1]),
        (V2, V2_MOUNT, "memory", None),
        (HYBRID, HYBRID_MOUNT, "", b"/sys/fs/cgroup/unified"),
        (HYBRID, HYBRID_MOUNT, "memory", b"/sys/fs/cgroup/memory/process/7"),
        (HYBRID, HYBRID_MOUNT, "pids", b"/sys/fs/cgroup/pids/a"),
        (b"0::/docker/abc/x\n", CONTAINER_MOUNT, "", b"/sys/fs/cgroup/x"),
        (b"0::/docker/abc\n", CONTAINER_MOUNT, "", b"/sys/fs/cgroup"),
        (b"0::/docker/abcd\n", CONTAINER_MOUNT, "", None),
        (b"", b"", "", None),
    ],
)
def test_the_own_group_is_found_from_what_the_kernel_says(
    own: bytes, mounts: bytes, controller: str, folder: bytes | None
) -> None:
    groups, places = cgroups.own_groups(own), cgroups.mounts(mounts)
    assert cgroups.place(places.get(controller), groups.get(controller)) == folder


def _group(path: Path, *files: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name in files:
        (path / name).touch()


@pytest.fixture
def slot(tmp_path: Path) -> SlotGroups:
    """A slot in a plain folder that stands for a hierarchy of version 2 with its controllers."""
    base = tmp_path / "mito-x"
    _group(base / "helpers", "cgroup.procs")
    _group(base / "slot-3", "cgroup.subtree_control", "cgroup.kill")
    _group(base / "slot-3" / "run", "cgroup.procs")
    name = os.fsencode(base)
    return SlotGroups(name, 3, {"memory": Controller(name, 2), "pids": Controller(name, 2)})


def test_a_runner_lives_with_its_tasks_and_steps_out_to_kill(
    slot: SlotGroups, tmp_path: Path
) -> None:
    base = tmp_path / "mito-x"
    slot.enter()
    # A plain file keeps the rest of the longer "+memory" that was written before.
    assert (base / "slot-3/cgroup.subtree_control").read_text().startswith("+pids")
    assert (base / "slot-3/run/cgroup.procs").read_text() == "0"
    (base / "slot-3/run/cgroup.procs").write_text("")
    slot.enter()
    assert (base / "slot-3/run/cgroup.procs").read_text() == "", "it is there already"
    assert slot.kill()
    assert (base / "helpers/cgroup.procs").read_text() == "0"
    assert (base / "slot-3/cgroup.kill").read_text() == "1"
    slot.enter()
    assert (base / "slot-3/run/cgroup.procs").read_text() == "0"


def test_limits_of_version_2_are_written_under_its_names(
    slot: SlotGroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = tmp_path / "mito-x/slot-3/limited"
    make = os.mkdir

    def with_files(path: bytes, mode: int = 0o777) -> None:
        make(path, mode)
        _group(Path(os.fsdecode(path)), "memory.max", "pids.max", "memory.oom.group")

    monkeypatch.setattr(os, "mkdir", with_files)
    assert slot.limit(1 << 30, 20) == [os.fsencode(limited / "cgroup.procs")]
    assert (limited / "memory.max").read_text() == str(1 << 30)
    assert (limited / "memory.oom.group").read_text() == "1"
    assert (limited / "pids.max").read_text() == "20"
    assert not (limited / "memory.swap.max").exists(), "a kernel without swap has no such file"
    assert slot.hits() == []
    (limited / "memory.events").write_text("low 0\nhigh 0\nmax 40\noom 2\noom_kill 1\n")
    (limited / "pids.events").write_text("max 3\n")
    assert slot.hits() == ["memory", "processes"]


def test_a_limit_that_is_refused_is_an_error_and_not_forgotten(slot: SlotGroups) -> None:
    with pytest.raises(OSError, match=r"memory\.max"):
        slot.limit(1 << 30, None)


def test_counters_are_read_by_their_name() -> None:
    table = b"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"
    assert count(table, b"oom_kill") == 7
    assert count(table, b"oom") == 0
    assert count(b"", b"oom_kill") == 0


@pytest.fixture
def own_v2() -> Path:
    place = cgroups.place(cgroups.mounts().get(""), cgroups.own_groups().get(""))
    if place is None or not os.access(place, os.W_OK):
        pytest.skip("no control group of version 2 that may be written here")
    return Path(os.fsdecode(place))


def _in_a_fork(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the last frame of a forked process
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.usefixtures("own_v2")
def test_the_kernel_kills_a_group_and_spares_the_one_who_stepped_out() -> None:
    """Also a child that was forked meanwhile, and one of another user: no signal is sent by us."""

    def work() -> None:
        groups = cgroups.find(f"test{os.getpid()}", os.getppid(), first=True)
        slot = groups.of_slot(0)
        assert slot is not None
        slot.enter()
        children = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os.setsid()
                signal.pause()
            children.append(child)
        assert slot.kill()
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        slot.enter()
        groups.remove()

    _in_a_fork(work)


def test_a_controller_is_handed_on_where_the_kernel_lets_it(own_v2: Path) -> None:
    """With whichever controller this machine has in version 2: all are handed on alike."""
    names = (own_v2 / "cgroup.controllers").read_text().split()
    if not names:
        pytest.skip("no controller in version 2 here")
    before = (own_v2 / "cgroup.subtree_control").read_text()
    base = own_v2 / f"test-{os.getpid()}"
    base.mkdir()
    try:
        home, inner = os.fsencode(own_v2), os.fsencode(base)
        assert not cgroups.hand_on("no-such-controller", home, inner, os.getpid())
        assert cgroups.hand_on(names[0], home, inner, os.getpid())
        (base / "inner").mkdir()
        assert names[0] in (base / "inner" / "cgroup.controllers").read_text().split()
        (base / "inner").rmdir()
    finally:
        base.rmdir()
        if names[0] not in before.split():
            (own_v2 / "cgroup.subtree_control").write_text(f"-{names[0]}")
