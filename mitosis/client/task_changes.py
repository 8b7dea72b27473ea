"""What changes about tasks, each change once: from what was stored, as it is stored.

The cursor is a position of the stream (see `events`), so nothing is missed or repeated, whatever
happens to connections, services or the machine that watches. A change is told by its event alone.
What events do not repeat (number, creator, tags, labels) is folded from them by the rules of the
domain; of a task whose beginning lies before the watch it is looked up once, many at a time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime

import msgspec

from mitosis.client.events import Events
from mitosis.client.session import Session
from mitosis.client.watching import PAGE, resolve, views_of
from mitosis.config.client import GetEventsArgs, WatchTasksArgs
from mitosis.contract.queries import CommitView, EventPage, TaskView
from mitosis.domain.execution import ExecutionState
from mitosis.domain.limits import MAX_PAGE, check_number, check_several
from mitosis.domain.moments import LAST_POSITION
from mitosis.domain.task import (
    Outcome,
    Task,
    TaskAssigned,
    TaskCancelled,
    TaskCommitted,
    TaskReady,
    TaskRequeued,
    TaskRetryScheduled,
    TaskState,
    TaskSubmitted,
    evolve,
    steps_of,
)
from mitosis.errors import InvalidInput, TooLarge

MAX_KNOWN = 20_000  # tasks that have not ended; what has no room is looked up again
MAX_GROUPS = 64  # of named tasks: each is read on its own
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
WAITING_PAGES = 4  # of all groups together

_TO_A_STATE = (
    TaskSubmitted, TaskReady, TaskAssigned, TaskRetryScheduled, TaskRequeued, TaskCommitted,
    TaskCancelled,
)  # fmt: skip


class TaskChange(msgspec.Struct, frozen=True):
    """A task has come into another state, or has reached an execution state.

    Attributes:
        position: Of the commit that says so; 0: as it was when the watch began.
        time: When, by the coordinator's clock.
        task, group, number: Which.
        attempt: Number of the attempt; 0 before the first one.
        state: Its state from here on.
        execution_state: What was reached; None: the state is what is new.
        outcome: How it ended, or how the attempt ended after which it is tried again.
        reason: Why it is so; empty when there is nothing to say.
        worker: Who runs it; None: nobody.
        actor: Who caused it, such as `user:alice`; empty with position 0.
    """

    position: int
    time: datetime
    task: str
    group: str
    number: int
    attempt: int
    state: TaskState
    execution_state: ExecutionState | None
    outcome: Outcome | None
    reason: str
    worker: str | None
    actor: str


async def watch_changes(
    session: Session, events: Events, wanted: WatchTasksArgs
) -> AsyncGenerator[TaskChange, None]:
    """Yield what changes; see `Tasks.changes`."""
    _check(wanted)
    watcher = _Watcher(session, wanted)
    bodies, now = await _begin(session, events, wanted, watcher)
    for change in now:
        yield change
    if watcher.is_over():
        return
    async with aclosing(_merged(events, bodies)) as pages:
        async for group, page in pages:
            for change in await watcher.read(page):
                yield change
            watcher.reached(group, page)
            if watcher.is_over():
                return


def _check(wanted: WatchTasksArgs) -> None:
    filters = (wanted.group, *wanted.creators, *wanted.tags, *wanted.labels)
    if wanted.tasks and any(filters):
        raise InvalidInput("named tasks and filters exclude each other", field="tasks")
    check_number(wanted.after or 0, "after", 0, LAST_POSITION)
    for name in ("tasks", "creators", "tags", "labels", "states", "outcomes"):
        check_several(getattr(wanted, name), name)
    if len(wanted.tasks) > MAX_PAGE:
        raise TooLarge(
            f"{len(wanted.tasks)} tasks, at most {MAX_PAGE} can be watched by name",
            size=len(wanted.tasks), limit=MAX_PAGE,
        )  # fmt: skip


async def _begin(
    session: Session, events: Events, wanted: WatchTasksArgs, watcher: "_Watcher"
) -> tuple[dict[str, GetEventsArgs], list[TaskChange]]:
    """Return what to read, by group, and the present states of named tasks."""
    from_now = wanted.after is None and wanted.since is None
    since = BEGINNING if wanted.after == 0 and wanted.since is None else wanted.since
    groups: dict[str, list[str]] = {}
    for uuid, group in (await resolve(session, wanted.tasks)).items():
        groups.setdefault(group, []).append(uuid)
    if len(groups) > MAX_GROUPS:
        raise TooLarge(
            f"tasks of {len(groups)} groups, of at most {MAX_GROUPS} they can be watched at once",
            size=len(groups), limit=MAX_GROUPS,
        )  # fmt: skip
    bodies: dict[str, GetEventsArgs] = {}
    for group in groups or {wanted.group or session.user: []}:
        body = GetEventsArgs(kind="task", group=group, after=wanted.after or 0, since=since)
        if len(groups.get(group, ())) == 1:
            body.group, body.name = "", groups[group][0]
        if from_now:  # before the look: what is stored behind it comes as an event
            body.after = await events.position(body)
        bodies[group] = body
    views = [
        view
        for group, uuids in groups.items()
        for start in range(0, len(uuids), PAGE)
        for view in await views_of(session, group, uuids[start : start + PAGE])
    ]
    changes = watcher.begin(views, from_now=from_now)
    return bodies, changes


class _Watcher:
    """What is known of the tasks, and which changes are wanted."""

    def __init__(self, session: Session, wanted: WatchTasksArgs) -> None:
        self._session, self._wanted = session, wanted
        self._known: OrderedDict[str, Task] = OrderedDict()
        self._named: dict[str, TaskView] = {}
        self._open: set[str] = set()

    def is_over(self) -> bool:
        """Whether all named tasks have ended."""
        return bool(self._named) and not self._open

    def begin(self, views: Iterable[TaskView], *, from_now: bool) -> list[TaskChange]:
        """Take the named tasks as they are; return their states if the past is not wanted."""
        self._named = {view.uuid: view for view in views}
        self._open = set(self._named)
        for view in self._named.values():
            self._keep(_task_of(view), {})
        if not from_now:
            return []
        self._open = {uuid for uuid, view in self._named.items() if not view.state.terminal}
        changes = [_as_it_is(view) for view in self._named.values()]
        return [change for change in changes if self._is_wanted(change)]

    def reached(self, group: str, page: EventPage) -> None:
        """Whatever had ended before the watch began will not end again."""
        if self._open and not page.more:
            self._open -= {
                uuid
                for uuid, view in self._named.items()
                if view.group == group and view.state.terminal
            }

    async def read(self, page: EventPage) -> list[TaskChange]:
        """Return what a page tells."""
        commits = [
            commit
            for commit in page.commits
            if commit.kind == "task" and (not self._named or commit.name in self._named)
        ]
        looked_up = await self._look_up(commits)
        changes: list[TaskChange] = []
        for commit in commits:
            changes += self._told(commit, looked_up)
        return changes

    async def _look_up(self, commits: list[CommitView]) -> dict[str, Task]:
        unknown: dict[str, dict[str, None]] = {}
        begun: set[str] = set()
        for commit in commits:
            if commit.events and commit.events[0].event.startswith("task.submitted@"):
                begun.add(commit.name)
            elif commit.name not in self._known and commit.name not in begun:
                unknown.setdefault(commit.group, {})[commit.name] = None
        found: dict[str, Task] = {}
        for group, names in unknown.items():
            uuids = list(names)
            for start in range(0, len(uuids), PAGE):
                views = await views_of(self._session, group, uuids[start : start + PAGE])
                found |= {view.uuid: _task_of(view) for view in views}
        return found

    def _told(self, commit: CommitView, looked_up: dict[str, Task]) -> list[TaskChange]:
        # The catalogue costs a start of the command line 6 ms, which only this needs.
        from mitosis.events.catalogue import decode_event

        task = self._known.pop(commit.name, None) or looked_up.get(commit.name)
        changes: list[TaskChange] = []
        for stored in commit.events:
            event = decode_event(stored.event, msgspec.json.encode(stored.data))
            task = evolve(task, event)
            outcome: Outcome | None = getattr(event, "outcome", None)
            told = TaskChange(
                commit.position, commit.time, task.task, task.group, task.number, task.attempt,
                task.state, None, outcome, getattr(event, "reason", ""), task.worker or None,
                commit.actor,
            )  # fmt: skip
            steps = [
                msgspec.structs.replace(
                    told, time=step.at, execution_state=step.state, outcome=None, reason=""
                )
                for step in steps_of(event, commit.time)
            ]
            if isinstance(event, _TO_A_STATE):
                # The last execution state comes before the end, and any other after the state.
                steps = [*steps, told] if task.state.terminal else [told, *steps]
            if self._matches(task):
                changes += filter(self._is_wanted, steps)
        if task is not None:
            self._keep(task, looked_up)
        return changes

    def _keep(self, task: Task, page: dict[str, Task]) -> None:
        """Keep a task; what is not kept is there as long as its page is read."""
        if task.state.terminal and task.task not in self._named:
            page[task.task] = task  # hardly anything is told of it any more
            return
        self._known[task.task] = task
        if len(self._known) > MAX_KNOWN:
            uuid, oldest = self._known.popitem(last=False)
            page[uuid] = oldest

    def _matches(self, task: Task) -> bool:
        wanted = self._wanted
        return (
            (not wanted.creators or task.creator in wanted.creators)
            and set(wanted.tags) <= set(task.spec.tags)
            and set(wanted.labels) <= set(task.labels)
        )

    def _is_wanted(self, change: TaskChange) -> bool:
        if change.state.terminal and change.execution_state is None:
            self._open.discard(change.task)
        states, outcomes = self._wanted.states, self._wanted.outcomes
        if not states and not outcomes:
            return True
        if change.execution_state is not None:
            return False
        return (not states or change.state.value in {str(s) for s in states}) and (
            not outcomes or (change.state.terminal and change.outcome in outcomes)
        )


async def _merged(
    events: Events, bodies: dict[str, GetEventsArgs]
) -> AsyncGenerator[tuple[str, EventPage], None]:
    """Yield the pages of several watches as they come, each with its group."""
    if len(bodies) == 1:
        ((group, body),) = bodies.items()
        async with aclosing(events.watch_pages(body)) as pages:
            async for page in pages:
                yield group, page
        return
    queue: asyncio.Queue[tuple[str, EventPage]] = asyncio.Queue(WAITING_PAGES)

    async def read(group: str, body: GetEventsArgs) -> None:
        async with aclosing(events.watch_pages(body)) as pages:
            async for page in pages:
                await queue.put((group, page))

    readers = [asyncio.create_task(read(group, body)) for group, body in bodies.items()]
    getting: asyncio.Task[tuple[str, EventPage]] | None = None
    try:
        while True:
            getting = asyncio.create_task(queue.get())
            await asyncio.wait([getting, *readers], return_when=asyncio.FIRST_COMPLETED)
            for reader in readers:
                if reader.done():
                    reader.result()  # a reader ends by its error only
            yield await getting
    finally:
        for one in (*readers, *filter(None, [getting])):
            one.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


def _task_of(view: TaskView) -> Task:
    return Task(
        view.uuid, view.group, view.creator, view.number, view.spec, tuple(view.labels),
        state=view.state, attempt=view.attempt, worker=view.worker or "",
    )  # fmt: skip


def _as_it_is(view: TaskView) -> TaskChange:
    return TaskChange(
        0, view.updated_at, view.uuid, view.group, view.number, view.attempt, view.state, None,
        view.outcome, view.reason, view.worker, "",
    )  # fmt: skip
