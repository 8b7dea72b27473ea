"""A long past, cheaply: as many ended tasks as wanted, in the very form that the platform stores.

The commits of one task come from real decisions; those of all others are the same with another
UUID, number, time and chain of digests. So a million of them take minutes, not hours, and whatever
reads a stream (a coordinator, a projector, `mito events verify`) takes them for its own.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain, count, islice

from mitosis.contract import subjects
from mitosis.domain import task, worker
from mitosis.domain.execution import ExecutionState, Step
from mitosis.domain.names import task_uuid
from mitosis.domain.roles import Role
from mitosis.events.envelope import digest
from mitosis.events.writer import BATCH_LIMIT, Append, PipelinedWriter
from mitosis.nats.store_client import StoreClient
from mitosis.testing.history import LEASE_SECONDS, START, History, Stored

COMMITS_OF_A_TASK = 3  # [submitted, ready], [assigned], [started, exited, committed]
BATCH = BATCH_LIMIT  # costs the server a third less than batches of 250
ON_THE_WAY = 4 * BATCH  # some are stored while the next is made
PATIENCE_SECONDS = 60.0  # nobody waits for this writer, and the machine may be busy


def past_tasks(tasks: int, *, group: str = "root", creator: str = "root") -> Iterator[Stored]:
    """Yield the commits of a worker that came, ran so many quick tasks, and went.

    Args:
        tasks: How many; their numbers in the group are 1, 2, 3, ...
        group: Of the tasks; it should exist before, and have no tasks yet.
        creator: Who has submitted them.

    Yields:
        Position (from 1 on), subject and payload, as `mitosis.testing.history` does.
    """
    history = History()
    uuid = history.add_worker(creator, {group: Role.WRITE})
    pattern = _Pattern(history, group, creator, uuid)
    came = history.commits[0]
    history.decide(subjects.worker_tail(uuid), worker.LeaveWorker("its work is done"))
    left = history.commits[-1]
    positions = count(1)
    lives = chain.from_iterable(pattern.task(number) for number in range(1, tasks + 1))
    for _, subject, payload in chain([came], lives, [left]):
        yield next(positions), subject, payload


async def store_past(
    nc: StoreClient, tasks: int, *, group: str = "root", creator: str = "root"
) -> int:
    """Store such a past at the end of the event stream, by the event store's own writer.

    Returns:
        The position of its last commit.

    Raises:
        StoreUnavailable: The stream is not there, or takes nothing.
        Fenced: Somebody else writes as well; stop the coordinator before.
    """
    writer = await PipelinedWriter.open(
        nc, subjects.EVENTS_STREAM,
        window=ON_THE_WAY, answer_seconds=PATIENCE_SECONDS, budget_seconds=PATIENCE_SECONDS,
    )  # fmt: skip
    heads: dict[str, int] = {}
    waiting: deque[asyncio.Future[int]] = deque()
    commits = past_tasks(tasks, group=group, creator=creator)
    last = 0
    try:
        while batch := list(islice(commits, BATCH)):
            while writer.room < len(batch):  # also while it finds out about lost answers
                await (waiting.popleft() if waiting else writer.flush())
            position = writer.next_position
            appends = []
            for offset, (_, subject, payload) in enumerate(batch):
                appends.append(Append(subject, payload, heads.get(subject, 0)))
                heads[subject] = position + offset
            last, stored = writer.submit_batch(appends)
            waiting.append(stored)
            _keep_recent(heads)
        await writer.flush()
    finally:
        await writer.close()
    return last


class _Pattern:
    """The commits of one task, and those of any other by exchange of what differs."""

    def __init__(self, history: History, group: str, creator: str, worker_uuid: str) -> None:
        self._group, self._creator = group, creator
        self._uuid = history.submit(group, creator, argv=("true",))
        tail = subjects.task_tail(group, self._uuid)
        history.decide(tail, task.AssignTask(worker_uuid, LEASE_SECONDS), "system:coordinator")
        steps = (Step(ExecutionState.EXEC_SPAWNED, START),)
        end = task.Exit(task.ExitKind.CODE, 0, stdout_tail="done\n")
        events = history.decided(
            tail,
            task.ReportStart(worker_uuid, 1, steps),
            task.ReportExit(worker_uuid, 1, end),
            task.CommitTask(worker_uuid, 1),
        )
        history.store(tail, events, f"worker:{worker_uuid}")
        self._commits = history.commits[-COMMITS_OF_A_TASK:]

    def task(self, number: int) -> Iterator[Stored]:
        """Yield the commits of the task with this number."""
        uuid = task_uuid(self._group, self._creator, f"past-{number}")
        subject = subjects.events(subjects.task_tail(self._group, uuid))
        old, new = self._uuid.encode(), uuid.encode()
        previous = patterned = ""
        for index, (position, pattern_subject, pattern) in enumerate(self._commits):
            later = START + timedelta(milliseconds=COMMITS_OF_A_TASK * number + index)
            payload = (
                pattern.replace(old, new)
                .replace(b'"number":1,', b'"number":%d,' % number)
                .replace(b'"%032x"' % position, b'"%030x%02x"' % (number, index))
                .replace(_text_of(b"time", pattern), later.isoformat().encode()[:-6] + b"Z", 1)
            )
            # A command of its own for each submit; what worker and coordinator do has none.
            command = b"" if index else b"%032x" % number
            payload = payload.replace(_member(b"command", pattern), b'"command":"%b"' % command, 1)
            if previous:
                payload = payload.replace(patterned.encode(), previous.encode())
            patterned, previous = digest(pattern_subject, pattern), digest(subject, payload)
            yield 0, subject, payload


def _text_of(name: bytes, payload: bytes) -> bytes:
    return payload.partition(b'"%b":"' % name)[2].partition(b'"')[0]


def _member(name: bytes, payload: bytes) -> bytes:
    return b'"%b":"%b"' % (name, _text_of(name, payload))


def _keep_recent(heads: dict[str, int]) -> None:
    """A task's commits stand together: of older ones nothing more is coming."""
    for subject in list(islice(heads, 1, max(1, len(heads) - BATCH))):
        del heads[subject]
