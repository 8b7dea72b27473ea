"""What cannot be started: the true cause, in words, at once, and the slot goes on (R-17)."""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mitosis.processes.runs import Exited, SpawnFailed

from .conftest import Bench, names

#: For each case: what is run, where it fails, the error number, and what must be said.
Case = tuple[list[str], str, int, str]


def _script(folder: Path, name: str, content: bytes, mode: int = 0o755) -> str:
    path = folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def _elf(*, machine: int, loader: bytes = b"") -> bytes:
    """A program of 64 bits with one header that names its loader."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = len(loader) + 1
    return (
        head
        + struct.pack("<IIQQQQQQ", 3, 4, 120, 0x400078, 0x400078, size, size, 1)
        + loader
        + b"\0"
    )


def _cases(folder: Path) -> dict[str, Case]:
    machine = 62 if os.uname().machine == "x86_64" else 183
    missing_loader = _elf(machine=machine, loader=b"/lib/ld-none.so.1")
    (folder / "dangling").symlink_to("nowhere")
    return {
        "carriage return": (
            [_script(folder, "cr", b"#!/bin/bash\r\necho x\r\n")], "exec", errno.ENOENT,
            r"interpreter '/bin/bash\r' not found (Windows line ends?)"),
        "carriage return after an argument": (
            [_script(folder, "cr2", b"#!/usr/bin/env bash\r\n")], "own", 127, ""),
        "missing interpreter": (
            [_script(folder, "lost", b"#!/no/such/shell -e\n")], "exec", errno.ENOENT,
            "interpreter '/no/such/shell' of its #! line not found"),
        "interpreter that is a folder": (
            [_script(folder, "dir", b"#!/tmp\n")], "exec", errno.EACCES,
            "interpreter '/tmp' of its #! line may not be executed"),
        "no #! line": (
            [_script(folder, "plain", b"echo x\n")], "exec", errno.ENOEXEC, "no #! line"),
        "byte order mark": (
            [_script(folder, "bom", b"\xef\xbb\xbf#!/bin/sh\n")], "exec", errno.ENOEXEC,
            "byte order mark (UTF-8), so its #! line is not seen"),
        "UTF-16": (
            [_script(folder, "wide", "\ufeff#!/bin/sh\n".encode("utf-16-le"))], "exec",
            errno.ENOEXEC, "byte order mark (UTF-16)"),
        "empty file": ([_script(folder, "empty", b"")], "exec", errno.ENOEXEC, "the file is empty"),
        "other machine": (
            [_script(folder, "foreign", _elf(machine=22))], "exec", errno.ENOEXEC,
            "a program for another machine"),
        "missing loader": (
            [_script(folder, "loader", missing_loader)], "exec", errno.ENOENT,
            "its loader /lib/ld-none.so.1 is not on this machine"),
        "no x bit": (
            [_script(folder, "noexec", b"#!/bin/sh\n", 0o644)], "exec", errno.EACCES,
            "not executable (chmod +x)"),
        "a folder": (["/tmp"], "exec", errno.EACCES, "a folder, not a program"),
        "a device": (["/dev/null"], "exec", errno.EACCES, "not a regular file"),
        "a dangling link": ([str(folder / "dangling")], "exec", errno.ENOENT, "a link to nothing"),
        "below a file": (["/etc/passwd/x"], "exec", errno.ENOTDIR, "Not a directory"),
        "one word with blanks": (
            ["iperf3 -c 10.0.0.1"], "program", errno.ENOENT,
            "the name has blanks: give each argument apart, or use sh -c"),
        "a path with blanks": (
            ["/usr/bin/env true"], "exec", errno.ENOENT, "give each argument apart"),
        "a word of the shell": (["cd", "x"], "program", errno.ENOENT, "use sh -c"),
        "an assignment": (
            ["FOO=1", "true"], "program", errno.ENOENT, "give it with -e FOO=..."),
        "a tilde": (["~/run.sh"], "exec", errno.ENOENT, "~ is not replaced"),
        "a variable": (["$HOME/run.sh"], "exec", errno.ENOENT, "$ is not replaced"),
        "relative": (
            ["./run.sh"], "exec", errno.ENOENT,
            "./run.sh: no such file; relative to the task's own folder"),
        "not in PATH": (["no-such-program"], "program", errno.ENOENT, "not found in PATH ("),
        "empty name": ([""], "program", errno.ENOENT, "the program name is empty"),
        "absolute": (["/no/such/program"], "exec", errno.ENOENT, "No such file or directory"),
        "no arguments": ([], "arguments", errno.EINVAL, "the argument list is empty"),
        "NUL byte": (["echo", "a\0b"], "arguments", errno.EINVAL, "null"),
        "lone surrogate": (["echo", "\ud800"], "arguments", errno.EINVAL, "surrogates"),
        "one long argument": (
            ["true", "x" * 200_000], "exec", errno.E2BIG,
            "argument list too long: argument 1 has 200000 bytes, one may have 131071"),
        "many long arguments": (
            ["true", *(f"{n:0100000}" for n in range(60))], "exec", errno.E2BIG,
            "argument list too long: 61 arguments"),
        "more than any kernel takes": (
            ["true", *(f"{n:0100000}" for n in range(200))], "arguments", errno.E2BIG, "at most"),
    }  # fmt: skip


@pytest.mark.parity("R-17", "F-04", "D-015")
async def test_what_cannot_be_started_says_why_and_the_slot_goes_on(bench: Bench) -> None:
    """The kernel has one number for many causes, and the plain number misleads."""
    for name, (argv, stage, number, text) in _cases(bench.root).items():
        run = bench.start(*argv)
        result = await bench.finish(run)
        if stage == "own":
            assert result.outcome == Exited(number), name
            continue
        assert isinstance(result.outcome, SpawnFailed), name
        assert (result.outcome.stage, result.outcome.errno) == (stage, number), name
        assert text in result.outcome.text, name
        assert not result.outcome.is_worker_fault, name
        assert run.pid is None
        assert (await bench.finish(bench.start("true"))).outcome == Exited(0), name


@pytest.mark.parity("F-05")
async def test_an_environment_up_to_the_limit_arrives_and_one_above_it_is_named(
    bench: Bench,
) -> None:
    run = bench.shell("echo ${#BIG}", env={"BIG": "x" * 120_000})
    assert (await bench.finish(run)).stdout.tail == b"120000\n"
    refused = await bench.finish(bench.shell("echo ${#BIG}", env={"BIG": "x" * 140_000}))
    assert isinstance(refused.outcome, SpawnFailed)
    assert "variable BIG has 140004 bytes, one may have 131071" in refused.outcome.text


async def test_a_program_that_somebody_writes_to_is_named_so(bench: Bench) -> None:
    held = os.open(_script(bench.root, "busy", Path("/bin/true").read_bytes()), os.O_WRONLY)
    result = await bench.finish(bench.start(str(bench.root / "busy")))
    os.close(held)
    assert isinstance(result.outcome, SpawnFailed)
    assert "a program has it open for writing" in result.outcome.text


@pytest.fixture
def mounted_noexec(tmp_path: Path) -> Iterator[Path]:
    import subprocess

    folder = tmp_path / "noexec"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "noexec", "none", str(folder)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_file_system_without_programs_is_named_so(
    bench: Bench, mounted_noexec: Path
) -> None:
    result = await bench.finish(bench.start(_script(mounted_noexec, "x", b"#!/bin/sh\n")))
    assert isinstance(result.outcome, SpawnFailed)
    assert "(noexec)" in result.outcome.text


async def test_a_machine_without_processes_is_a_fault_of_the_worker(
    bench: Bench, limited_runner: Callable[[int], None]
) -> None:
    """The task can run elsewhere, so it must not be blamed (F-47)."""
    limited_runner(1)
    result = await bench.finish(bench.start("true"))
    assert isinstance(result.outcome, SpawnFailed)
    assert (result.outcome.stage, result.outcome.errno) == ("machine", errno.EAGAIN)
    assert result.outcome.is_worker_fault
    limited_runner(1000)
    assert (await bench.finish(bench.start("true"))).outcome == Exited(0)


@pytest.fixture
def limited_runner(bench: Bench) -> Iterator[Callable[[int], None]]:
    """Bound the processes of the runner by its control group, which also binds root."""
    from mitosis.processes.guard.cgroups import mounts, own_groups, place

    home = place(mounts().get("pids"), own_groups().get("pids"))
    if home is None or not os.access(home, os.W_OK):
        pytest.skip("no control group of processes here")
    group = Path(os.fsdecode(home)) / f"test-{os.getpid()}"
    group.mkdir()
    guardian = bench.engine.guardian_pid
    runner = int(Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()[0])

    def limit(count: int) -> None:
        (group / "pids.max").write_text(str(count))
        (group / "cgroup.procs").write_text(str(runner))

    yield limit
    (group.parent / "cgroup.procs").write_text(str(runner))
    group.rmdir()


async def test_nothing_of_a_refusal_stays_open(bench: Bench) -> None:
    guardian = bench.engine.guardian_pid
    runner = int(Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()[0])
    before = names(f"/proc/{runner}/fd")
    for argv, *_ in _cases(bench.root).values():
        await bench.finish(bench.start(*argv))
    assert names(f"/proc/{runner}/fd") == before
