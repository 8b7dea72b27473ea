"""History: what was stored, once and as it comes.

Reads say what happened; live messages only say when to look. The cursor is a position of the
stream, so nothing is missed or repeated, whatever happens to connections, services or the machine
that watches.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from msgspec.structs import replace

from mitosis.client.listening import listening
from mitosis.client.retry import PATIENCE_SECONDS, outlast
from mitosis.client.session import Session
from mitosis.config.client import GetEventsArgs
from mitosis.contract import subjects
from mitosis.contract.queries import CommitView, EventPage, GetTask, ListEvents, TaskView
from mitosis.nats.connection import Msg

PAGE = 1_000
REFRESH_SECONDS = 2.0  # without news it looks all the same
FIRST_PAUSE_SECONDS = 0.005  # after a look; doubles while news comes faster than that
LONGEST_PAUSE_SECONDS = 0.1


class Events:
    """Reads of what was stored."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list(self, wanted: GetEventsArgs | None = None) -> EventPage:
        """Return one page of the history, oldest first.

        Raises:
            NotFound, NotAllowed: As for reading the thing whose history it is.
            InvalidInput: A filter that cannot be.
        """
        return await self._session.query("event", "list", _body(wanted), EventPage)

    async def each(self, wanted: GetEventsArgs | None = None) -> AsyncIterator[CommitView]:
        """Yield everything that matches, oldest first, page by page. Raises what `list` raises."""
        body = replace(_body(wanted), newest=False, limit=PAGE)
        more = True
        while more:
            page = await self._session.query("event", "list", body, EventPage)
            for commit in page.commits:
                yield commit
            body, more = replace(body, after=page.position), page.more

    async def watch(
        self, wanted: GetEventsArgs | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> AsyncIterator[CommitView]:
        """Yield everything that matches behind `after`, and then what comes, without end.

        Each commit once, in order, also over restarts of services and lost connections.

        Args:
            wanted: What to watch; `after` 0 and no `since`: from now on. `until`, `newest` and
                `limit` are not looked at.
            patience_seconds: How long to go on without an answer.

        Raises:
            Unavailable: Nobody has answered for so long. And what `list` raises.
        """
        pages = self.watch_pages(wanted, patience_seconds)
        async with aclosing(pages):
            async for page in pages:
                for commit in page.commits:
                    yield commit

    async def watch_pages(
        self, wanted: GetEventsArgs | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> AsyncGenerator[EventPage, None]:
        """Yield the same as `watch`, as it is read: also pages on which nothing matches.

        Of each `position` says up to where everything has been seen.
        """
        body = replace(_body(wanted), newest=False, until=0, limit=PAGE)
        news = asyncio.Event()

        def hint(_: Msg | None = None) -> None:
            news.set()

        async with listening(self._session, await _heard(self._session, body), hint, hint):
            if not body.after and body.since is None:
                body = replace(body, after=await self.position(wanted, patience_seconds))
            pause = FIRST_PAUSE_SECONDS
            while True:
                news.clear()
                page = await self._patiently(body, patience_seconds)
                yield page
                body = replace(body, after=page.position)
                if page.more:
                    continue
                await asyncio.sleep(pause)
                pause = (
                    min(LONGEST_PAUSE_SECONDS, 2 * pause) if news.is_set() else FIRST_PAUSE_SECONDS
                )
                await _wait(news)

    async def position(
        self, wanted: GetEventsArgs | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> int:
        """Return the position up to which everything is seen by whoever reads now."""
        newest = replace(_body(wanted), after=0, newest=True, limit=1)
        return (await self._patiently(newest, patience_seconds)).position

    async def _patiently(self, body: ListEvents, patience_seconds: float) -> EventPage:
        async def ask() -> EventPage:
            return await self._session.query("event", "list", body, EventPage)

        return await outlast(ask, self._session.timeout_seconds, patience_seconds)


async def _wait(news: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(REFRESH_SECONDS):
            await news.wait()
    except TimeoutError:
        return


def _body(wanted: GetEventsArgs | None) -> ListEvents:
    args = wanted or GetEventsArgs()
    return ListEvents(**{field: getattr(args, field) for field in args.__struct_fields__})


async def _heard(session: Session, body: ListEvents) -> list[str]:
    """Return where the asker can hear news of this; what is heard nowhere is looked at in time."""
    if body.kind == "task" and body.name:
        view = await session.query("task", "get", GetTask(body.name), TaskView)
        return [subjects.live(subjects.task_tail(view.group, view.uuid))]
    if body.group:
        kinds = (body.kind,) if body.kind else ("task", "attachment")
        return [subjects.live(f"{kind}.{body.group}.>") for kind in kinds]
    if body.kind:
        return []  # not everybody who may read one may hear all of its kind
    return [subjects.live(f"{kind}.>") for kind in ("task", "group", "worker", "attachment")]
