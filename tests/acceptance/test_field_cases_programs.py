"""How programs end and what they leave, as users see it: `get task`, its outputs, its warnings."""

import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest

import mitosis
from mitosis import SyncMitoClient
from mitosis.config.client import SubmitTaskArgs
from mitosis.contract.queries import TaskView
from mitosis.domain.task import ArtifactKind, ExitKind, Outcome
from mitosis.testing.waiting import processes_with

from .conftest import MITO, Done, Home, Platform, Running, ended, in_shell
from .parity.machines import Owner, machine, soon

FOREIGN = "signal 15, not sent by the platform"
GROUP_BYTES = 300 << 20
NOBODY = 65534


def unique_seconds() -> str:
    """So long that nobody waits for it, and like no other number on the machine."""
    return f"9{secrets.randbelow(10**9):09}.25"


# --- signals and what is left ------------------------------------------------------------------


@pytest.mark.parity("R-11")
def test_a_kill_by_name_fails_its_neighbours_by_a_signal_that_is_said_to_be_foreign(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    """Elsewhere it hit the runner too, and the neighbours were lost, or run again."""
    word, label = unique_seconds(), f"killme-{secrets.token_hex(4)}"
    first = admin.submit_task(in_shell(f"sleep {word}; echo A"))
    soon(lambda: admin.get_task(first.task).started_at)
    second = in_shell(f"pkill -f 'sleep {word}'; echo B")
    third = in_shell(f"pkill -f {label}; echo C", labels=(label,))
    views = ended(admin, first, second, third)
    for view in views:
        assert (view.outcome, view.reason) == (Outcome.FAILED, FOREIGN), view
        assert (view.attempt, view.losses) == (1, 0)
    assert FOREIGN in shell("get", "task", views[0].uuid).text
    workers = {view.worker for view in views}
    assert {admin.get_worker(str(name)).state for name in workers} == {"normal"}
    for view in ended(admin, *[in_shell("true")] * 4):
        assert view.outcome is Outcome.SUCCEEDED


@pytest.mark.parity("R-11")
def test_a_signal_of_the_platform_is_called_by_its_cause(admin: SyncMitoClient) -> None:
    late = in_shell("sleep 60", timeout="300ms")
    large = in_shell("exec head -c 10M /dev/zero > large", file_size="100kB")
    by_hand = admin.submit_task(in_shell("sleep 60"))
    soon(lambda: admin.get_task(by_hand.task).started_at)
    admin.cancel_task(by_hand.task)
    timed_out, limited, cancelled = ended(admin, late, large, by_hand)
    assert (timed_out.outcome, timed_out.reason) == (Outcome.TIMED_OUT, "the timeout was over")
    assert limited.reason == "file size limit of 100kB reached (signal 25)"
    assert (cancelled.outcome, cancelled.reason) == (Outcome.CANCELLED, "cancelled while it ran")
    for view in (timed_out, limited, cancelled):
        assert view.exit is not None
        assert view.exit.kind is ExitKind.SIGNAL


@pytest.mark.parity("F-07")
def test_a_daemon_that_holds_the_output_neither_keeps_its_task_nor_outlives_it(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    word = unique_seconds()
    script = f"setsid sleep {word} & echo done"
    (view,) = ended(admin, in_shell(script, terminal=True, timeout="50s"))
    assert view.outcome is Outcome.SUCCEEDED, view
    assert view.exit is not None
    assert view.exit.usage.wall_seconds < 40, "it ended with its main process, not at the timeout"
    assert processes_with(f"sleep\0{word}") == []
    admin.get_artifact(view.uuid, ArtifactKind.STD_LOG, tmp_path, extract=True)
    assert (tmp_path / "std-log" / "stdout.log").read_bytes() == b"done\n"


@pytest.mark.parity("F-08")
def test_a_cancel_leaves_no_child_that_was_forked_because_of_it(admin: SyncMitoClient) -> None:
    """Elsewhere the parent was killed first, and the list of its children was empty then."""
    before, after = unique_seconds(), unique_seconds()
    script = f"trap 'sleep {after} & exit' TERM; sleep {before} & wait"
    task = admin.submit_task(SubmitTaskArgs(command=("bash", "-c", script)))
    soon(lambda: processes_with(f"sleep\0{before}"))
    admin.cancel_task(task.task)
    (view,) = ended(admin, task)
    assert (view.outcome, view.reason) == (Outcome.CANCELLED, "cancelled while it ran")
    assert [processes_with(f"sleep\0{word}") for word in (before, after)] == [[], []]


@pytest.mark.parity("R-02", "R-08")
def test_signals_are_clean_and_there_is_no_terminal_whoever_started_the_platform(
    admin: SyncMitoClient,
) -> None:
    """This one is of Python, which ignores SIGPIPE, and in a session of its own.

    By nohup, in the background of a shell, with ignored and blocked signals, and with a terminal
    whose modes must not change: tests/integration/processes/test_surroundings.py, where the engine
    is started in each of these ways, as `mito worker` starts it. Nothing above it touches signals
    of tasks.
    """
    clean = in_shell(
        "grep -E '^Sig(Ign|Blk)' /proc/self/status; yes | head -1;"
        "python3 -S -c 'import signal; print(signal.getsignal(2) is signal.default_int_handler)'"
    )
    no_terminal = in_shell(
        "stty raw < /dev/tty; echo $?; bash -ic 'echo inside'; ps -o stat= --ppid $$ | grep -c T"
    )
    signals, terminal = ended(admin, clean, no_terminal)
    assert signals.exit is not None
    *masks, yes, default = signals.exit.stdout_tail.splitlines()
    internal = 0b11 << 31  # of the C library
    assert [int(line.split()[1], 16) & ~internal for line in masks] == [0, 0]
    assert (yes, default, signals.exit.stderr_tail) == ("y", "True", "")
    assert terminal.exit is not None
    refused, inside, stopped = terminal.exit.stdout_tail.splitlines()
    assert (int(refused) > 0, inside, stopped) == (True, "inside", "0")
    assert terminal.exit.usage.wall_seconds < 30


# --- what is stored ----------------------------------------------------------------------------


@pytest.mark.parity("F-05")
def test_a_thousand_environments_make_the_store_grow_by_what_was_submitted(
    platform: Platform, admin: SyncMitoClient
) -> None:
    """Elsewhere each start stored kilobytes of the environment of what started it."""
    count, size, label = 1_000, 4_096, f"envs-{secrets.token_hex(4)}"
    tasks = [
        SubmitTaskArgs(
            command=("true",), labels=(label,), envs={"BIG": secrets.token_hex(size // 2)}
        )
        for _ in range(count)
    ]
    done = list(admin.wait_for_tasks(admin.submit_many(tasks)))
    assert {view.outcome for view in done} == {Outcome.SUCCEEDED}
    names = [view.uuid for view in done]
    config = tomllib.loads((platform.data / "config" / "coordinator.toml").read_text())
    with psycopg.connect(config["coordinator"]["db_url"], autocommit=True) as session:

        def events() -> list[bytes]:
            rows = session.execute(
                "SELECT payload FROM archive.commits WHERE split_part(subject, '.', 5) = ANY(%s)",
                [names],
            ).fetchall()
            return [bytes(payload) for (payload,) in rows]

        soon(lambda: b"".join(events()).count(b"task.committed@") == count, 60)
        stored = events()
        (read,) = session.execute(
            "SELECT sum(octet_length(t::text) + octet_length(s::text)) FROM views.tasks t"
            " JOIN views.task_specs s ON s.task = t.uuid WHERE t.uuid = ANY(%s)",
            [names],
        ).fetchone() or (0,)
    submitted = count * size
    for what, grown in (("events", sum(map(len, stored))), ("read models", int(read))):
        assert submitted < grown < submitted + count * 3_000, (what, grown)
    home = str(platform.home.folder).encode()
    for text in (home, b"PYTHONPATH", b"PYTHONUNBUFFERED", b"MITO_"):
        assert not any(text in payload for payload in stored), text


@pytest.mark.parity("R-13")
def test_a_result_above_what_one_upload_takes_comes_back_as_it_was(
    admin: SyncMitoClient, tmp_path: Path
) -> None:
    """64 MiB go by one PUT; what is larger goes in parts (5 GiB is where S3 refuses one)."""
    script = "head -c 70M /dev/urandom > $MITO_RESULT_DIR/x; sha256sum < $MITO_RESULT_DIR/x"
    (view,) = ended(admin, in_shell(script))
    assert (view.outcome, view.warnings) == (Outcome.SUCCEEDED, []), view
    assert view.artifacts[0].size_bytes > 70 << 20
    assert view.exit is not None
    admin.get_artifact(view.uuid, ArtifactKind.RESULT, tmp_path, extract=True)
    with (tmp_path / "result" / "x").open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    assert view.exit.stdout_tail.split()[0] == found


# --- workers with less than all rights and all memory ------------------------------------------


def as_nobody(home: Home) -> list[str]:
    """The start of a command by an interpreter that others may start too; a home may be closed."""
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    again = (
        "import subprocess, sys, mitosis.cli; subprocess.run([sys.executable, '-V'], check=True)"
    )
    for interpreter in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [*become, interpreter, "-c", again], env=home.environment, check=True,
                capture_output=True,
            )  # fmt: skip
            return [*become, interpreter, "-m", "mitosis"]
    pytest.skip("no interpreter here that another user may start")


@pytest.fixture
def ordinary(platform: Platform, admin: SyncMitoClient) -> Iterator[str]:
    """The group of a worker that is not root."""
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    root.chmod(0o777)
    home, group = Home(root / "machine"), f"ordinary-{secrets.token_hex(3)}"
    admin.create_group(group)
    paths = [str(Path(module.__file__).parents[1]) for module in (mitosis, msgspec)]
    home.environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = list(MITO)
    if os.geteuid() == 0:
        command = as_nobody(home)
        os.chown(home.folder, NOBODY, NOBODY)
    worker = Running(
        [*command, "worker", "--coordinator", platform.notice["http"], "--groups", group,
         "--work-dir", str(home.folder / "work"), "-u", platform.notice["admin_user"]],
        {**home.environment, "MITO_PASSWORD": platform.admin_password}, home.folder,
    )  # fmt: skip
    try:
        soon(lambda: len(worker.out) > 36 or worker.ended(), 60)
        assert not worker.ended(), worker.err
        yield group
    finally:
        worker.close()
        shutil.rmtree(root)


@pytest.mark.parity("F-20")
def test_what_a_worker_that_is_not_root_cannot_read_costs_a_warning_and_nothing_else(
    admin: SyncMitoClient, ordinary: str, tmp_path: Path
) -> None:
    script = (
        "cd $MITO_RESULT_DIR; mkfifo p;"
        "python3 -S -c 'import socket; socket.socket(1).bind(\"s\")';"
        "touch locked; chmod 0 locked; mkdir shut; touch shut/in; chmod 0 shut; echo ok > f"
    )
    (view,) = ended(admin, in_shell(script, group=ordinary))
    assert view.outcome is Outcome.SUCCEEDED, view
    said = " ".join(view.warnings)
    for name in ("p", "s"):
        assert f"result/{name}: left out (only files, folders and links are packed)" in said
    for name in ("locked", "shut"):
        assert f"result/{name}: left out (Permission denied, errno 13)" in said
    admin.get_artifact(view.uuid, ArtifactKind.RESULT, tmp_path, extract=True)
    assert [path.name for path in (tmp_path / "result").iterdir()] == ["f"]
    (after,) = ended(admin, in_shell("ls -A . $MITO_RESULT_DIR", group=ordinary))
    assert after.outcome is Outcome.SUCCEEDED, "the slot is as new"


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A control group that has so much memory, for whoever is put in it."""
    for base, name in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", base, f"mito-test-{secrets.token_hex(4)}")
        try:
            group.mkdir()
            (group / name).write_text(str(limit_bytes))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield group
        finally:
            for left in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
                left.rmdir()
            group.rmdir()
        return
    pytest.skip("no control group of memory can be made here")


def kills_for_memory(group: Path) -> int:
    """How often the kernel killed in a group for want of memory."""
    names = ("memory.oom_control", "memory.events")
    (told,) = [group / name for name in names if (group / name).exists()]
    counts = dict(line.split() for line in told.read_text().splitlines())
    return int(counts["oom_kill"])


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parity("F-14", "D-036")
def test_a_worker_with_all_that_it_runs_in_300_mb_survives_gigabytes_of_output(
    platform: Platform,
    admin: SyncMitoClient,
    scratch: Path,
    tmp_path: Path,
    scaled: Callable[[int, int], int],
) -> None:
    size = scaled(400, 3_000) * 1_000_000
    folder = scratch / f"small-{secrets.token_hex(3)}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(memory_group(GROUP_BYTES))
        owner = Owner(platform, admin, folder)
        stack.callback(owner.client.close)
        box = stack.enter_context(machine(folder / "box"))
        box.running = Running(
            ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *MITO,
             "worker", "-c", platform.notice["http"], "--credential-path", str(owner.credentials),
             "--slots", "2", "--heartbeat-interval", "1s", "--work-dir", str(folder / "work")],
            box.environment, box.folder,
        )  # fmt: skip
        box.registered()
        script = f"yes | head -c {size}; echo END"
        tasks = [in_shell(script, terminal=kept) for kept in (False, True)]
        views: list[TaskView] = ended(owner.client, *tasks)
        for view in views:
            assert (view.outcome, view.attempt, view.losses) == (Outcome.SUCCEEDED, 1, 0), view
            assert view.exit is not None
            assert view.exit.usage.stdout_bytes == size + 4
            assert view.exit.stdout_tail.endswith("END\n")
        assert not box.process.ended()
        assert kills_for_memory(group) == 0
        kept = next(view for view in views if view.artifacts)
        assert any("keeps the head and the end" in text for text in kept.warnings) == (
            size > 1 << 30
        )
        owner.client.get_artifact(kept.uuid, ArtifactKind.STD_LOG, tmp_path, extract=True)
        with (tmp_path / "std-log" / "stdout.log").open("rb") as log:
            log.seek(-8, os.SEEK_END)
            assert log.read().endswith(b"y\nEND\n")
        assert box.process.stop() == 0
