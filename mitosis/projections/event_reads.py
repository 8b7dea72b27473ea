"""Reads of history: which commits, by the audit rows; what they say, from the archive."""

from datetime import datetime
from typing import Any, LiteralString

import msgspec
from msgspec.structs import replace

from mitosis.contract.queries.events import CommitView, EventPage, ListEvents
from mitosis.domain.limits import MAX_TAG_BYTES, MAX_TAGS, check_number, check_text
from mitosis.domain.names import check_name
from mitosis.domain.roles import Role
from mitosis.errors import InvalidInput, NotAllowed, NotFound, TooLarge
from mitosis.events.catalogue import EVENTS, UPCASTERS, check_names
from mitosis.events.outward import outward
from mitosis.projections.postgres import Connection, fetch_value
from mitosis.projections.task_pages import check_page
from mitosis.projections.task_reads import find_task
from mitosis.projections.viewer import Viewer, check_group
from mitosis.projections.worker_reads import find_worker

KINDS = ("task", "worker", "group", "user", "attachment", "platform", "secret")
_IN_GROUPS = ("task", "attachment", "secret")
PAGE_BYTES = 700 * 1024  # as stored; shown, a commit may need some more
_MOST = 2**62
# The events of an undisturbed task, as the index of all other events says it (schema 0011).
_UNUSUAL: LiteralString = (
    "NOT c.topics <@ ARRAY['task.submitted@1', 'task.ready@1', 'task.assigned@1', 'task.started@1',"
    " 'task.progressed@1', 'task.exited@1', 'task.artifact_stored@1', 'task.committed@1']"
)
_USUAL = frozenset(_UNUSUAL.split("'")[1::2])


class _Thing(msgspec.Struct, frozen=True):
    """Whose history is asked for; empty: of any.

    `owned`: a worker of the viewer's own. `groups`: only what is in one of these; None: in any.
    """

    kind: str
    name: str
    group: str
    owned: bool = False
    groups: tuple[str, ...] | None = None


async def list_events(connection: Connection, viewer: Viewer, wanted: ListEvents) -> EventPage:
    """Return what was stored, oldest first.

    Raises:
        InvalidInput: A filter that cannot be. NotFound, NotAllowed: As for reading the thing.
    """
    _check(wanted)
    thing = await _thing(connection, viewer, wanted)
    await _check_actor(connection, viewer, wanted.actor)
    at = await _position(connection)  # first: what is stored meanwhile is for the next look
    where, args = _conditions(await _bounded(connection, wanted), thing)
    order: LiteralString = "DESC" if wanted.newest else "ASC"
    found = await connection.execute(
        "SELECT position, subject, payload, source, found FROM ("
        " SELECT c.position, a.subject, a.payload, coalesce(s.source, '') AS source,"
        "  row_number() OVER page AS place, sum(length(a.payload)) OVER page AS size,"
        "  count(*) OVER () AS found"
        f" FROM (SELECT position, session FROM views.commits c WHERE {where}"
        f"        ORDER BY position {order} LIMIT %(limit)s + 1) c"
        " JOIN archive.commits a USING (position)"
        " LEFT JOIN views.session_sources s ON s.session = c.session"
        f" WINDOW page AS (ORDER BY c.position {order})) sized"
        " WHERE place = 1 OR size <= %(bytes)s ORDER BY place",
        {**args, "limit": wanted.limit, "bytes": PAGE_BYTES},
    )
    rows = await found.fetchall()
    more = bool(rows) and rows[0][4] > min(len(rows), wanted.limit)
    commits = [
        outward(subject, bytes(body), at_, source)
        for at_, subject, body, source, _ in rows[: wanted.limit]
    ]
    for commit in commits:
        hide(commit, viewer, owned=thing.owned)
    if wanted.newest:
        commits.reverse()
    reached = commits[-1].position if more and commits and not wanted.newest else at
    return EventPage(commits, max(reached, wanted.after), more)


def hide(commit: CommitView, viewer: Viewer, *, owned: bool) -> None:
    """Leave out what the viewer cannot read of the thing now: members, and groups of others.

    Who the members of a group are is for its Admins; of a worker others see the roles of their own
    groups.
    """
    if viewer.admin or owned:
        return
    own = viewer.roles
    for event in commit.events:
        match commit.kind, event.data:
            case "group", {"user": _} if own.get(commit.name) is not Role.ADMIN:
                event.withheld = tuple(event.data)
                event.data = {}
            case "worker", {"roles": dict(roles)}:
                event.data["roles"] = {name: role for name, role in roles.items() if name in own}
            case "worker", {"groups": groups}:
                event.data["groups"] = [name for name in groups if name in own]
            case _:
                pass


async def position_at(connection: Connection, moment: datetime) -> int:
    """Return the position of the last commit that was decided at a time or before; 0: none."""
    return int(
        await fetch_value(
            connection,
            "SELECT coalesce(max(position), 0) FROM views.commits WHERE at <= %s",
            moment,
        )
    )


async def _position(connection: Connection) -> int:
    return int(
        await fetch_value(connection, "SELECT coalesce(max(position), 0) FROM views.position")
    )


async def _bounded(connection: Connection, wanted: ListEvents) -> ListEvents:
    """Return the request with the position at which its times begin, where it starts to read.

    Positions and times need not agree, since clocks may be wrong; so the times still count, and the
    bound only spares reading on to the first commit that can match. Pages after the first begin
    behind it anyway.
    """
    begins = wanted.since is not None and not wanted.newest and not wanted.after
    ends = wanted.before is not None and wanted.newest and not wanted.until
    if not (begins or ends):
        return wanted
    # With the bare column Postgres would read on in the order of the positions after all.
    found = await connection.execute(
        "SELECT min(position + 0), max(position + 0) FROM views.commits"
        " WHERE at >= coalesce(%(since)s, '-infinity'::timestamptz)"
        " AND at < coalesce(%(before)s, 'infinity'::timestamptz)",
        {"since": wanted.since, "before": wanted.before},
    )
    first, last = await found.fetchone() or (None, None)
    if begins:
        return replace(wanted, after=_MOST if first is None else first - 1)
    return replace(wanted, until=1 if last is None else last)


def _check(wanted: ListEvents) -> None:
    check_page(wanted.limit, 0)
    check_number(wanted.after, "after", 0, _MOST)
    check_number(wanted.until, "until", 0, _MOST)
    if wanted.kind and wanted.kind not in KINDS:
        raise InvalidInput(
            f"there is no kind {wanted.kind[:60]!r}: it is one of {', '.join(KINDS)}"
        )
    if wanted.name and not wanted.kind:
        raise InvalidInput(f"say of which kind {wanted.name[:60]!r} is")
    if len(wanted.events) > MAX_TAGS:
        raise TooLarge(f"at most {MAX_TAGS} events can be asked for", limit=MAX_TAGS)
    for text in (wanted.actor, wanted.command, *wanted.events):
        check_text(text, "actor, command or event", MAX_TAG_BYTES)
    check_names(wanted.events)


async def _thing(connection: Connection, viewer: Viewer, wanted: ListEvents) -> _Thing:
    """Find what is meant, and check that the viewer may read it."""
    kind, name, group = wanted.kind, wanted.name, wanted.group
    if name and kind == "task":
        return _Thing(kind, await find_task(connection, viewer, name), "")
    if name and kind == "worker":
        uuid = await find_worker(connection, viewer, name)
        owner = await fetch_value(
            connection, "SELECT owner FROM views.workers WHERE uuid = %s", uuid
        )
        return _Thing(kind, uuid, "", owned=owner == viewer.name)
    if kind in _IN_GROUPS and not name and not group:
        return _Thing(kind, "", "", groups=None if viewer.admin else tuple(viewer.roles))
    if kind in ("attachment", "secret") or group:
        if kind not in ("", *_IN_GROUPS):
            raise InvalidInput(f"a {kind} is in no group: leave the group out")
        group = check_name(group or viewer.name, "group")
        await check_group(connection, viewer, group)
        return _Thing(kind, name, group)
    if name and kind == "group":
        await check_group(connection, viewer, check_name(name, "group"))
        return _Thing(kind, name, "")
    if name and kind == "user":
        await _check_user(connection, viewer, check_name(name, "user"))
        return _Thing(kind, name, "")
    if not viewer.admin:
        raise NotAllowed(
            "the history of everything is for platform administrators: name a group, one worker, "
            "group or user, or ask for tasks or attachments alone"
        )
    return _Thing(kind, name, "")


async def _check_actor(connection: Connection, viewer: Viewer, actor: str) -> None:
    """Refuse an actor that never was: that nothing is found of a misspelt name says nothing.

    Who is no administrator is not told which accounts there are.

    Raises:
        InvalidInput: No form of an actor. NotFound: Nobody of this name.
    """
    kind, _, name = actor.partition(":")
    match kind:
        case "user":
            found = "SELECT 1 FROM views.users WHERE name = %s"
        case "worker":
            found = "SELECT 1 FROM views.workers WHERE uuid::text = %s"
        case "system" | "":
            return
        case _:
            raise InvalidInput(
                f"{actor[:80]!r} is no actor: give a user, worker:UUID or system:coordinator"
            )
    if viewer.admin and not await fetch_value(connection, found, name):
        raise NotFound(f"there is no {kind} {name!r} who could have done anything", name=name)


async def _check_user(connection: Connection, viewer: Viewer, name: str) -> None:
    if name == viewer.name:
        return
    if not viewer.admin:
        raise NotAllowed(
            f"the history of user {name!r} is for this user and for platform administrators",
            user=name,
        )
    if not await fetch_value(connection, "SELECT 1 FROM views.users WHERE name = %s", name):
        raise NotFound(f"there is no user {name!r}", user=name)


def _topics(names: tuple[str, ...]) -> list[str]:
    """Return the stored names that are meant, in all versions where none is said."""
    known = [*EVENTS, *UPCASTERS]
    return [
        *names,
        *(topic for topic in known if topic.partition("@")[0] in names),
    ]


def _conditions(wanted: ListEvents, thing: _Thing) -> tuple[LiteralString, dict[str, Any]]:
    parts: list[LiteralString] = ["c.position > %(after)s"]
    topics = _topics(wanted.events)
    if wanted.until:
        parts.append("c.position <= %(until)s")
    if thing.kind:
        parts.append("c.kind = %(kind)s")
    if thing.name:
        parts.append("c.name = %(name)s")
    if thing.group:
        parts.append("c.group_name = %(group)s")
    if thing.groups is not None:
        parts.append("c.group_name = ANY(%(groups)s)")
    if wanted.command:
        parts.append("c.command = %(command)s AND c.command <> ''")
    if wanted.actor:
        parts.append("c.actor = %(actor)s")
    if wanted.since is not None:
        parts.append("c.at >= %(since)s")
    if wanted.before is not None:
        parts.append("c.at < %(before)s")
    if wanted.events:
        parts.append("c.topics && %(topics)s")
        if not _USUAL.intersection(topics):
            parts.append(_UNUSUAL)
    return " AND ".join(parts), {
        "after": wanted.after,
        "until": wanted.until,
        "kind": thing.kind,
        "name": thing.name,
        "group": thing.group,
        "groups": list(thing.groups or ()),
        "command": wanted.command,
        "actor": wanted.actor,
        "since": wanted.since,
        "before": wanted.before,
        "topics": topics,
    }
