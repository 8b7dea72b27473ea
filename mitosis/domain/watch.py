r"""Watching: a task that waits until another one has reached an execution state.

    waits --reached--> ready        (stays fired, whatever becomes of the watched task)
      \--the watched task has ended without it, or the wait is over--> cancelled

What a task has reached over all its attempts is a set of states, kept as one number with a bit for
each. The table follows the original: a state of progress is satisfied by itself and by every later
one, any other only by itself. Two differences, both because more is known here than there: the
wait comes before a worker is chosen, so `Watch` stands before `FetchResource`; and `TaskCommitted`
alone says nothing about what ran before it (a cancelled task has it too), so the end of a task adds
exactly what a task that ended so has gone through.
"""

from collections.abc import Iterable
from enum import Enum

import msgspec

from mitosis.domain.execution import ExecutionState as State
from mitosis.domain.limits import MAX_TIMEOUT_SECONDS, MIN_TIMEOUT_SECONDS, check_number
from mitosis.domain.names import check_name, check_uuid
from mitosis.errors import InvalidInput

_BITS = {state: 1 << place for place, state in enumerate(State)}

# The way of a task, step by step; what is in one line excludes each other.
_PATH: tuple[tuple[State, ...], ...] = (
    (State.WATCH,),
    (State.WATCH_FINISHED, State.WATCH_TIMEOUT),
    (State.FETCH_RESOURCE,),
    (
        State.FETCH_RESOURCE_FINISHED, State.FETCH_RESOURCE_ERROR, State.FETCH_RESOURCE_TIMEOUT,
        State.FETCH_RESOURCE_NOT_FOUND, State.FETCH_RESOURCE_FORBIDDEN,
    ),
    (State.EXEC_PENDING,),
    (State.EXEC_SPAWNED,),
    (State.EXEC_FINISHED, State.EXEC_TIMEOUT),
    (State.UPLOAD_RESULT,),
    (State.UPLOAD_FINISHED_RESULT, State.UPLOAD_CANCELLED_RESULT),
    (State.UPLOAD_RESULT_FINISHED, State.UPLOAD_RESULT_TIMEOUT),
)  # fmt: skip

# Satisfied by everything later on the path; every other state only by itself.
_PROGRESS = frozenset({
    State.WATCH, State.WATCH_FINISHED, State.FETCH_RESOURCE, State.FETCH_RESOURCE_FINISHED,
    State.EXEC_PENDING, State.EXEC_SPAWNED, State.UPLOAD_RESULT,
})  # fmt: skip

NEVER_SATISFIED = frozenset({State.WORKER_EXITED})
"""Says something about a worker; as in the original, no watch is satisfied by it or for it."""

WAITING = frozenset({State.WATCH, State.WATCH_FINISHED})
"""What a task has reached before its first attempt."""


class Watch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a task waits for. `timeout_seconds` 0: for as long as it takes."""

    task: str
    group: str
    state: State
    timeout_seconds: float = 0.0


class Verdict(Enum):
    """What a watch comes to."""

    REACHED = "reached"
    OPEN = "open"
    IMPOSSIBLE = "impossible"


def mask(states: Iterable[State]) -> int:
    """Return states as one number."""
    found = 0
    for state in states:
        found |= _BITS[state]
    return found


def _satisfying(wanted: State) -> int:
    found = _BITS[wanted]
    if wanted in _PROGRESS:
        place = next(at for at, step in enumerate(_PATH) if wanted in step)
        for step in _PATH[place + 1 :]:
            found |= mask(step)
    elif wanted is State.EXEC_FINISHED:
        found |= _BITS[State.UPLOAD_FINISHED_RESULT]
    return found


_SATISFYING = {state: _satisfying(state) for state in State if state not in NEVER_SATISFIED}

_FINISHED = mask(
    {
        *_PROGRESS, State.EXEC_FINISHED, State.UPLOAD_FINISHED_RESULT, State.UPLOAD_RESULT_FINISHED,
    }
)  # fmt: skip
_TIMED_OUT = mask(
    {
        *_PROGRESS, State.EXEC_TIMEOUT, State.UPLOAD_CANCELLED_RESULT, State.UPLOAD_RESULT_FINISHED,
    }
)  # fmt: skip


def reached_at_end(reached: int, *, finished: bool = False, timed_out: bool = False) -> int:
    """Return what a task has reached once it has ended.

    Args:
        reached: Before.
        finished: Its program ran to its own end. A task without outputs has none to upload, and
            counts as one whose outputs are all there.
        timed_out: Its program was stopped at its timeout.
    """
    reached |= _BITS[State.TASK_COMMITTED]
    gone_through = _FINISHED if finished else _TIMED_OUT if timed_out else 0
    if reached & _BITS[State.UPLOAD_RESULT_TIMEOUT]:
        gone_through &= ~_BITS[State.UPLOAD_RESULT_FINISHED]
    return reached | gone_through


def judge_watch(wanted: State, reached: int, *, ended: bool) -> Verdict:
    """Say what becomes of a watch for a state.

    Args:
        wanted: The state.
        reached: What the watched task has reached, in all its attempts.
        ended: Whether the watched task can reach nothing more.
    """
    if reached & _SATISFYING.get(wanted, 0):
        return Verdict.REACHED
    return Verdict.IMPOSSIBLE if ended else Verdict.OPEN


def check_watch(watch: Watch) -> Watch:
    """Return a watch in its canonical form.

    Raises:
        InvalidInput: No UUID, a state that no task can satisfy, a time out of bounds.
    """
    if watch.state in NEVER_SATISFIED:
        raise InvalidInput(
            f"{watch.state} cannot be watched: it tells of a worker, and the task runs again "
            "elsewhere; TaskCommitted comes at the end of every task",
            field="watch",
        )
    if watch.timeout_seconds:
        check_number(
            watch.timeout_seconds, "watch timeout in seconds",
            MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS,
        )  # fmt: skip
    uuid, group = check_uuid(watch.task, "task"), check_name(watch.group, "group")
    return msgspec.structs.replace(watch, task=uuid, group=group)
