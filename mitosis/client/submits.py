"""Submits before they are sent: checked as far as it can be here, and cut into requests."""

import secrets
from collections.abc import Iterable

import msgspec

from mitosis.config.client import SubmitTaskArgs
from mitosis.contract.commands import SubmitTask
from mitosis.contract.wire import MAX_REQUEST_BYTES
from mitosis.domain.limits import (
    MAX_KEY_BYTES,
    MAX_PRIORITY,
    MAX_TIMEOUT_SECONDS,
    MIN_TIMEOUT_SECONDS,
    check_command,
    check_number,
    check_tags,
    check_text,
)
from mitosis.domain.names import check_name

# A part of the batch that leaves room for the envelope of the request.
MAX_BATCH_BYTES = MAX_REQUEST_BYTES - 4_096

# The coordinator decides one request in one go: of a large campaign the first tasks run already
# while the rest is being submitted.
REQUEST_TASKS = 250


def to_request(args: SubmitTaskArgs) -> SubmitTask:
    """Check a submit as far as it can be here, and draw a key if none is given.

    Raises:
        InvalidInput: A value out of its bounds.
    """
    check_command(args.command, args.envs)
    if args.group:
        check_name(args.group, "group")
    check_text(args.key, "the key", MAX_KEY_BYTES)
    check_number(args.priority, "priority", -MAX_PRIORITY, MAX_PRIORITY)
    seconds = args.timeout.total_seconds()
    check_number(seconds, "timeout in seconds", MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS)
    return SubmitTask(
        argv=tuple(args.command),
        key=args.key or secrets.token_hex(16),
        group=args.group,
        env=dict(args.envs),
        tags=check_tags(args.tags, "tags"),
        labels=check_tags(args.labels, "labels"),
        priority=args.priority,
        timeout_seconds=seconds,
        terminal=args.terminal,
    )


def batches(tasks: Iterable[SubmitTask]) -> Iterable[list[SubmitTask]]:
    """Cut submits into requests that are small enough."""
    encode = msgspec.json.Encoder().encode
    batch: list[SubmitTask] = []
    size = 0
    for task in tasks:
        length = len(encode(task)) + 1
        if batch and (len(batch) == REQUEST_TASKS or size + length > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += length
    if batch:
        yield batch
