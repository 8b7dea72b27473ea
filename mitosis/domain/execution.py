"""Execution states: the finer steps of a running task, with the names that users know.

The names are the original's, in its exact spelling. `--watch` accepts them, they
are recorded with their own time, and they are shown live.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from mitosis.domain.nearest import one_of
from mitosis.errors import InvalidInput


class ExecutionState(StrEnum):
    """A step in the life of one attempt."""

    WORKER_EXITED = "WorkerExited"
    FETCH_RESOURCE = "FetchResource"
    FETCH_RESOURCE_FINISHED = "FetchResourceFinished"
    FETCH_RESOURCE_ERROR = "FetchResourceError"
    FETCH_RESOURCE_TIMEOUT = "FetchResourceTimeout"
    FETCH_RESOURCE_NOT_FOUND = "FetchResourceNotFound"
    FETCH_RESOURCE_FORBIDDEN = "FetchResourceForbidden"
    WATCH = "Watch"
    WATCH_FINISHED = "WatchFinished"
    WATCH_TIMEOUT = "WatchTimeout"
    EXEC_PENDING = "ExecPending"
    EXEC_SPAWNED = "ExecSpawned"
    EXEC_FINISHED = "ExecFinished"
    EXEC_TIMEOUT = "ExecTimeout"
    UPLOAD_RESULT = "UploadResult"
    UPLOAD_FINISHED_RESULT = "UploadFinishedResult"
    UPLOAD_CANCELLED_RESULT = "UploadCancelledResult"
    UPLOAD_RESULT_FINISHED = "UploadResultFinished"
    UPLOAD_RESULT_TIMEOUT = "UploadResultTimeout"
    TASK_COMMITTED = "TaskCommitted"


class Step(msgspec.Struct, frozen=True, array_like=True):
    """A state that was reached, and when (by the coordinator's clock)."""

    state: ExecutionState
    at: datetime


def parse_execution_state(text: str) -> ExecutionState:
    """Read the exact name of an execution state.

    Raises:
        InvalidInput: No such state; the message has the nearest one.
    """
    try:
        return ExecutionState(text)
    except ValueError:
        shown = text if len(text) <= 40 else text[:40] + "..."
        advice = one_of(shown, [state.value for state in ExecutionState])
        raise InvalidInput(f"{shown!r} is no execution state: {advice}", field="state") from None
