"""Output followed while it is written."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from mitosis.processes.follow import Chunk, Follow
from mitosis.processes.run import Run
from mitosis.processes.runs import Exited

from .conftest import Bench, until, wait_until

WAITS = "while [ ! -e go ]; do sleep 0.02; done"


class Heard:
    """A sink that keeps what it is given, and can be held back."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, chunk: Chunk) -> None:
        await self.open.wait()
        self.chunks.append(chunk)

    def text(self, stream: str = "stdout") -> bytes:
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == stream)

    def skipped(self, stream: str = "stdout") -> int:
        return sum(chunk.skipped_bytes for chunk in self.chunks if chunk.stream == stream)


def go(run: Run) -> None:
    (run.folder / "work" / "go").touch()


async def follow_to_the_end(bench: Bench, run: Run, follow: Follow) -> None:
    await run.result()
    run.release()
    async with asyncio.timeout(20):
        await follow.wait()
    await until(lambda: bench.engine.free_slots)


@pytest.mark.parametrize("output", ["tail", "file"])
async def test_both_streams_are_followed_from_the_start_to_the_end(
    bench: Bench, output: str
) -> None:
    run = bench.shell(f"echo one; echo bad >&2; {WAITS}; echo two; echo worse >&2", output=output)
    await run.started()
    heard = Heard()
    follow = run.start_follow(heard)
    await until(lambda: heard.text() == b"one\n" and heard.text("stderr") == b"bad\n")
    go(run)
    await follow_to_the_end(bench, run, follow)
    assert heard.text() == b"one\ntwo\n"
    assert heard.text("stderr") == b"bad\nworse\n"
    assert next(chunk.offset for chunk in heard.chunks if chunk.stream == "stdout") == 0


@pytest.mark.parametrize(("tail", "seen"), [(0, b""), (3, b"e2\n"), (1000, b"line1\nline2\n")])
async def test_following_can_begin_near_the_present_end(
    bench: Bench, tail: int, seen: bytes
) -> None:
    run = bench.shell(f"echo line1; echo line2; {WAITS}; echo after")
    while await run.tail("stdout", 100) != b"line1\nline2\n":
        pass
    heard = Heard()
    follow = run.start_follow(heard, tail_bytes=tail)
    await until(lambda: heard.text() == seen)
    go(run)
    await follow_to_the_end(bench, run, follow)
    assert (heard.text(), heard.skipped()) == (seen + b"after\n", 0)


async def test_who_waits_for_output_is_not_pushed_out_by_those_who_have_left(bench: Bench) -> None:
    """Also one who waits at the present end, which moves on while it is pushed out."""
    again = WAITS.replace("go", "again")
    run = bench.shell(f"{WAITS}; echo two; echo bad >&2; {again}; echo three")
    heard, late = Heard(), Heard()
    follow = run.start_follow(heard)
    for number in range(100):
        passing = run.start_follow(Heard())
        await asyncio.sleep(0)
        await passing.stop()
        if number == 50:
            end = run.start_follow(late, tail_bytes=0)
    go(run)
    await until(lambda: heard.text() == b"two\n" and heard.text("stderr") == b"bad\n")
    await until(lambda: late.text() == b"two\n" and late.text("stderr") == b"bad\n")
    (run.folder / "work" / "again").touch()
    await follow_to_the_end(bench, run, follow)
    await end.wait()
    assert heard.text() == late.text() == b"two\nthree\n"


@pytest.mark.parity("F-13")
async def test_a_character_cut_in_pieces_arrives_whole(bench: Bench) -> None:
    script = (
        "import os, time\n"
        "euro = '€'.encode()\n"
        "os.write(1, b'a' * 65535 + euro)\n"
        "for byte in euro:\n"
        "    os.write(1, bytes([byte])); time.sleep(0.1)\n"
    )
    run = bench.python(script, output="file")
    heard = Heard()
    follow = run.start_follow(heard)
    result = await run.result()
    kept = (result.folder / "output" / "stdout.log").read_bytes()
    await follow_to_the_end(bench, run, follow)
    assert heard.text() == kept == b"a" * 65535 + "€€".encode()


async def test_a_slow_reader_of_a_file_misses_nothing_and_delays_nobody(bench: Bench) -> None:
    run = bench.shell("seq 1000000", output="file")
    heard = Heard()
    heard.open.clear()
    follow = run.start_follow(heard)
    result = await run.result()
    assert result.outcome == Exited(0)
    run.release()
    await until(lambda: bench.engine.free_slots)
    assert not (result.folder / "output" / "stdout.log").exists()
    heard.open.set()
    async with asyncio.timeout(20):
        await follow.wait()
    expected = "".join(f"{n}\n" for n in range(1, 1_000_001)).encode()
    assert hashlib.sha256(heard.text()).digest() == hashlib.sha256(expected).digest()


async def test_what_a_slow_reader_misses_is_counted_and_the_end_is_there(bench: Bench) -> None:
    run = bench.shell("seq 1000000")
    heard = Heard()
    heard.open.clear()
    follow = run.start_follow(heard)
    await run.result()
    heard.open.set()
    await follow_to_the_end(bench, run, follow)
    total = sum(len(f"{n}\n") for n in range(1, 1_000_001))
    assert len(heard.text()) + heard.skipped() == total
    assert heard.skipped() > 0
    assert heard.text().endswith(b"999999\n1000000\n")


async def test_behind_the_cap_the_missing_part_is_counted_and_the_end_is_there(
    bench: Bench,
) -> None:
    run = bench.shell("seq 100000", output="file", cap_bytes=1000, cap_end_bytes=100)
    heard = Heard()
    heard.open.clear()
    follow = run.start_follow(heard)
    result = await run.result()
    heard.open.set()
    await follow_to_the_end(bench, run, follow)
    assert len(heard.text()) + heard.skipped() == result.stdout.total_bytes
    assert heard.text().startswith(b"1\n2\n3\n")
    assert heard.text().endswith(b"99999\n100000\n")


@pytest.mark.parametrize(("tail", "seen"), [(None, b"abcdef"), (3, b"def"), (0, b"")])
async def test_whoever_comes_just_after_the_end_gets_what_was_asked_for(
    bench: Bench, tail: int | None, seen: bytes
) -> None:
    run = bench.shell("printf abcdef")
    # The loop stands still meanwhile, so the worker does not know yet that the run has ended.
    wait_until(lambda: run.pid is None and _is_idle(bench.engine.guardian_pid))
    heard = Heard()
    await follow_to_the_end(bench, run, run.start_follow(heard, tail_bytes=tail))
    assert heard.text() == seen


def _is_idle(guardian: int) -> bool:
    """Whether the runner of the one slot has had a task, and has none."""
    [runner] = Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()
    faults_of_children = Path(f"/proc/{runner}/stat").read_text().rpartition(")")[2].split()[8]
    running = Path(f"/proc/{runner}/task/{runner}/children").read_text()
    return int(faults_of_children) > 0 and running == ""


@pytest.mark.parametrize(
    "spoil",
    [
        "rm {0}; mkfifo {0}",
        "rm {0}; mkdir {0}",
        "rm {0}; ln -s /etc/passwd {0}",
        "rm {0}",
    ],
)
async def test_what_a_task_puts_in_the_place_of_its_log_stops_nobody_and_is_not_shown(
    bench: Bench, spoil: str
) -> None:
    log = "../output/stdout.log"
    run = bench.shell(
        f"seq 30000; {WAITS}; seq 30000; {spoil.format(log)}", output="file", cap_bytes=200_000
    )
    heard = Heard()
    heard.open.clear()  # what is asked for at the end is in the file, or nowhere
    follow = run.start_follow(heard)
    await run.started()
    go(run)
    async with asyncio.timeout(20):
        result = await run.result()
    heard.open.set()
    await follow_to_the_end(bench, run, follow)
    everything = b"".join(b"%d\n" % n for n in range(1, 30_001)) * 2
    assert result.stdout.total_bytes == len(everything)
    for chunk in heard.chunks:
        assert chunk.data == everything[chunk.offset : chunk.offset + len(chunk.data)]
    assert heard.text().endswith(everything[-4096:])
    assert len(heard.text()) + heard.skipped() == len(everything)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


async def test_several_follow_and_each_can_stop(bench: Bench) -> None:
    run = bench.shell(f"echo one; {WAITS}; echo two")
    await run.started()
    first, second = Heard(), Heard()
    leaving, staying = run.start_follow(first), run.start_follow(second)
    await until(lambda: first.text() == second.text() == b"one\n")
    await leaving.stop()
    go(run)
    await follow_to_the_end(bench, run, staying)
    assert (first.text(), second.text()) == (b"one\n", b"one\ntwo\n")


async def test_a_sink_that_fails_ends_its_following_and_nothing_else(bench: Bench) -> None:
    async def broken(chunk: Chunk) -> None:
        raise ConnectionError("nobody there")

    run = bench.shell("echo one; exit 3")
    follow = run.start_follow(broken)
    with pytest.raises(ConnectionError):
        await follow.wait()
    assert (await bench.finish(run)).outcome == Exited(3)


async def test_followers_are_bounded_and_come_in_time(bench: Bench) -> None:
    run = bench.shell(WAITS)
    follows = [run.start_follow(Heard()) for _ in range(16)]
    with pytest.raises(RuntimeError, match="16 follow this run already"):
        run.start_follow(Heard())
    for follow in follows:
        await follow.stop()
    with pytest.raises(ValueError, match="tail_bytes is -1"):
        run.start_follow(Heard(), tail_bytes=-1)
    go(run)
    await bench.finish(run)
    with pytest.raises(RuntimeError, match="has ended"):
        run.start_follow(Heard())


async def test_a_lost_runner_ends_the_following(bench: Bench) -> None:
    run = bench.shell("echo one; sleep 0.2; kill -9 $PPID; sleep 20")
    heard = Heard()
    follow = run.start_follow(heard)
    await follow_to_the_end(bench, run, follow)
    assert heard.text() == b"one\n"


async def test_a_followed_flood_costs_the_runner_little_memory(bench: Bench) -> None:
    run = bench.shell("yes | head -c 200000000")
    guardian = bench.engine.guardian_pid
    [runner] = map(int, Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split())
    heard = Heard()
    follow = run.start_follow(heard, tail_bytes=0)
    await run.result()
    pages = int(Path(f"/proc/{runner}/statm").read_text().split()[1])
    assert pages * 4096 < 25 << 20
    await follow_to_the_end(bench, run, follow)
    assert heard.text().endswith(b"y\n")
