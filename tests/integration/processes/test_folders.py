"""Folders of a slot: emptied whatever a task leaves, and never a thing outside of them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from mitosis.processes.engine import Engine
from mitosis.processes.runs import Exited, SpawnFailed

from .conftest import Bench, names, tool, until

PARTS = ["exec", "output", "resource", "result", "tmp", "work"]

NASTY = [
    "touch file; mkdir -p a/b/c; touch a/b/c/f ../result/out ../exec/x ../output/y",
    "mkdir m; touch m/f; chmod 0 m; mkdir -p n/o; touch n/o/p; chmod 555 n n/o; chmod 0 .",
    "mkfifo fifo; ln fifo fifo2; ln -s /no/where dangling; ln -s . loop",
    "cd ..; rm -rf work result; ln -s /etc work; echo > result",
    "cd ..; rm -rf *; rmdir $PWD 2>/dev/null; true",
    "cd ..; mkdir extra; touch extra/f .hidden -n; chmod 000 extra; chmod 000 .",
    "cd ..; mv work moved; mkdir work; touch work/f moved/f",
    "mkdir -- -rf; touch \"$(printf 'new\\nline')\" \"$(printf '\\377\\376')\"",
    "d=d; for i in $(seq 150); do mkdir $d && cd $d; done; touch leaf",
    "for i in $(seq 1100); do : > f$i; done",
    "cd ../..; mv slot-0-* /tmp/exec-moved-$MARK; rm -rf /tmp/exec-moved-$MARK",
]


@pytest.mark.parametrize("script", NASTY, ids=range(len(NASTY)))
async def test_the_next_task_finds_nothing_of_the_one_before(bench: Bench, script: str) -> None:
    outside = bench.root / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    result = await bench.finish(bench.shell(f"ln -s {outside} out; {script}"))
    assert result.outcome == Exited(0)
    after = await bench.finish(bench.shell("ls -lA . ../*; pwd -P; stat -c %a . .. ../result"))
    listing = after.stdout.tail.decode()
    folder = after.folder
    assert listing.splitlines()[-4:] == [f"{folder}/work", "700", "700", "700"]
    assert [line for line in listing.splitlines() if line.startswith(("-", "d", "l", "p"))] == []
    assert names(folder) == PARTS
    assert (outside / "precious").read_text() == "x"
    # A busy disk may need longer for the largest of them than a slot waits.
    await until(lambda: len(names(bench.root / "root")) == 1)


async def test_a_folder_stays_until_its_release_and_is_then_used_again(bench: Bench) -> None:
    run = bench.shell("echo result > ../result/file")
    result = await run.result()
    assert bench.engine.free_slots == 0
    assert (result.folder / "result" / "file").read_text() == "result\n"
    run.release()
    run.release()
    await until(lambda: bench.engine.free_slots == 1)
    assert names(result.folder) == PARTS
    assert names(result.folder / "result") == []
    assert (await bench.finish(bench.start("true"))).folder == result.folder


async def test_what_the_worker_put_there_after_the_end_is_wiped_when_it_says_so(
    bench: Bench,
) -> None:
    run = bench.start("true")
    result = await run.result()
    (result.folder / "result" / "late").write_text("x")
    run.release(wipe=True)
    await until(lambda: bench.engine.free_slots)
    assert names(result.folder / "result") == []


@pytest.mark.parity("R-07")
async def test_what_a_task_mounted_is_taken_away_and_never_emptied(bench: Bench) -> None:
    """A bind mount has no other device number, so a cleaner cannot see it by that."""
    precious = bench.root / "precious"
    precious.mkdir()
    (precious / "keep").write_text("x")
    mounts = (
        f"mkdir b t; mount --bind {precious} b && mount -t tmpfs none t && touch t/f ../result/f"
    )
    run = bench.shell(f"{mounts}; mount --bind {precious} ../result || exit 9")
    result = await run.result()
    if result.outcome == Exited(9):
        await bench.finish(run)
        pytest.skip("mounting is not allowed here")
    assert result.outcome == Exited(0)
    folder = result.folder
    assert result.mounts == (folder / "work/b", folder / "work/t", folder / "result")
    assert result.mounts_gone
    assert names(folder / "result") == ["f"], "the data outside is not packed as a result"
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    run.release()
    await until(lambda: bench.engine.free_slots)
    after = await bench.finish(bench.start("true"))
    assert (after.folder, after.mounts) == (folder, ())
    assert (precious / "keep").read_text() == "x"
    assert bench.engine.folders_set_aside == []


@pytest.mark.parametrize("part", [".", ".."])
async def test_a_folder_that_a_task_mounted_on_itself_can_be_written_by_the_next(
    bench: Bench, part: str
) -> None:
    """It looks like itself to whoever asks for its number, its rights and its times."""
    script = f'd=$(cd {part}; pwd); mount --bind "$d" "$d" && mount -o remount,bind,ro "$d"'
    for _ in range(3):
        await bench.finish(bench.start("true"))
    run = bench.shell(f"{script} || exit 9")
    result = await run.result()
    if result.outcome == Exited(9):
        await bench.finish(run)
        pytest.skip("mounting is not allowed here")
    assert result.mounts == ((result.folder / "work" / part).resolve(),)
    await bench.finish(run)
    after = await bench.finish(bench.shell("echo x > f && echo x > ../result/f"))
    assert (after.outcome, after.mounts, after.folder) == (Exited(0), (), result.folder)
    assert str(bench.root) not in Path("/proc/self/mountinfo").read_text()


LEAVES = {
    "attribute": "import os; os.setxattr('.', 'user.left', b'x')",
    "access list": (
        "import os, struct\n"
        "entries = ((1, 7, -1), (2, 7, 65534), (4, 5, -1), (16, 7, -1), (32, 7, -1))\n"
        "packed = b''.join(struct.pack('<HHi', *entry) for entry in entries)\n"
        "os.setxattr('.', 'system.posix_acl_default', struct.pack('<I', 2) + packed)"
    ),
    "flag": "import os; os.execvp('chattr', ['chattr', '+S', '.'])",
    "owner": "import os; os.chown('.', 1234, 1234)",
}


@pytest.mark.parametrize("name", LEAVES)
async def test_what_a_task_made_of_its_work_folder_is_not_that_of_the_next(
    bench: Bench, name: str
) -> None:
    look = (
        "import fcntl, os\n"
        "fd, info = os.open('.', os.O_RDONLY), os.stat('.')\n"
        "try: flags = fcntl.ioctl(fd, 0x80086601, bytes(8)).hex()\n"
        "except OSError: flags = ''\n"
        "print(os.listxattr('.'), info.st_uid, info.st_gid, flags)"
    )
    before = await bench.finish(bench.python(look))
    for _ in range(3):
        await bench.finish(bench.start("true"))
    result = await bench.finish(bench.python(LEAVES[name]))
    if result.outcome != Exited(0):
        pytest.skip(f"not allowed here: {result.stderr.tail!r}")
    after = await bench.finish(bench.python(look))
    assert after.stdout.tail == before.stdout.tail


async def test_an_immutable_work_folder_costs_its_folder_and_not_the_tasks_that_follow(
    bench: Bench,
) -> None:
    result = await bench.finish(bench.start("chattr", "+i", "."))
    if result.outcome != Exited(0):
        pytest.skip("this file system has no immutable files, or chattr may not set them")
    try:
        assert bench.engine.folders_set_aside == [result.folder]
        assert (await bench.finish(bench.shell("echo x > f"))).outcome == Exited(0)
    finally:
        tool("chattr", "-i", str(result.folder / "work"))
        tool("rm", "-rf", str(result.folder))


async def test_a_mount_that_cannot_be_taken_away_is_left_alone_with_its_folder(
    bench: Bench,
) -> None:
    precious = bench.root / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    run = bench.start("true")
    result = await run.result()
    mounted = result.folder / "work" / "mnt"
    mounted.mkdir()
    try:
        tool("mount", "--bind", str(precious), str(mounted))
    except subprocess.CalledProcessError:
        run.release(wipe=True)
        await until(lambda: bench.engine.free_slots)
        pytest.skip("mounting is not allowed here")
    try:
        # Mounted after the end, as by a helper outside: nobody unmounts it any more.
        run.release(wipe=True)
        await until(lambda: bench.engine.free_slots)
        assert (precious / "file").read_text() == "x"
        assert bench.engine.folders_set_aside == [result.folder]
        after = await bench.finish(bench.start("true"))
        assert after.folder != result.folder
    finally:
        tool("umount", str(mounted))
        tool("rm", "-rf", str(result.folder))


async def test_an_immutable_file_costs_its_folder_and_not_the_slot(bench: Bench) -> None:
    run = bench.shell("touch held && chattr +i held")
    result = await run.result()
    if result.outcome != Exited(0):
        await bench.finish(run)
        pytest.skip("this file system has no immutable files, or chattr may not set them")
    try:
        run.release()
        await until(lambda: bench.engine.free_slots)
        assert bench.engine.folders_set_aside == [result.folder]
        assert (await bench.finish(bench.start("true"))).folder != result.folder
    finally:
        tool("chattr", "-i", str(result.folder / "work" / "held"))
        tool("rm", "-rf", str(result.folder))


async def test_the_start_removes_what_an_earlier_worker_left_and_nothing_else(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    for name in ("slot-0-0", "slot-1-7", "slot-9-1", "mine", "slot-x-1", "slot-1"):
        (root / name / "work" / "deep").mkdir(parents=True)
    engine = Engine(2, root)
    await engine.start()
    assert engine.free_slots == 2
    assert names(root) == ["mine", "slot-0-0", "slot-1", "slot-1-0", "slot-x-1"]
    assert not (root / "slot-0-0" / "work" / "deep").exists()
    await engine.close(0.0)
    assert names(root) == ["mine", "slot-1", "slot-x-1"]


async def test_a_vanished_root_is_a_fault_of_the_worker_and_can_come_back(bench: Bench) -> None:
    root = bench.root / "root"
    await bench.finish(bench.start("true"))
    shutil.rmtree(root)
    for _ in range(2):
        result = await bench.finish(bench.start("true"))
        assert isinstance(result.outcome, SpawnFailed)
        assert result.outcome.is_worker_fault
        assert str(root) in result.outcome.text
    root.mkdir()
    await bench.finish(bench.start("true"))
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


@pytest.mark.parity("D-045")
async def test_tasks_at_the_same_time_share_no_folder(tmp_path: Path) -> None:
    from mitosis.processes.runs import RunSpec

    engine = Engine(3, tmp_path / "root")
    await engine.start()
    spec = RunSpec(argv=["pwd"], env={"PATH": "/usr/bin:/bin"})
    runs = [engine.start_task(spec) for _ in range(3)]
    folders = {(await run.result()).stdout.tail for run in runs}
    assert len(folders) == 3
    await engine.close(0.0)
