"""From an assignment to a program, and from the program's end to what is reported. Pure."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mitosis.contract.work import Assignment
from mitosis.domain.task import MAX_TAIL_BYTES, EndCause, Exit, ExitKind, Usage
from mitosis.processes.runs import (
    Exited,
    Lost,
    Part,
    RunResult,
    RunSpec,
    Signaled,
    SpawnFailed,
    StreamResult,
)

#: What a program gets of the worker's own environment: where and who, never MITO_* or secrets.
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERMINAL_CAP_BYTES = 1 << 30  # of each stream; what comes besides is counted and named
GRACE_SECONDS = 10.0  # upstream §4.6: between SIGTERM and SIGKILL

_DIRECTORIES: Mapping[Part, str] = {
    "result": "MITO_RESULT_DIR",
    "exec": "MITO_EXEC_DIR",
    "resource": "MITO_RESOURCE_DIR",
}


class Fault(msgspec.Struct, frozen=True):
    """The attempt is over through no doing of the task: it goes elsewhere, counted as a loss."""

    reason: str


class HandedBack(msgspec.Struct, frozen=True):
    """The attempt is over by a planned stop: it goes elsewhere, not counted."""

    reason: str


Ending = Exit | Fault | HandedBack


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What every program gets of the worker's environment.

    PYTHONUNBUFFERED is set, so that what a Python program printed before a timeout or a crash is
    there to be read; a task may set it to the empty string.
    """
    base = {
        name: value
        for name, value in environ.items()
        if name in KEPT_VARIABLES or name.startswith("LC_")
    }
    base.setdefault("PATH", DEFAULT_PATH)
    base["PYTHONUNBUFFERED"] = "1"
    return base


def run_spec(assignment: Assignment, base: Mapping[str, str]) -> RunSpec:
    """What the engine runs; a task cannot replace the variables that say where its folders are."""
    spec = assignment.spec
    own = {
        "MITO_TASK_UUID": assignment.task,
        "MITO_GROUP": assignment.group,
        "MITO_ATTEMPT": str(assignment.attempt),
    }
    return RunSpec(
        argv=list(spec.argv),
        env={**base, **spec.env, **own},
        timeout_seconds=spec.timeout_seconds,
        grace_seconds=GRACE_SECONDS,
        output="file" if spec.terminal else "tail",
        tail_bytes=MAX_TAIL_BYTES,
        cap_bytes=TERMINAL_CAP_BYTES if spec.terminal else None,
        directory_env=_DIRECTORIES,
    )


def ending(result: RunResult) -> Ending:
    """What the end of a program means for its attempt."""
    outcome = result.outcome
    if isinstance(outcome, Lost):
        return Fault(f"the process that watched the program died: {outcome.text}")
    if result.cause == "lease":
        return Fault("the worker had no contact with the coordinator until its lease was over")
    if isinstance(outcome, SpawnFailed):
        return _not_started(outcome)
    if result.cause == "shutdown":
        return HandedBack("the worker was stopped")
    return _exit(outcome, result)


def has_outputs(result: RunResult, *, terminal: bool) -> bool:
    """Whether there is something to pack."""
    folder = str(result.folder)  # joined as text: this is on the way of every task
    return terminal or holds_something(f"{folder}/result") or holds_something(f"{folder}/exec")


def holds_something(folder: Path | str) -> bool:
    """Whether a folder is there and not empty; one that cannot be read counts as empty."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def stream_warnings(result: RunResult) -> list[str]:
    """What was not kept of the terminal output."""
    found = []
    for name, stream in (("stdout.log", result.stdout), ("stderr.log", result.stderr)):
        if stream.write_errno:
            found.append(
                f"std-log: {name} ends early: {os.strerror(stream.write_errno)} on the worker"
            )
        elif stream.dropped_bytes:
            found.append(
                f"std-log: {name} ends at {stream.kept_bytes} bytes, "
                f"{stream.dropped_bytes} more were dropped"
            )
    return found


def _not_started(failure: SpawnFailed) -> Ending:
    if failure.stage in {"folder", "output"}:
        return Fault(f"the worker could not set the task up ({failure.stage}): {failure.text}")
    if failure.stage == "lease":
        return Fault("the lease of the worker was over before the program started")
    return Exit(ExitKind.NOT_STARTED, failure.errno, reason=failure.text[:500])


def _exit(outcome: Exited | Signaled, result: RunResult) -> Exit:
    if isinstance(outcome, Exited):
        kind, number = ExitKind.CODE, outcome.code
    else:
        kind, number = ExitKind.SIGNAL, outcome.number
    usage = Usage(
        wall_seconds=result.wall_seconds,
        user_seconds=result.user_cpu_seconds,
        system_seconds=result.system_cpu_seconds,
        max_rss_bytes=result.max_rss_bytes,
        stdout_bytes=_written(result.stdout),
        stderr_bytes=_written(result.stderr),
    )
    return Exit(
        kind=kind,
        number=number,
        cause=EndCause(result.cause),
        usage=usage,
        stdout_tail=_text(result.stdout),
        stderr_tail=_text(result.stderr),
    )


def _written(stream: StreamResult) -> int:
    return stream.kept_bytes + stream.dropped_bytes


def _text(stream: StreamResult) -> str:
    return stream.tail[-MAX_TAIL_BYTES:].decode("utf-8", "replace") if stream.tail else ""
