"""Submits before they are sent: checked as far as it can be here, and cut into requests."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import TypeVar

import msgspec

from mitosis.config.client import (
    NO_LIMIT,
    NO_WATCH,
    ChangeTaskArgs,
    SubmitTaskArgs,
    TaskEdits,
    WatchArgs,
)
from mitosis.contract.commands import (
    CancelTask,
    ChangedLimits,
    ChangedRetry,
    ChangeTask,
    SubmitTask,
    WatchWanted,
)
from mitosis.contract.wire import MAX_REQUEST_BYTES
from mitosis.domain.durations import parse_duration, parse_size
from mitosis.domain.execution import parse_execution_state
from mitosis.domain.limits import (
    MAX_BATCH,
    MAX_KEY_BYTES,
    MAX_PRIORITY,
    MAX_REASON_BYTES,
    MAX_TIMEOUT_SECONDS,
    MIN_TIMEOUT_SECONDS,
    check_command,
    check_number,
    check_tags,
    check_text,
)
from mitosis.domain.names import check_name, check_uuid
from mitosis.domain.resources import MAX_GRACE_SECONDS, NO_LIMITS, check_stop_signal
from mitosis.domain.retry import (
    MAX_DELAY_SECONDS,
    NO_RETRY,
    check_losses,
    check_times,
    parse_cause,
)
from mitosis.domain.secret import check_secrets
from mitosis.domain.watch import Watch, check_watch
from mitosis.errors import InvalidInput

# A part of the batch that leaves room for the envelope of the request.
MAX_BATCH_BYTES = MAX_REQUEST_BYTES - 4_096

_DEFAULTS = SubmitTaskArgs(command=())

Given = TypeVar("Given")
Read = TypeVar("Read")


def to_request(args: SubmitTaskArgs) -> SubmitTask:
    """Check a submit as far as it can be here, and draw a key if none is given.

    The watched task must have been given by its UUID.

    Raises:
        InvalidInput: A value out of its bounds.
    """
    check_command(args.command, args.envs)
    if args.group:
        check_name(args.group, "group")
    check_text(args.key, "the key", MAX_KEY_BYTES)
    check_number(args.priority, "priority", -MAX_PRIORITY, MAX_PRIORITY)
    body = SubmitTask(
        argv=tuple(args.command),
        key=args.key or os.urandom(16).hex(),
        group=args.group,
        env=dict(args.envs),
        tags=check_tags(args.tags, "tags"),
        labels=check_tags(args.labels, "labels"),
        priority=args.priority,
        terminal=args.terminal,
        watch=None if args.watch is None else to_watch(args.watch),
    )
    # All of a large campaign is checked before anything of it is sent: what nobody has given is not
    # looked at for each of its tasks.
    if _is_given(args, "timeout", "grace", "stop_signal", "max_losses"):
        body.timeout_seconds = seconds_of(args.timeout, "timeout")
        body.grace_seconds = seconds_of(args.grace, "grace", MAX_GRACE_SECONDS)
        body.stop_signal = check_stop_signal(args.stop_signal)
        body.max_losses = check_losses(args.max_losses)
    if args.secret_envs:
        body.secret_env = read_secrets(args.secret_envs, args.envs)
    if _is_given(args, "memory", "cpu_time", "processes", "open_files", "file_size"):
        body.limits = read_limits(args).of(NO_LIMITS)
    if _is_given(args, "retries", "retry_on", "retry_delay", "retry_max_delay"):
        body.retry = read_retry(args).of(NO_RETRY).checked()
    return body


def _is_given(args: SubmitTaskArgs, *fields: str) -> bool:
    """Whether any of the fields is another object than the default, be it equal or not."""
    return any(getattr(args, field) is not getattr(_DEFAULTS, field) for field in fields)


def to_change(uuid: str, args: ChangeTaskArgs) -> ChangeTask:
    """Check a change as far as it can be here.

    Raises:
        InvalidInput: A value out of its bounds, or nothing to change.
    """
    body = to_edits(uuid, args)
    if body == ChangeTask(uuid):
        raise InvalidInput("there is nothing to change: give what is to become different")
    return body


def to_edits(uuid: str, args: TaskEdits) -> ChangeTask:
    """Check what is to be different in a specification, as far as it can be here.

    Raises:
        InvalidInput: A value out of its bounds.
    """
    if args.command is not None or args.envs is not None:
        check_command(("-",) if args.command is None else args.command, args.envs or {})
    if args.priority is not None:
        check_number(args.priority, "priority", -MAX_PRIORITY, MAX_PRIORITY)
    body = ChangeTask(
        uuid,
        argv=None if args.command is None else tuple(args.command),
        env=None if args.envs is None else dict(args.envs),
        tags=None if args.tags is None else check_tags(args.tags, "tags"),
        priority=args.priority,
        timeout_seconds=None if args.timeout is None else seconds_of(args.timeout, "timeout"),
        terminal=args.terminal,
        stop_signal=None if args.stop_signal is None else check_stop_signal(args.stop_signal),
        grace_seconds=(
            None if args.grace is None else seconds_of(args.grace, "grace", MAX_GRACE_SECONDS)
        ),
    )
    limits, retry = read_limits(args), read_retry(args)
    if limits != ChangedLimits():
        body.limits = limits
    if retry != ChangedRetry():
        body.retry = retry
    if args.max_losses is not None:
        body.max_losses = check_losses(args.max_losses)
    if args.secret_envs is not None:
        body.secret_env = read_secrets(args.secret_envs, args.envs or ())
    if args.watch is not None:
        body.watch = None if args.watch == NO_WATCH else to_watch(args.watch)
    return body


def read_secrets(values: Mapping[str, str], env: Collection[str]) -> dict[str, str]:
    """Return secret variables, checked.

    Raises:
        InvalidInput, TooLarge: They cannot be; the message holds no value.
    """
    found = dict(values)
    if not all(isinstance(part, str) for pair in found.items() for part in pair):
        raise InvalidInput("a secret variable is no text: give texts", field="secret_env")
    check_secrets(found, env)
    return found


def to_cancel(
    task: str, reason: str, stop_signal: str | None, grace: timedelta | str | None
) -> CancelTask:
    """Check a cancel as far as it can be here.

    Raises:
        InvalidInput: No such signal, or a value out of its bounds.
    """
    return CancelTask(
        task,
        check_text(reason, "reason", MAX_REASON_BYTES),
        "" if stop_signal is None else check_stop_signal(stop_signal),
        None if grace is None else seconds_of(grace, "grace", MAX_GRACE_SECONDS),
    )


def to_watch(args: WatchArgs) -> WatchWanted:
    """Check what a task is to wait for, as far as it can be here.

    Raises:
        InvalidInput: No UUID, no such state, a time out of its bounds.
    """
    uuid, state = check_uuid(args.task, "task"), parse_execution_state(args.state)
    seconds = 0.0 if args.timeout is None else seconds_of(args.timeout, "watch timeout")
    check_watch(Watch(uuid, "any", state, seconds))
    return WatchWanted(uuid, state.value, seconds)


def read_limits(args: SubmitTaskArgs | TaskEdits) -> ChangedLimits:
    """Return the limits that are given, checked.

    Raises:
        InvalidInput: No size, duration or whole number, or out of its bounds.
    """
    changed = ChangedLimits()
    if args.memory is not None:
        changed.memory_bytes = _limit(args.memory, _bytes_of)
    if args.cpu_time is not None:
        changed.cpu_seconds = _limit(args.cpu_time, lambda value: seconds_of(value, "CPU time"))
    if args.processes is not None:
        changed.processes = _limit(args.processes, _count_of)
    if args.open_files is not None:
        changed.open_files = _limit(args.open_files, _count_of)
    if args.file_size is not None:
        changed.file_size_bytes = _limit(args.file_size, _bytes_of)
    changed.of(NO_LIMITS).check()
    return changed


def read_retry(args: SubmitTaskArgs | TaskEdits) -> ChangedRetry:
    """Return what is given about retries, each checked by itself.

    Raises:
        InvalidInput: A value that cannot be.
    """
    changed = ChangedRetry()
    if args.retries is not None:
        changed.times = check_times(args.retries)
    if args.retry_on is not None:
        changed.causes = tuple(map(parse_cause, args.retry_on))
    if args.retry_delay is not None:
        changed.delay_seconds = seconds_of(args.retry_delay, "retry delay", MAX_DELAY_SECONDS)
    if args.retry_max_delay is not None:
        longest = seconds_of(args.retry_max_delay, "longest retry delay", MAX_DELAY_SECONDS)
        changed.max_delay_seconds = longest
    return changed


def _limit(value: Given, read: Callable[[Given], Read]) -> Read | None:
    return None if value == NO_LIMIT else read(value)


def _bytes_of(size: int | str) -> int:
    return parse_size(size) if isinstance(size, str) else size


def _count_of(count: int | str) -> int:
    try:
        return int(count)
    except ValueError:
        raise InvalidInput(f"{count!r} is no whole number, nor {NO_LIMIT!r}") from None


def seconds_of(
    limit: timedelta | str, what: str, most_seconds: float = MAX_TIMEOUT_SECONDS
) -> float:
    """Return a time limit in seconds.

    Raises:
        InvalidInput: A bare number, which could be seconds as well as minutes; a text that is no
            duration; out of bounds.
    """
    if isinstance(limit, str):
        seconds = parse_duration(limit)
    elif isinstance(limit, timedelta):
        seconds = limit.total_seconds()
    else:
        raise InvalidInput(
            f"{what} is {limit!r}: give a timedelta, or a text with a unit such as '30min'",
            field=what,
        )
    check_number(seconds, f"{what} in seconds", MIN_TIMEOUT_SECONDS, most_seconds)
    return seconds


def batches(tasks: Iterable[SubmitTask]) -> Iterable[list[SubmitTask]]:
    """Cut submits into requests that are small enough."""
    encode = msgspec.json.Encoder().encode
    batch: list[SubmitTask] = []
    size = 0
    for task in tasks:
        length = len(encode(task)) + 1
        if batch and (len(batch) == MAX_BATCH or size + length > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += length
    if batch:
        yield batch
