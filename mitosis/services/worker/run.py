"""From an assignment to a program, and from the program's end to what is reported. Pure."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from mitosis.contract.work import Assignment
from mitosis.domain.resources import NO_LIMITS, Limits
from mitosis.domain.task import MAX_TAIL_BYTES, EndCause, Exit, ExitKind, Usage
from mitosis.processes.environment import TEMPORARY
from mitosis.processes.runs import (
    WORKER_STAGES,
    Exited,
    LimitName,
    Lost,
    NotBegun,
    Part,
    RunResult,
    RunSpec,
    Signaled,
    SpawnFailed,
    Stage,
    StreamResult,
)
from mitosis.services.worker.masking import Masking

TERMINAL_CAP_BYTES = 1 << 30  # of each stream; what comes besides is counted and named

#: A start that fails at one of these would have failed for any task. The limits are the task's own
#: wishes, and so they could fail everywhere.
_STAGES_OF_ANY_TASK: frozenset[Stage] = WORKER_STAGES - {"limits"}

_DIRECTORIES: Mapping[Part, str] = {
    "result": "MITO_RESULT_DIR",
    "exec": "MITO_EXEC_DIR",
    "resource": "MITO_RESOURCE_DIR",
}
_DIRECTORIES_AND_TEMPORARY: Mapping[Part, str] = {**_DIRECTORIES, TEMPORARY[0]: TEMPORARY[1]}


_SIGNALS = {number.name.removeprefix("SIG"): number for number in signal.Signals}


class Fault(msgspec.Struct, frozen=True):
    """The attempt is over through no doing of the task: it goes elsewhere.

    Counted as a loss, for the program may be what brings workers down; unless the worker could not
    even begin (`before_start`). `by_task`: the task itself is the likely cause.
    """

    reason: str
    before_start: bool = False
    by_task: bool = False


class HandedBack(msgspec.Struct, frozen=True):
    """The attempt is over by a planned stop, or was never begun: it goes elsewhere, not counted."""

    reason: str


Ending = Exit | Fault | HandedBack


class TaskTerms(msgspec.Struct, frozen=True):
    """What a worker gives to every task: the base of its environment, and its limits.

    `default_limits` hold for what a task does not ask for, `ceilings` whatever it asks for.
    """

    environment: Mapping[str, str]
    default_limits: Limits = NO_LIMITS
    ceilings: Limits = NO_LIMITS


def run_spec(
    assignment: Assignment,
    terms: TaskTerms,
    secrets: Mapping[str, str] = MappingProxyType({}),
    masking: Masking | None = None,
) -> RunSpec:
    """What the engine runs; a task cannot replace the variables that say where its folders are."""
    spec = assignment.spec
    own = {
        "MITO_TASK_UUID": assignment.task,
        "MITO_GROUP": assignment.group,
        "MITO_ATTEMPT": str(assignment.attempt),
    }
    # A task that brings its own TMPDIR keeps it; the folders of the platform are always its own.
    directories = _DIRECTORIES if TEMPORARY[1] in spec.env else _DIRECTORIES_AND_TEMPORARY
    return RunSpec(
        argv=list(spec.argv),
        env={**terms.environment, **spec.env, **secrets, **own},
        timeout_seconds=spec.timeout_seconds,
        grace_seconds=spec.grace_seconds,
        stop_signal=_SIGNALS[spec.stop_signal],
        output="file" if spec.terminal else "tail",
        # A value at the border of what is told would be told in part.
        tail_bytes=MAX_TAIL_BYTES + (masking.longest if masking else 0),
        cap_bytes=TERMINAL_CAP_BYTES if spec.terminal else None,
        limits=limits_of(spec.limits, terms),
        directory_env=directories,
    )


def limits_of(asked: Limits, terms: TaskTerms) -> Limits | None:
    """What holds for a task; None when nothing is limited, which is the cheaper start."""
    if asked == terms.default_limits == terms.ceilings == NO_LIMITS:
        return None
    limits = asked.or_else(terms.default_limits, terms.ceilings)
    return None if limits == NO_LIMITS else limits


def ending(result: RunResult, masking: Masking | None = None) -> Ending:
    """What the end of a program means for its attempt; nothing of it holds a secret value."""
    outcome = result.outcome
    if isinstance(outcome, Lost) and outcome.by_task:
        return Fault(
            f"{outcome.text} while it ran this task, which is the likely cause: programs can "
            "signal the processes of their user",
            by_task=True,
        )
    if isinstance(outcome, Lost):
        return Fault(f"the process that watched the program died: {outcome.text}")
    if isinstance(outcome, SpawnFailed) and outcome.stage == "lease":
        return HandedBack("the lease of the worker was over before the program started")
    if result.cause == "lease":
        return Fault("the worker had no contact with the coordinator until its lease was over")
    if isinstance(outcome, SpawnFailed):
        return _not_started(outcome)
    if result.cause == "shutdown" or isinstance(outcome, NotBegun):
        return HandedBack("the worker was stopped")
    return _exit(outcome, result, masking)


def is_doubtful(end: Exit, outputs: bool | None) -> bool:
    """Whether the worker may have spoiled this end: the program failed, or its outputs are gone."""
    failed = end.kind is not ExitKind.CODE or end.number != 0
    return end.cause is EndCause.OWN and (failed or outputs is None)


def has_outputs(result: RunResult) -> bool | None:
    """Whether folders hold something to pack; None when that of results is not to be had."""
    if result.left_nothing:
        return False
    folder = str(result.folder)  # joined as text: this is on the way of many tasks
    results = holds_something(f"{folder}/result")
    return results or holds_something(f"{folder}/exec") or results


def holds_something(folder: Path | str) -> bool | None:
    """Whether a part of a slot's folder holds something; None when it is not to be had.

    What the program itself has made unreadable, or a link, counts: the packing says so.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        slots = os.path.dirname(os.path.dirname(folder))  # noqa: PTH120 - text, as above
        return True if os.access(slots, os.X_OK) else None
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is not None
    except OSError:
        return True
    finally:
        os.close(fd)


def stream_warnings(result: RunResult) -> list[str]:
    """What was not kept of the terminal output."""
    found: list[str] = []
    for name, stream in (("stdout.log", result.stdout), ("stderr.log", result.stderr)):
        if stream.write_errno:
            found.append(
                f"std-log: {name} ends early: {os.strerror(stream.write_errno)} on the worker"
            )
        elif stream.dropped_bytes:
            found.append(
                f"std-log: {name} keeps the head and the end, {stream.kept_bytes} bytes; "
                f"{stream.dropped_bytes} between them are left out"
            )
    return found


def run_warnings(result: RunResult) -> list[str]:
    """What a user should know of a run besides its outcome."""
    found = [str(process) for process in result.survivors]
    if result.mounts:
        points = ", ".join(str(point.relative_to(result.folder)) for point in result.mounts)
        done = "unmounted" if result.mounts_gone else "left as they are, with the task's folder"
        found.append(f"file systems that the task left mounted were {done}: {points}")
    if result.limits_hit and not _failed_by_itself(result):
        found.append(_limits_hit(result))
    return found


def _failed_by_itself(result: RunResult) -> bool:
    """Whether the reason of the task's end names the limits that it ran into."""
    return result.cause == "own" and result.outcome != Exited(0)


def _not_started(failure: SpawnFailed) -> Ending:
    if failure.is_worker_fault:
        text = f"the worker could not set the task up ({failure.stage}): {failure.text}"
        return Fault(text, before_start=failure.stage in _STAGES_OF_ANY_TASK)
    return Exit(ExitKind.NOT_STARTED, failure.errno, reason=failure.text[:500])


_NOUNS: Mapping[LimitName, str] = {
    "memory": "memory",
    "cpu": "CPU time",
    "processes": "processes",
    "open_files": "open files",
    "file_size": "file size",
}


def _limits_hit(result: RunResult) -> str:
    """Name the limits that the task ran into, in words for its owner; empty for none."""
    values = (result.limits or NO_LIMITS).texts()
    found: list[str] = []
    for name in result.limits_hit:
        if name == "machine_memory":
            found.append("the worker's machine was out of memory, and its kernel killed a process")
            continue
        noun = _NOUNS[name]
        text = f"{noun} limit of {values.get(noun, 'the machine')} reached"
        found.append(f"out of memory: {text}" if name == "memory" else text)
    return "; ".join(found)


def _exit(outcome: Exited | Signaled, result: RunResult, masking: Masking | None = None) -> Exit:
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
        reason=_limits_hit(result) if result.limits_hit else "",
        usage=usage,
        stdout_tail=_text(result.stdout, masking),
        stderr_tail=_text(result.stderr, masking),
    )


def _written(stream: StreamResult) -> int:
    return stream.kept_bytes + stream.dropped_bytes


def _text(stream: StreamResult, masking: Masking | None) -> str:
    if not stream.tail:
        return ""
    tail = stream.tail
    if masking is not None:
        tail = masking.tail(tail, cut=len(tail) < stream.total_bytes)
    return tail[-MAX_TAIL_BYTES:].decode("utf-8", "replace")
