"""Following tasks live. The read models say what is so; live events only say when to look.

Order matters: subscribe, then look, so that nothing happens unseen between the two. After a lost
connection, and every `REFRESH_SECONDS` without news, everything that has not ended is looked at
again, so a lost message delays an end and never hides it. A look that nobody answers is repeated
for `PATIENCE_SECONDS`: services restart, and machines sleep.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable

from mitosis.client.listening import listening
from mitosis.client.retry import PATIENCE_SECONDS, outlast
from mitosis.client.session import Session
from mitosis.contract import subjects
from mitosis.contract.commands import Submitted
from mitosis.contract.queries import GetTask, ListTasks, TaskPage, TaskView
from mitosis.domain.limits import check_several
from mitosis.domain.names import parse_task_range
from mitosis.errors import NotFound
from mitosis.nats.connection import Msg

REFRESH_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 0.005  # after a look; doubles while news comes faster than that
LONGEST_PAUSE_SECONDS = 0.1  # so at most 10 looks a second, however much happens
PAGE = 50  # tasks in one look; a view with its output tails may have 20 KiB
FIRST_LOOKS = 16  # at once, for tasks of which the group is not known


async def resolve(session: Session, tasks: Iterable[str | Submitted]) -> dict[str, str]:
    """Return UUID -> group of tasks, in their order; `GROUP#FIRST-LAST` names several.

    Raises:
        InvalidInput: A range that cannot be.
        NotFound: No such task, or none that the asker may see.
    """
    limit = asyncio.Semaphore(FIRST_LOOKS)

    async def find(task: str | Submitted) -> dict[str, str]:
        if isinstance(task, Submitted):
            return {task.task: task.group}
        several = parse_task_range(task)
        async with limit:
            if several is not None:
                return await _of_range(session, *several)
            view = await session.query("task", "get", GetTask(task), TaskView)
        return {view.uuid: view.group}

    try:
        async with asyncio.TaskGroup() as finders:
            found = [finders.create_task(find(task)) for task in check_several(tasks, "tasks")]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return {uuid: group for task in found for uuid, group in task.result().items()}


async def _of_range(session: Session, group: str, first: int, last: int) -> dict[str, str]:
    """Return UUID -> group of the tasks with these numbers, in their order."""
    found: dict[int, str] = {}
    before = last + 1
    while before > first:
        body = ListTasks(group=group, before=before, limit=before - first)
        page = await session.query("task", "list", body, TaskPage)
        found |= {view.number: view.uuid for view in page.tasks if view.number >= first}
        if not page.tasks:
            break
        before = page.tasks[0].number
    if last not in found:
        raise NotFound(f"there is no task {group}#{last}", task=f"{group}#{last}")
    return {found[number]: group for number in sorted(found)}


async def follow(session: Session, tasks: dict[str, str]) -> AsyncGenerator[TaskView, None]:
    """Yield every task as it is now, then at each change, until all have ended.

    Args:
        session: Who watches.
        tasks: UUID -> group.
    """
    watched = _Watched(tasks)
    heard = live_subjects(tasks.values())
    async with listening(session, heard, watched.hint, watched.look_at_all):
        watched.look_at_all()
        while watched.groups:
            for view in await _look(session, watched):
                yield view
            if watched.groups:
                await watched.wait_for_news()


class _Watched:
    """What has not ended yet, and what of it must be looked at."""

    def __init__(self, groups: dict[str, str]) -> None:
        self.groups = dict(groups)
        self.seen: dict[str, TaskView] = {}
        self.dirty: set[str] = set()
        self._news = asyncio.Event()
        self._pause = FIRST_PAUSE_SECONDS

    def hint(self, message: Msg) -> None:
        """Note that something was stored about a task."""
        uuid = message.subject.rpartition(".")[2]
        if uuid in self.groups:
            self.dirty.add(uuid)
            self._news.set()

    def look_at_all(self) -> None:
        """Note that anything may have happened."""
        self.dirty = set(self.groups)
        self._news.set()

    def take(self) -> dict[str, list[str]]:
        """Return what must be looked at, by group, and start anew."""
        wanted: dict[str, list[str]] = {}
        for uuid in sorted(self.dirty & set(self.groups)):
            wanted.setdefault(self.groups[uuid], []).append(uuid)
        self.dirty = set()
        self._news.clear()
        return wanted

    def is_new(self, view: TaskView) -> bool:
        """Keep a view, and say whether it differs from the last one."""
        changed = self.seen.get(view.uuid) != view
        self.seen[view.uuid] = view
        if view.state.terminal:
            self.groups.pop(view.uuid, None)
            self.seen.pop(view.uuid, None)
        return changed

    async def wait_for_news(self) -> None:
        """Wait for a hint; after long silence look all the same."""
        await asyncio.sleep(self._pause)
        busy = self._news.is_set()
        self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause) if busy else FIRST_PAUSE_SECONDS
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                await self._news.wait()
        except TimeoutError:
            self.look_at_all()


def live_subjects(groups: Iterable[str]) -> list[str]:
    """Return where all that is stored about the tasks of groups is heard; names may repeat."""
    return [subjects.live(subjects.task_tail(group, ">")) for group in sorted(set(groups))]


async def _look(session: Session, watched: _Watched) -> list[TaskView]:
    changed = []
    for group, uuids in watched.take().items():
        for start in range(0, len(uuids), PAGE):
            part = uuids[start : start + PAGE]
            views = await views_of(session, group, part)
            changed += [view for view in views if watched.is_new(view)]
    return changed


async def views_of(session: Session, group: str, uuids: list[str]) -> list[TaskView]:
    """Return tasks of one group, at most `PAGE`, as they are now.

    Raises:
        NotFound: One that is not there, or that the asker may not see.
        Unavailable: Nobody has answered for `PATIENCE_SECONDS`.
    """
    return await outlast(
        lambda: _look_at(session, group, uuids), session.timeout_seconds, PATIENCE_SECONDS
    )


async def named_views(session: Session, tasks: Iterable[str | Submitted]) -> list[TaskView]:
    """Return tasks, each once, as they are now, in the order in which they are named.

    Raises:
        As `resolve`.
    """
    groups = await resolve(session, tasks)
    found: dict[str, TaskView] = {}
    for group in dict.fromkeys(groups.values()):
        uuids = [uuid for uuid, of in groups.items() if of == group]
        for start in range(0, len(uuids), PAGE):
            views = await _look_at(session, group, uuids[start : start + PAGE])
            found |= {view.uuid: view for view in views}
    return [found[uuid] for uuid in groups]


async def _look_at(session: Session, group: str, uuids: list[str]) -> list[TaskView]:
    body = ListTasks(group=group, uuids=tuple(uuids), limit=len(uuids))
    page = await session.query("task", "list", body, TaskPage)
    missing = set(uuids) - {view.uuid for view in page.tasks}
    # One that is not in the list: ask for it alone, which says why.
    alone = [await session.query("task", "get", GetTask(uuid), TaskView) for uuid in missing]
    return page.tasks + alone
