"""Reads of history: what was stored, by whom, when and from where."""

from datetime import datetime
from typing import Any

import msgspec

from mitosis.contract.queries.pages import DEFAULT_PAGE


class StoredEvent(msgspec.Struct, omit_defaults=True):
    """One event, in today's form; fields that have their default may be absent.

    Attributes:
        event: Stored name with its version, such as `task.cancelled@1`.
        data: What it says.
        withheld: Fields that are shown to nobody, such as the hash of a password.
    """

    event: str
    data: dict[str, Any]
    withheld: tuple[str, ...] = ()


class CommitView(msgspec.Struct):
    """What one command changed in one thing, at once.

    Attributes:
        position: In the stream; the order of everything that happened.
        time: When it was decided (UTC), by the coordinator's clock.
        actor: `user:<name>`, `worker:<uuid>` or `system:<part>`.
        source: The address from which the session of the asking user was opened; empty when no
            session asked, when it is not known, and in what is heard live.
        session: That session, or empty.
        command: Id of the command, the same for all commits that it caused; or empty.
        kind: `task`, `worker`, `group`, `user`, `attachment` or `platform`.
        group: Of a task or an attachment, else empty.
        name: Of the thing: a UUID, a name, or the key of an attachment.
        events: What happened, in order.
    """

    position: int
    time: datetime
    actor: str
    source: str
    session: str
    command: str
    kind: str
    group: str
    name: str
    events: list[StoredEvent]


class ListEvents(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Filters; each given one must hold.

    With `kind` and `name`: the history of one thing, for those who may read it. With `group`: what
    happened to tasks and attachments of a group, for those with a role in it. With kind `task` or
    `attachment` alone: to those in all groups that the user has a role in; platform administrators
    have all. Else everything, for platform administrators. All others restrict further.

    Attributes:
        kind: Of the thing.
        name: Of the thing; a task or a worker also in a short form.
        group: Of tasks and attachments.
        actor: As stored, such as `user:alice`.
        events: Any of these stored names, with or without `@<version>`.
        command: Id of the command that caused it.
        after: Only positions behind this one.
        until: Only positions up to this one; 0: no bound.
        since, before: Only what was decided from the first to, excluding it, the second time.
        newest: Of more than `limit`, the last ones instead of the first.
    """

    kind: str = ""
    name: str = ""
    group: str = ""
    actor: str = ""
    events: tuple[str, ...] = ()
    command: str = ""
    after: int = 0
    until: int = 0
    since: datetime | None = None
    before: datetime | None = None
    newest: bool = False
    limit: int = DEFAULT_PAGE


class EventPage(msgspec.Struct):
    """Commits in the order of the stream.

    Attributes:
        commits: Those that match; fewer than `limit` when they would not fit into one message.
        position: Everything that matches, behind `after` and up to here, is in `commits` (with
            `newest`: everything from the first of them on).
        more: There are others beyond.
    """

    commits: list[CommitView]
    position: int
    more: bool
