import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mitosis.contract.work import Assignment
from mitosis.domain.resources import Limits
from mitosis.domain.task import Exit, ExitKind, TaskSpec
from mitosis.processes.runs import (
    Exited,
    Lost,
    RunResult,
    Signaled,
    SpawnFailed,
    StreamResult,
    Survivor,
)
from mitosis.services.worker.faults import complaint
from mitosis.services.worker.run import (
    Fault,
    TaskTerms,
    ending,
    has_outputs,
    holds_something,
    run_spec,
    run_warnings,
    stream_warnings,
)

TERMS = TaskTerms({})


def assignment(**spec: object) -> Assignment:
    return Assignment("t1", "lab", 3, 600.0, TaskSpec(("echo", "é"), **spec))  # type: ignore[arg-type]


def test_a_task_sets_its_variables_but_not_those_that_name_its_folders() -> None:
    spec = run_spec(
        assignment(env={"MITO_TASK_UUID": "mine", "PATH": "/task", "X": "1"}),
        TaskTerms({"PATH": "/bin"}),
    )
    assert spec.env == {
        "PATH": "/task",
        "X": "1",
        "MITO_TASK_UUID": "t1",
        "MITO_GROUP": "lab",
        "MITO_ATTEMPT": "3",
    }
    assert spec.directory_env == {
        "result": "MITO_RESULT_DIR",
        "exec": "MITO_EXEC_DIR",
        "resource": "MITO_RESOURCE_DIR",
        "tmp": "TMPDIR",
    }
    own = run_spec(assignment(env={"TMPDIR": "/scratch"}), TERMS)
    assert own.env["TMPDIR"] == "/scratch"
    assert "tmp" not in own.directory_env


def test_argv_and_timeout_are_the_task_s_own() -> None:
    spec = run_spec(assignment(timeout_seconds=0.25), TERMS)
    assert spec.argv == ["echo", "é"]
    assert spec.timeout_seconds == 0.25


def test_only_a_terminal_task_writes_its_output_to_files() -> None:
    assert run_spec(assignment(), TERMS).output == "tail"
    terminal = run_spec(assignment(terminal=True), TERMS)
    assert terminal.output == "file"
    assert terminal.cap_bytes == 1 << 30


def test_how_a_task_is_stopped_and_what_it_may_use_is_its_own_wish() -> None:
    wished = run_spec(
        assignment(limits=Limits(processes=5), stop_signal="INT", grace_seconds=0.5), TERMS
    )
    assert wished.limits == Limits(processes=5)
    assert (wished.stop_signal, wished.grace_seconds) == (signal.SIGINT, 0.5)
    plain = run_spec(assignment(), TERMS)
    assert plain.limits is None, "no limits cost nothing"
    assert (plain.stop_signal, plain.grace_seconds) == (signal.SIGTERM, 10.0)


def test_the_worker_gives_limits_to_those_who_ask_for_none_and_is_never_exceeded() -> None:
    terms = TaskTerms({}, Limits(processes=10, open_files=900), Limits(memory_bytes=1 << 30,
                                                                       processes=20))  # fmt: skip
    assert run_spec(assignment(), terms).limits == Limits(
        memory_bytes=1 << 30, processes=10, open_files=900
    )
    asked = assignment(limits=Limits(memory_bytes=1 << 40, processes=15, cpu_seconds=3.0))
    assert run_spec(asked, terms).limits == Limits(
        memory_bytes=1 << 30, processes=15, open_files=900, cpu_seconds=3.0
    )


def test_a_limit_that_was_hit_is_named_with_its_value(tmp_path: Path) -> None:
    texts = {
        "memory": "out of memory: memory limit of 1GiB reached",
        "cpu": "CPU time limit of 1m 30s reached",
        "processes": "processes limit of 7 reached",
        "file_size": "file size limit of 500MB reached",
        "machine_memory": "the worker's machine was out of memory, and its kernel killed a process",
    }
    limits = Limits(memory_bytes=1 << 30, cpu_seconds=90, processes=7, file_size_bytes=500_000_000)
    for name, text in texts.items():
        hit = result(tmp_path, outcome=Signaled(9), limits_hit=(name,), limits=limits)
        end = ending(hit)
        assert isinstance(end, Exit)
        assert (end.kind, end.number, end.reason) == (ExitKind.SIGNAL, 9, text)
    end = ending(result(tmp_path, limits=limits))
    assert isinstance(end, Exit)
    assert end.reason == ""


def result(folder: Path, **fields: Any) -> RunResult:
    return RunResult(
        **{"outcome": Exited(0), "cause": "own", "started_at": 0, "ended_at": 0, "folder": folder}
        | fields
    )


def test_a_folder_counts_when_it_holds_something(tmp_path: Path) -> None:
    assert not holds_something(tmp_path / "gone")
    assert has_outputs(result(tmp_path)) is None
    (tmp_path / "exec").mkdir()
    (tmp_path / "result").touch()
    assert has_outputs(result(tmp_path)), "what is no folder is looked at by the packing"
    (tmp_path / "result").unlink()
    assert not has_outputs(result(tmp_path))
    (tmp_path / "exec" / ".hidden").touch()
    assert has_outputs(result(tmp_path))
    assert not has_outputs(result(tmp_path, left_nothing=True)), "the runner has looked already"
    (tmp_path / "empty").mkdir()
    (tmp_path / "result").symlink_to(tmp_path / "empty")
    assert holds_something(tmp_path / "result"), "a link is looked at by the packing"


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes a normal user, whom modes hold back")
def test_outputs_below_a_closed_work_folder_are_doubtful_and_the_folder_is_complained_of() -> None:
    """A task of another slot can close it; what a program closes itself is its own doing."""
    with tempfile.TemporaryDirectory(dir="/tmp") as ground:
        pid = os.fork()
        if pid == 0:
            answers: list[object] = []
            try:
                os.chown(ground, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                slots = Path(ground) / "slots"
                (slots / "slot-0-0" / "result").mkdir(parents=True)
                (slots / "slot-0-0" / "result").chmod(0)
                answers += [has_outputs(result(slots / "slot-0-0")), complaint(slots)]
                slots.chmod(0)
                answers += [has_outputs(result(slots / "slot-0-0")), complaint(slots)]
                slots.chmod(0o700)
            finally:
                why = f"the work folder {ground}/slots: Permission denied"
                os._exit(0 if answers == [True, "", None, why] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_was_not_kept_of_the_output_is_named(tmp_path: Path) -> None:
    lost = result(
        tmp_path,
        stdout=StreamResult(kept_bytes=10, dropped_bytes=5),
        stderr=StreamResult(write_errno=28),
    )
    assert stream_warnings(lost) == [
        "std-log: stdout.log keeps the head and the end, 10 bytes; 5 between them are left out",
        "std-log: stderr.log ends early: No space left on device on the worker",
    ]
    assert stream_warnings(result(tmp_path)) == []


@pytest.mark.parametrize("stage", ["folder", "output", "machine", "limits", "user"])
def test_a_worker_that_cannot_start_anything_is_not_the_task_s_fault(
    tmp_path: Path, stage: Any
) -> None:
    failed = result(tmp_path, outcome=SpawnFailed(stage, 11, "no process left"))
    assert ending(failed) == Fault(
        f"the worker could not set the task up ({stage}): no process left",
        before_start=stage != "limits",
    )


def test_a_task_whose_runner_was_killed_or_stopped_is_named_as_the_likely_cause(
    tmp_path: Path,
) -> None:
    killed = result(tmp_path, outcome=Lost("the runner was killed by signal 9", by_task=True))
    assert ending(killed) == Fault(
        "the runner was killed by signal 9 while it ran this task, which is the likely cause: "
        "programs can signal the processes of their user",
        by_task=True,
    )
    broken = ending(result(tmp_path, outcome=Lost("the runner died (exit code 1)")))
    assert broken == Fault(
        "the process that watched the program died: the runner died (exit code 1)"
    )


def test_a_program_that_cannot_start_is_the_task_s_own_matter(tmp_path: Path) -> None:
    failed = result(tmp_path, outcome=SpawnFailed("exec", 2, "x: no such file"))
    assert ending(failed) == Exit(ExitKind.NOT_STARTED, 2, reason="x: no such file")


def test_what_else_is_to_be_known_of_a_run_is_said(tmp_path: Path) -> None:
    odd = result(
        tmp_path,
        tree_clean=False,
        survivors=(Survivor(77, 0, "tcpdump"),),
        mounts=(tmp_path / "work/b", tmp_path / "work/t"),
    )
    assert run_warnings(odd) == [
        "process 77 (tcpdump) belongs to root and could not be stopped",
        "file systems that the task left mounted were unmounted: work/b, work/t",
    ]
    assert run_warnings(result(tmp_path)) == []


@pytest.mark.parametrize(
    "end", [{"outcome": Exited(0)}, {"outcome": Signaled(15), "cause": "timeout"}]
)
def test_a_limit_that_is_not_the_reason_of_the_end_is_a_warning(tmp_path: Path, end: Any) -> None:
    """A task that succeeds although a child of it was killed may have wrong results."""
    limits = Limits(memory_bytes=1 << 30)
    text = "out of memory: memory limit of 1GiB reached"
    hit = result(tmp_path, limits_hit=("memory",), limits=limits, **end)
    assert run_warnings(hit) == [text]
    failed = result(tmp_path, limits_hit=("memory",), limits=limits, outcome=Exited(1))
    assert run_warnings(failed) == [], "the reason has it"
