"""Limits, stop signals and guarantees as their users meet them."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from mitosis import SyncMitoClient
from mitosis.config.client import NO_LIMIT, ChangeTaskArgs, SubmitTaskArgs
from mitosis.contract.queries import WorkerView
from mitosis.domain.resources import Limits
from mitosis.domain.task import ExitKind, Outcome, TaskState
from mitosis.testing.waiting import eventually, processes_with

from .conftest import Done, Home, Platform, Running, ended, in_shell, side_by_side

MIB = 1 << 20
#: Two processes, each below the limit, and more together: the sum counts wherever it is kept, and
#: where there is no control group one allocation above the limit would only fail in the program.
TWO_EATERS = """
import os, sys, time
child = os.fork()
held = bytearray(int(sys.argv[1]) << 20)
time.sleep(0 if child else 20)
os._exit(os.wait()[1] and 1)  # whichever of the two the kernel chooses
"""
FORKER = "for i in 1 2 3 4 5 6 7 8 9; do sleep 20 & done; wait"


class Small(NamedTuple):
    """A worker with ceilings, alone in its group, which takes what is there."""

    group: str
    worker: str


@pytest.fixture(scope="module")
def small(platform: Platform, admin: SyncMitoClient, scratch: Path) -> Iterator[Small]:
    group = f"small-{os.urandom(3).hex()}"
    admin.create_group(group)
    running: Running = Home(scratch / "small").start(
        "worker", "--coordinator", platform.notice["http"], "--groups", group, "--slots", "auto",
        "--default-memory", "64MiB", "--max-memory", "512MiB", "--default-cpu-time", "1s",
        "--default-processes", "20", "--max-processes", "200", "--default-open-files", "48",
        "--max-open-files", "64", "--default-file-size", "512kB", "--max-file-size", "1MB",
        "-u", platform.notice["admin_user"],
        MITO_PASSWORD=platform.admin_password, MITO_MAX_CPU_TIME="1h",
    )  # fmt: skip
    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(eventually(lambda: len(running.out) > 36 or running.ended(), seconds=60))
        assert not running.ended(), running.err
        yield Small(group, running.out.strip())
        assert running.stop() == 0
    finally:
        running.close()


@pytest.mark.parity("D-053")
def test_each_limit_that_a_task_runs_into_is_named_as_the_reason_of_its_end(
    admin: SyncMitoClient,
) -> None:
    tasks = {
        "out of memory: memory limit of 100MiB reached": SubmitTaskArgs(
            command=(sys.executable, "-c", TWO_EATERS, "60"), memory="100MiB"
        ),
        "CPU time limit of 0.3s reached": in_shell(
            "while :; do :; done", cpu_time=timedelta(seconds=0.3)
        ),
        "processes limit of 4 reached": in_shell(FORKER, processes=4),
        "file size limit of 10kB reached": in_shell(
            "exec head -c 20000 /dev/zero > x", file_size=10_000
        ),
    }
    for text, task in zip(tasks, ended(admin, *tasks.values()), strict=True):
        assert (task.state, task.outcome) == (TaskState.FINISHED, Outcome.FAILED), task
        assert text in task.reason, task


@pytest.mark.parity("D-053")
def test_a_task_below_its_limits_succeeds_and_finds_those_of_each_process_set(
    admin: SyncMitoClient, small: Small
) -> None:
    script = "test $(ulimit -n) = $WANTED"
    asked, default, capped = ended(
        admin,
        in_shell(script, group=small.group, open_files=32, envs={"WANTED": "32"}),
        in_shell(script, group=small.group, envs={"WANTED": "48"}),
        in_shell(script, group=small.group, open_files=64, envs={"WANTED": "64"}),
    )
    assert [task.outcome for task in (asked, default, capped)] == [Outcome.SUCCEEDED] * 3
    assert asked.spec.limits == Limits(open_files=32)
    assert asked.reason == ""


@pytest.mark.parity("D-053")
def test_the_limits_of_the_worker_hold_for_a_task_that_asks_for_none(
    admin: SyncMitoClient, small: Small
) -> None:
    tasks = {
        "out of memory: memory limit of 64MiB reached": SubmitTaskArgs(
            command=(sys.executable, "-S", "-E", "-c", TWO_EATERS, "40")
        ),
        "CPU time limit of 1s reached": in_shell("while :; do :; done"),
        "processes limit of 20 reached": in_shell("for i in $(seq 30); do sleep 9 & done; wait"),
        "file size limit of 500KiB reached": in_shell("head -c 600000 /dev/zero > x; exit $?"),
    }
    views = ended(admin, *(replace(task, group=small.group) for task in tasks.values()))
    for text, view in zip(tasks, views, strict=True):
        assert (view.outcome, view.spec.limits) == (Outcome.FAILED, Limits())
        assert text in view.reason, view


@pytest.mark.parity("D-053")
def test_no_worker_is_given_a_task_above_any_of_its_ceilings(
    admin: SyncMitoClient, small: Small
) -> None:
    for field, at, above in (
        ("memory", "512MiB", "513MiB"),
        ("cpu_time", "1h", "1h1s"),
        ("processes", 200, 201),
        ("open_files", 64, 65),
        ("file_size", "1MB", "1001kB"),
    ):
        fits, waits = (
            admin.submit_task(in_shell("true", group=small.group, **{field: value}))
            for value in (at, above)
        )
        assert (fits.runnable, waits.runnable) == (True, False), field
        assert admin.wait_for_tasks([fits.task])[0].outcome is Outcome.SUCCEEDED, field
        assert admin.get_task(waits.task).state is TaskState.READY, field
        admin.cancel_task(waits.task)


@pytest.mark.parity("D-053")
def test_a_task_over_the_ceilings_of_all_workers_waits_and_is_told_why(
    small: Small, admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    done = shell("submit", "-g", small.group, "--memory", "1GiB", "--grace", "30s", "--", "true")
    assert done.status == 0
    assert "whose ceilings allow its limits (memory 1GiB)" in done.err
    task = done.text
    assert admin.get_task(task).state is TaskState.READY
    refused = shell("manage", "task", task, "change", "--memory", "lots")
    assert refused.status == 2
    assert "'lots' is no size" in refused.err
    shell("manage", "task", task, "change", "--memory", "none", "--stop-signal", "SIGINT")
    (view,) = admin.wait_for_tasks([task])
    assert (view.outcome, view.spec.limits) == (Outcome.SUCCEEDED, Limits())
    assert (view.spec.stop_signal, view.spec.grace_seconds) == ("INT", 30.0)
    again = admin.submit_task(in_shell("true", group=small.group, memory="1GiB", processes=3))
    assert not again.runnable
    assert admin.change_task(ChangeTaskArgs(task=again.task, memory=NO_LIMIT)).runnable
    assert ended(admin, again)[0].spec.limits == Limits(processes=3)


@pytest.mark.parity("D-053")
def test_a_worker_shows_its_slots_its_limits_and_what_its_machine_guarantees(
    small: Small, admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    view: WorkerView = admin.get_worker(small.worker)
    assert view.slots == len(os.sched_getaffinity(0))
    assert view.default_limits == Limits(
        memory_bytes=64 * MIB, cpu_seconds=1, processes=20, open_files=48, file_size_bytes=512_000
    )
    assert view.ceilings == Limits(
        memory_bytes=512 * MIB, cpu_seconds=3600, processes=200, open_files=64,
        file_size_bytes=1_000_000,
    )  # fmt: skip
    lines = shell("get", "worker", small.worker).text.splitlines()
    shown = "memory 64MiB, CPU time 1s, processes 20, open files 48, file size 500KiB"
    assert f"Default Limits: {shown}" in lines
    shown = "memory 512MiB, CPU time 1h, processes 200, open files 64, file size 1MB"
    assert f"Ceilings: {shown}" in lines
    promised = [line.removeprefix("Guarantee: ") for line in lines if "Guarantee: " in line]
    assert promised == list(view.guarantees)
    for part in ("what they ran dies with them", "in one moment", "limit of memory: of the tree"):
        assert any(part in sentence for sentence in promised), promised
    assert shell("get", "worker", small.worker, "--json").json["guarantees"] == promised


@pytest.mark.parity("D-035")
def test_the_stop_signal_and_the_grace_are_those_of_the_task(admin: SyncMitoClient) -> None:
    polite = "trap 'echo asked; exit 0' INT; trap 'echo wrong' TERM; echo up; sleep 20 & wait; wait"
    deaf = "trap '' INT TERM; sleep 20 & sleep 20"
    asked, killed = ended(
        admin,
        in_shell(polite, stop_signal="INT", timeout="500ms", grace="1s"),
        in_shell(deaf, stop_signal="sigint", timeout="500ms", grace="300ms"),
    )
    for task in (asked, killed):
        assert (task.outcome, task.reason) == (Outcome.TIMED_OUT, "the timeout was over")
        assert task.exit is not None
    assert asked.exit is not None
    assert asked.exit.stdout_tail == "up\nasked\n"
    assert killed.exit is not None
    assert (killed.exit.kind, killed.exit.number) == (ExitKind.SIGNAL, 9)
    assert 0.7 < killed.exit.usage.wall_seconds < 5


@pytest.mark.parity("D-035")
async def test_the_grace_of_a_cancel_is_that_of_the_task_too(admin: SyncMitoClient) -> None:
    task = admin.submit_task(in_shell("trap '' TERM; sleep 7531.5 & sleep 7531.5", grace="200ms"))
    await eventually(lambda: len(processes_with("sleep\0007531.5")) == 2)
    admin.cancel_task(task.task)
    (view,) = ended(admin, task)
    assert view.outcome is Outcome.CANCELLED
    assert view.exit is not None
    assert view.exit.usage.wall_seconds < 8, "and not the ten seconds of others"


@pytest.mark.parity("D-037", "D-038")
def test_get_task_tells_the_three_ends_apart_with_usage_and_last_words(
    admin: SyncMitoClient, shell: Callable[..., Done]
) -> None:
    words = "seq 3; printf 'bad\\tthing\\033[31m\\n' >&2; "
    burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; "
    tasks = ended(
        admin,
        in_shell(words + burn + "exit 3"),
        in_shell(words + "kill -USR1 $$"),
        SubmitTaskArgs(command=("/no/such/program",)),
        in_shell(words),
    )
    shown = side_by_side(lambda c: shell(*c), [("get", "task", task.uuid) for task in tasks])
    code, signalled, missing, fine = (done.text.splitlines() for done in shown)
    assert any(line.startswith("Task Result: exit code 3 after ") for line in code)
    assert any(line.startswith("Task Result: killed by signal 10 ") for line in signalled)
    assert any(line.startswith("Task Result: not started (errno 2)") for line in missing)
    tail = ["End of stderr (15 B in all):", "  bad     thing\\x1b[31m"]
    tail += ["End of stdout (6 B in all):", "  1", "  2", "  3"]
    for lines in (code, signalled):
        assert lines[lines.index(tail[0]) :][:6] == tail
    assert tail[0] not in fine + missing, "only who failed is asked why"
    usage = r"Usage: wall "
    assert [sum(line.startswith(usage) for line in lines) for lines in
            (code, signalled, missing, fine)] == [1, 1, 0, 1]  # fmt: skip
    found = shell("get", "tasks", "--limit", "4", "--json").json["tasks"][:3]
    assert [task["exit"]["kind"] for task in found] == ["code", "signal", "not_started"]
    assert [task["exit"]["number"] for task in found] == [3, 10, 2]
    used = found[0]["exit"]["usage"]
    assert used["user_seconds"] > 0
    assert used["max_rss_bytes"] > MIB
    assert (used["stdout_bytes"], used["stderr_bytes"]) == (6, 15)


def test_nonsense_is_refused_before_it_is_sent(shell: Callable[..., Done]) -> None:
    wrong = {
        ("--memory", "5"): "memory in bytes is 5: it must be from 1048576",
        ("--open-files", "many"): "'many' is no whole number",
        ("--stop-signal", "SIGSTOP"): "no signal to stop a task by",
        ("--grace", "3d"): "grace in seconds is 259200.0: it must be from 0.001 to 86400.0",
    }
    commands = [("submit", *options, "--json", "--", "true") for options in wrong]
    refused = side_by_side(lambda command: shell(*command), commands)
    for done, text in zip(refused, wrong.values(), strict=True):
        assert done.status in {1, 2}
        assert text in done.json["error"]["message"]
