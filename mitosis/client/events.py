"""History: what was stored, once and as it comes.

Reads say what happened; live messages only say when to look. The cursor is a position of the
stream, so nothing is missed or repeated, whatever happens to connections, services or the machine
that watches.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mitosis.client.listening import listening
from mitosis.client.retry import PATIENCE_SECONDS, outlast
from mitosis.client.session import Session
from mitosis.config.client import GetEventsArgs
from mitosis.contract import subjects
from mitosis.contract.queries import CommitView, EventPage, GetTask, ListEvents, TaskView
from mitosis.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    import asyncio

    from mitosis.client.changes import HistoryEntry
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
        return await self._whole(_body(wanted))

    async def each(self, wanted: GetEventsArgs | None = None) -> AsyncIterator[CommitView]:
        """Yield everything that matches, oldest first, page by page. Raises what `list` raises."""
        body = replace(_body(wanted), newest=False, limit=PAGE)
        more = True
        while more:
            page = await self._whole(body)
            for commit in page.commits:
                yield commit
            body, more = replace(body, after=page.position), page.more

    async def last(self, wanted: GetEventsArgs | None, count: int) -> EventPage:
        """Return the last ones of what matches, oldest first, however large they are.

        Args:
            wanted: What matches; `newest` and `limit` are not looked at.
            count: How many at most, up to 10,000.

        Raises:
            What `list` raises.
        """
        body = replace(_body(wanted), newest=True, limit=count)
        found: list[CommitView] = []
        while True:
            page = await self._whole(body)
            found = [*page.commits, *found]
            first = found[0].position if found else 0
            if not page.more or len(found) >= count or first <= 1:
                return EventPage(found, page.position, page.more)
            body = replace(body, until=first - 1, limit=count - len(found))

    async def history(self, wanted: GetEventsArgs) -> AsyncIterator["HistoryEntry"]:
        """Yield the history of one thing in words, oldest first: what changed, from what to what.

        It is read from its beginning, also where a filter lets only a part of it be seen: `since`,
        `after`, `actor`, `events` and `command` choose which commits are yielded, as a whole.
        `newest` and `limit` are not looked at.

        Args:
            wanted: With `kind` and `name`; of an attachment, `name` is its key, in `group`.

        Raises:
            InvalidInput: No kind, no name. NotFound: Nothing ever happened to such a thing.
            And what `list` raises.
        """
        from mitosis.client.changes import Teller  # with all of the domain
        from mitosis.events.catalogue import check_names

        check_names(wanted.events)
        if not (wanted.kind and (wanted.name or wanted.kind == "platform")):
            raise InvalidInput("a history is that of one thing: give its kind and its name")
        teller, seen = Teller(), False
        whole = GetEventsArgs(
            kind=wanted.kind, name=wanted.name, group=wanted.group, until=wanted.until,
            before=wanted.before,
        )  # fmt: skip
        async for commit in self.each(whole):
            entry, seen = teller.tell(commit), True
            if _matches(wanted, commit):
                yield entry
        if not seen:
            raise NotFound(
                f"nothing is stored of {wanted.kind} {wanted.name!r}: check its name",
                kind=wanted.kind, name=wanted.name,
            )  # fmt: skip

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
            Unavailable: Nobody has answered for so long. InvalidInput: `after` is still to come.
            And what `list` raises.
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
        import asyncio

        body = replace(_body(wanted), newest=False, until=0, limit=PAGE)
        news = asyncio.Event()

        def hint(_: "Msg | None" = None) -> None:
            news.set()

        async with listening(self._session, await _heard(self._session, body), hint, hint):
            newest = await self.position(wanted, patience_seconds)
            if body.after > newest:
                raise InvalidInput(
                    f"position {body.after} is still to come: the newest one is {newest}",
                    position=newest,
                )
            if not body.after and body.since is None:
                body = replace(body, after=newest)
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

    async def _whole(self, body: ListEvents) -> EventPage:
        """Ask once, for all that was stored before: a history that lacks its end tells lies."""
        return await self._session.query("event", "list", body, EventPage, whole=True)

    async def _patiently(self, body: ListEvents, patience_seconds: float) -> EventPage:
        async def ask() -> EventPage:
            return await self._session.query("event", "list", body, EventPage)

        return await outlast(ask, self._session.timeout_seconds, patience_seconds)


async def _wait(news: "asyncio.Event") -> None:
    import asyncio

    try:
        async with asyncio.timeout(REFRESH_SECONDS):
            await news.wait()
    except TimeoutError:
        return


def _body(wanted: GetEventsArgs | None) -> ListEvents:
    args = wanted or GetEventsArgs()
    fields = {field: getattr(args, field) for field in args.__struct_fields__}
    return ListEvents(**fields | {"actor": stored_actor(args.actor)})


def stored_actor(name: str) -> str:
    """Return an actor as it is stored: a name alone is that of a user."""
    return f"user:{name}" if name and ":" not in name else name


def _matches(wanted: GetEventsArgs, commit: CommitView) -> bool:
    names = {name for event in commit.events for name in (event.event, _unversioned(event.event))}
    return (
        commit.position > wanted.after
        and (wanted.since is None or commit.time >= wanted.since)
        and wanted.actor in {"", commit.actor, commit.actor.removeprefix("user:")}
        and wanted.command in {"", commit.command}
        and (not wanted.events or not names.isdisjoint(wanted.events))
    )


def _unversioned(event: str) -> str:
    return event.partition("@")[0]


async def _heard(session: Session, body: ListEvents) -> list[str]:
    """Return where the asker can hear news of this; what is heard nowhere is looked at in time."""
    if body.kind == "task" and body.name:
        view = await session.query("task", "get", GetTask(body.name), TaskView)
        return [subjects.live(subjects.task_tail(view.group, view.uuid))]
    if body.kind == "secret":
        return []  # nobody may listen to them
    if body.group:
        kinds = (body.kind,) if body.kind else ("task", "attachment")
        return [subjects.live(f"{kind}.{body.group}.>") for kind in kinds]
    if body.kind:
        return []  # not everybody who may read one may hear all of its kind
    return [subjects.live(f"{kind}.>") for kind in ("task", "group", "worker", "attachment")]
