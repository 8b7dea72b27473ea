"""What a platform does just now, as far as a user may see it: queues, workers, rates, failures."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterable
from datetime import datetime, timedelta

import msgspec

from mitosis.client.events import Events
from mitosis.client.groups import Groups
from mitosis.client.listening import listening
from mitosis.client.retry import PATIENCE_SECONDS, outlast
from mitosis.client.session import Session
from mitosis.client.tasks import Tasks
from mitosis.client.watching import live_subjects
from mitosis.client.workers import Workers
from mitosis.config.client import GetEventsArgs, GetTasksArgs, GetWorkersArgs
from mitosis.contract.queries import CommitView, TaskView, WorkerView
from mitosis.domain.limits import check_several
from mitosis.domain.task import Outcome, TaskState
from mitosis.errors import TooLarge
from mitosis.runtime import SystemClock

MAX_GROUPS = 32
MAX_WORKERS = 200  # of a group
MAX_RUNNING = 200
MAX_FAILURES = 10
WINDOW_SECONDS = 60
PAGE = 1_000
MAX_PAGES = 20  # of history in one look; the rates of a busier minute are too low
LEAST_SECONDS = 1.0  # between two looks
REFRESH_SECONDS = 5.0  # without news it looks all the same
LINE_CHARACTERS = 500
_COUNTED = {
    "task.submitted": "submitted", "task.assigned": "started", "task.committed": "ended",
    "task.cancelled": "ended",
}  # fmt: skip
_FAILED = tuple(o for o in Outcome if o not in {Outcome.SUCCEEDED, Outcome.CANCELLED})


class GroupQueue(msgspec.Struct, frozen=True):
    """How many tasks of a group are in which state."""

    group: str
    pending: int
    ready: int
    running: int
    finished: int
    cancelled: int


class RunningTask(msgspec.Struct, frozen=True):
    """What a worker runs. `since`: when it was started; None: it is on its way to that."""

    task: str
    group: str
    number: int
    argv: tuple[str, ...]
    since: datetime | None


class BusyWorker(msgspec.Struct, frozen=True):
    """A worker that serves one of the groups.

    `busy`: slots that are taken by tasks of groups that the asker may see; `tasks`: those that run.
    """

    worker: str
    state: str
    host: str
    slots: int
    busy: int
    tasks: list[RunningTask]


class RecentFailure(msgspec.Struct, frozen=True):
    """A task that did not succeed. `last_line`: of what it wrote, rather to stderr."""

    task: str
    group: str
    number: int
    ended_at: datetime
    outcome: Outcome
    reason: str
    last_line: str


class Rates(msgspec.Struct, frozen=True):
    """What happened in the last minute; `failed` of those that `ended`."""

    submitted: int
    started: int
    ended: int
    failed: int


class Overview(msgspec.Struct, frozen=True):
    """What happens at `time` (of this machine's clock) in the groups that were asked for."""

    time: datetime
    user: str
    groups: list[GroupQueue]
    workers: list[BusyWorker]
    last_minute: Rates
    failures: list[RecentFailure]


async def watch_overview(session: Session, groups: Iterable[str]) -> AsyncGenerator[Overview, None]:
    """Yield how it is, then again when something has happened; see `MitoClient.watch_overview`."""
    await session.open()
    wanted = check_several(groups, "groups") or tuple(await Groups(session).list())
    if len(wanted) > MAX_GROUPS:
        raise TooLarge(
            f"{len(wanted)} groups, at most {MAX_GROUPS} can be shown at once: name some",
            size=len(wanted), limit=MAX_GROUPS,
        )  # fmt: skip
    view = _View(session, wanted)
    await view.check()
    news = asyncio.Event()
    heard = live_subjects(wanted)
    async with listening(session, heard, lambda _: news.set(), news.set):
        while True:
            news.clear()
            yield await outlast(view.look, session.timeout_seconds, PATIENCE_SECONDS)
            await asyncio.sleep(LEAST_SECONDS)
            try:
                async with asyncio.timeout(REFRESH_SECONDS - LEAST_SECONDS):
                    await news.wait()
            except TimeoutError:
                continue


class _View:
    """Looks at everything, and keeps the last minute of the history."""

    def __init__(self, session: Session, groups: tuple[str, ...]) -> None:
        self._session, self._groups = session, groups
        self._tasks, self._workers = Tasks(session), Workers(session)
        self._windows = {group: _Window(Events(session), group) for group in groups}

    async def check(self) -> None:
        """Be refused by what is asked for, which says more than what is listened to."""
        for group in self._groups:
            await self._queue(group)

    async def look(self) -> Overview:
        now = SystemClock().now()
        queues: list[GroupQueue] = []
        workers: dict[str, WorkerView] = {}
        running: dict[str, TaskView] = {}
        failed: list[TaskView] = []
        for group in self._groups:
            queues.append(await self._queue(group))
            page = await self._workers.list(GetWorkersArgs(group=group, limit=MAX_WORKERS))
            workers |= {one.uuid: one for one in page.workers}
            running |= {one.uuid: one for one in await self._running(group)}
            failed += await self._failed(group)
            await self._windows[group].read(now)
        failed.sort(key=lambda view: view.ended_at or view.updated_at)
        counts = sum((window.counts(now) for window in self._windows.values()), Counter[str]())
        names = ("submitted", "started", "ended", "failed")
        return Overview(
            now, self._session.user, queues, [_busy(one, running) for one in workers.values()],
            Rates(*(counts[name] for name in names)),
            [_failure(view) for view in failed[-MAX_FAILURES:]],
        )  # fmt: skip

    async def _queue(self, group: str) -> GroupQueue:
        counts = (await self._tasks.list(GetTasksArgs(group=group, count_only=True))).counts
        return GroupQueue(group, *(counts.get(state.value, 0) for state in TaskState))

    async def _running(self, group: str) -> list[TaskView]:
        states = (TaskState.RUNNING,)
        wanted = GetTasksArgs(group=group, states=states, limit=MAX_RUNNING)
        return (await self._tasks.list(wanted)).tasks

    async def _failed(self, group: str) -> list[TaskView]:
        wanted = GetTasksArgs(group=group, outcomes=_FAILED, limit=MAX_FAILURES)
        return (await self._tasks.list(wanted)).tasks


class _Window:
    """What happened to the tasks of a group in the last minute, by seconds."""

    def __init__(self, events: Events, group: str) -> None:
        self._events, self._group = events, group
        self._after = 0
        self._seconds: deque[tuple[int, Counter[str]]] = deque()

    async def read(self, now: datetime) -> None:
        """Go on where the last look ended."""
        begin = now - timedelta(seconds=WINDOW_SECONDS)
        for _ in range(MAX_PAGES):
            page = await self._events.list(
                GetEventsArgs(
                    kind="task", group=self._group, events=tuple(_COUNTED), after=self._after,
                    since=begin, limit=PAGE,
                )
            )  # fmt: skip
            for commit in page.commits:
                self._take(commit)
            self._after = page.position
            if not page.more:
                return

    def counts(self, now: datetime) -> Counter[str]:
        """Return what there was in the last minute."""
        begin = int(now.timestamp()) - WINDOW_SECONDS
        while self._seconds and self._seconds[0][0] < begin:
            self._seconds.popleft()
        return sum((counts for _, counts in self._seconds), Counter())

    def _take(self, commit: CommitView) -> None:
        second = int(commit.time.timestamp())
        if not self._seconds or self._seconds[-1][0] < second:
            self._seconds.append((second, Counter()))
        counts = self._seconds[-1][1]
        for event in commit.events:
            kind = _COUNTED.get(event.event.partition("@")[0])
            if kind is None:
                continue
            counts[kind] += 1
            if kind == "ended" and event.data.get("outcome") in {o.value for o in _FAILED}:
                counts["failed"] += 1


def _busy(worker: WorkerView, running: dict[str, TaskView]) -> BusyWorker:
    tasks = [
        RunningTask(view.uuid, view.group, view.number, tuple(view.spec.argv), view.started_at)
        for uuid in worker.tasks
        if (view := running.get(uuid)) is not None
    ]
    return BusyWorker(
        worker.uuid, worker.state, worker.host, worker.slots, len(worker.tasks), tasks
    )


def _failure(view: TaskView) -> RecentFailure:
    return RecentFailure(
        view.uuid, view.group, view.number, view.ended_at or view.updated_at,
        view.outcome or Outcome.ERROR, view.reason, last_line(view),
    )  # fmt: skip


def last_line(view: TaskView) -> str:
    """Return the last line of what a task wrote, of stderr if there is any; else empty."""
    if view.exit is None:
        return ""
    for tail in (view.exit.stderr_tail, view.exit.stdout_tail):
        lines = tail.split("\n")
        for line in reversed(lines):
            if line.strip():
                return line.strip()[:LINE_CHARACTERS]
    return ""
