"""What a task writes: kept byte for byte, counted, and bounded."""

import asyncio
import os
from pathlib import Path

import pytest

from mitosis.processes.runs import Exited

from .conftest import Bench, names, until


def runner_of(bench: Bench) -> int:
    pid = bench.engine.guardian_pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parity("D-037")
async def test_the_tail_of_each_stream_is_kept_and_the_rest_counted(bench: Bench) -> None:
    run = bench.shell("seq 100000; seq 5 >&2", tail_bytes=1000)
    result = await bench.finish(run)
    everything = "".join(f"{n}\n" for n in range(1, 100_001)).encode()
    assert result.stdout.tail == everything[-1000:]
    assert result.stdout.kept_bytes == 1000
    assert result.stdout.kept_bytes + result.stdout.dropped_bytes == len(everything)
    assert result.stderr.tail == b"1\n2\n3\n4\n5\n"
    assert result.stderr.dropped_bytes == 0


@pytest.mark.parity("F-14", "D-036")
@pytest.mark.parametrize("cap", [0, 1, 65536, 1_000_001])
async def test_a_cap_is_exact_and_keeps_head_and_end_around_a_mark(bench: Bench, cap: int) -> None:
    size = 300 << 20
    script = f"printf begin; head -c {size - 5} /dev/zero; printf end"
    run = bench.shell(script, output="file", cap_bytes=cap, cap_end_bytes=1000)
    before = resident_bytes(runner_of(bench))
    result = await run.result()
    assert (result.stdout.kept_bytes, result.stdout.total_bytes) == (cap, size + 3)
    end = min(1000, cap // 2)
    assert result.stdout.head_bytes == cap - end
    head = b"begin"[: cap - end].ljust(cap - end, b"\0")
    mark = b"\n[mito: %d bytes of the output are left out here]\n" % (size + 3 - cap)
    tail = (bytes(1000) + b"end")[3 + 1000 - end :] if end else b""
    assert (result.folder / "output" / "stdout.log").read_bytes() == head + mark + tail
    assert result.stdout.tail == bytes(4093) + b"end"
    assert resident_bytes(runner_of(bench)) - before < 4 << 20, "flat memory"
    await bench.finish(run)


async def test_files_hold_exactly_what_was_written(bench: Bench) -> None:
    odd = bytes(range(256)) * 2000
    run = bench.python(
        "import os\n"
        "for _ in range(2000): os.write(1, bytes(range(256)))\n"
        "os.write(2, b'\\xff\\xfe\\n')\n",
        output="file",
    )
    result = await run.result()
    assert (result.folder / "output" / "stdout.log").read_bytes() == odd
    assert (result.folder / "output" / "stderr.log").read_bytes() == b"\xff\xfe\n"
    assert result.stdout.tail == odd[-4096:]
    assert result.stdout.dropped_bytes == 0
    await bench.finish(run)


async def test_a_tail_can_be_had_while_the_task_runs(bench: Bench) -> None:
    for output in ("tail", "file"):
        run = bench.shell("echo one; echo two >&2; sleep 20", output=output)
        seen = b""
        async with asyncio.timeout(20):
            while seen != b"one\n":
                seen = await run.tail("stdout", 100)
            while seen != b"wo\n":
                seen = await run.tail("stderr", 3)
        run.stop("cancel", 0.0)
        await bench.finish(run)
        assert await run.tail("stdout", 2) == b"e\n"


async def test_a_tail_can_be_had_while_output_is_past_its_cap(bench: Bench) -> None:
    script = "printf 0123456789; printf abc; printf ready >&2; sleep 20"
    run = bench.shell(script, output="file", cap_bytes=5)
    async with asyncio.timeout(20):
        while await run.tail("stderr", 5) != b"ready":
            pass
        while await run.tail("stdout", 6) != b"789abc":
            pass
    run.stop("cancel", 0.0)
    result = await bench.finish(run)
    assert (result.stdout.kept_bytes, result.stdout.dropped_bytes) == (5, 8)
    assert result.stdout.tail == b"0123456789abc"


@pytest.mark.parity("D-035")
async def test_output_written_before_a_kill_is_kept(bench: Bench) -> None:
    run = bench.shell("yes | head -c 50000; sleep 20", output="file", timeout_seconds=1.5,
                      grace_seconds=0)  # fmt: skip
    result = await run.result()
    assert result.cause == "timeout"
    assert (result.folder / "output" / "stdout.log").stat().st_size == 50000
    await bench.finish(run)


async def test_a_task_that_fills_its_pipe_while_it_is_killed_ends(bench: Bench) -> None:
    run = bench.shell("yes & yes >&2 & yes; wait")
    assert await run.started()
    run.stop("cancel", 0.0)
    result = await bench.finish(run)
    assert result.tree_clean
    assert set(result.stdout.tail) <= set(b"y\n")


async def test_a_broken_pipe_inside_a_task_is_silent(bench: Bench) -> None:
    result = await bench.finish(bench.shell("yes | head -1"))
    assert (result.stdout.tail, result.stderr.tail) == (b"y\n", b"")


async def test_a_disk_that_is_full_ends_the_file_and_not_the_task(bench: Bench) -> None:
    """A limit of the file size in the runner stands for a disk: the same path, another errno."""
    import resource

    runner = runner_of(bench)
    resource.prlimit(runner, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    run = bench.shell("head -c 300000 /dev/zero; printf end; exit 3", output="file")
    result = await run.result()
    assert result.outcome == Exited(3)
    assert result.stdout.write_errno != 0
    assert result.stdout.kept_bytes == 100_000
    assert result.stdout.dropped_bytes == 200_003
    assert result.stdout.tail.endswith(b"\0end")
    await bench.finish(run)


async def test_without_descriptors_a_task_is_refused_and_nothing_leaks(bench: Bench) -> None:
    import resource

    runner = runner_of(bench)
    before = names(f"/proc/{runner}/fd")
    most = max(int(fd) for fd in before)
    for spare in (1, 2, 3):
        resource.prlimit(runner, resource.RLIMIT_NOFILE, (most + spare, 4096))
        result = await bench.finish(bench.start("true"))
        assert result.outcome.stage == "output"  # type: ignore[union-attr]
        assert names(f"/proc/{runner}/fd") == before
    resource.prlimit(runner, resource.RLIMIT_NOFILE, (4096, 4096))
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)
    await until(lambda: bench.engine.free_slots)
