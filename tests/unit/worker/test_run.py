from pathlib import Path

from mitosis.contract.work import Assignment
from mitosis.domain.task import TaskSpec
from mitosis.processes.runs import Exited, RunResult, StreamResult
from mitosis.services.worker.run import (
    base_environment,
    has_outputs,
    holds_something,
    run_spec,
    stream_warnings,
)

SECRETS = {
    "MITO_PASSWORD": "secret",
    "MITO_USER": "alice",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "PATH": "/opt/bin:/bin",
    "HOME": "/home/w",
    "LC_ALL": "C.UTF-8",
    "PYTHONPATH": "/worker/code",
}


def test_programs_get_none_of_the_workers_secrets() -> None:
    assert base_environment(SECRETS) == {
        "PATH": "/opt/bin:/bin",
        "HOME": "/home/w",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def test_there_is_always_a_path() -> None:
    assert "/usr/bin" in base_environment({})["PATH"]


def assignment(**spec: object) -> Assignment:
    return Assignment("t1", "lab", 3, 600.0, TaskSpec(("echo", "é"), **spec))  # type: ignore[arg-type]


def test_a_task_sets_its_variables_but_not_those_that_name_its_folders() -> None:
    spec = run_spec(
        assignment(env={"MITO_TASK_UUID": "mine", "PATH": "/task", "X": "1"}), {"PATH": "/bin"}
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
    }


def test_argv_and_timeout_are_the_task_s_own() -> None:
    spec = run_spec(assignment(timeout_seconds=0.25), {})
    assert spec.argv == ["echo", "é"]
    assert spec.timeout_seconds == 0.25


def test_only_a_terminal_task_writes_its_output_to_files() -> None:
    assert run_spec(assignment(), {}).output == "tail"
    terminal = run_spec(assignment(terminal=True), {})
    assert terminal.output == "file"
    assert terminal.cap_bytes == 1 << 30


def result(folder: Path, **streams: StreamResult) -> RunResult:
    return RunResult(
        outcome=Exited(0), cause="own", started_at=0, ended_at=0, folder=folder, **streams
    )


def test_a_folder_counts_when_it_holds_something(tmp_path: Path) -> None:
    assert not holds_something(tmp_path / "gone")
    (tmp_path / "exec").mkdir()
    assert not has_outputs(result(tmp_path), terminal=False)
    (tmp_path / "exec" / ".hidden").touch()
    assert has_outputs(result(tmp_path), terminal=False)


def test_what_was_not_kept_of_the_output_is_named(tmp_path: Path) -> None:
    lost = result(
        tmp_path,
        stdout=StreamResult(kept_bytes=10, dropped_bytes=5),
        stderr=StreamResult(write_errno=28),
    )
    assert stream_warnings(lost) == [
        "std-log: stdout.log ends at 10 bytes, 5 more were dropped",
        "std-log: stderr.log ends early: No space left on device on the worker",
    ]
    assert stream_warnings(result(tmp_path)) == []
