"""Who could read what is in a group, from when to when, read from the history."""

from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from mitosis.client.events import Events
from mitosis.config.client import GetEventsArgs
from mitosis.contract.queries import CommitView, StoredEvent
from mitosis.domain.roles import Role
from mitosis.errors import NotAllowed, NotFound

_ACCOUNTS = ("user.created", "user.admin_changed", "user.state_changed")
ADMINISTRATOR = "platform administrator"


class Reader(msgspec.Struct, frozen=True):
    """Somebody who could read it for a time.

    Attributes:
        user: Who.
        right: By which: `read`, `write` or `admin` in the group, or `platform administrator`.
        since, until: From when to when; `until` null: still.
        since_position, until_position: The commits that gave and took it.
    """

    user: str
    right: str
    since: datetime
    until: datetime | None
    since_position: int
    until_position: int | None


class ReadersOf(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about.

    Attributes:
        group: What is in this group.
        task: In its place: what belongs to this task.
        artifact: Of the task: only while it had this output.
        since, until: Only who could at some moment between these, times or positions.
    """

    group: str = ""
    task: str = ""
    artifact: str = ""
    since: datetime | int | None = None
    until: datetime | int | None = None


async def readers(events: Events, wanted: ReadersOf, *, admin: bool) -> AsyncIterator[Reader]:
    """Yield who could read it, in the order of the ends; see `MitoClient.readers`."""
    group, commits = wanted.group, list[CommitView]()
    if wanted.task:
        task = GetEventsArgs(kind="task", name=wanted.task)
        commits += [commit async for commit in events.each(task)]
        group = commits[0].group
    commits += [c async for c in events.each(GetEventsArgs(kind="group", name=group))]
    if admin:
        accounts = GetEventsArgs(kind="user", events=_ACCOUNTS)
        commits += [commit async for commit in events.each(accounts)]
    state = _Access(bool(wanted.task), wanted.artifact)
    for commit in sorted(commits, key=lambda commit: commit.position):
        for reader in state.take(commit):
            if _within(reader, wanted):
                yield reader
    if wanted.artifact and not state.had_artifact:
        raise NotFound(
            f"task {wanted.task!r} never had the output {wanted.artifact!r}", name=wanted.artifact
        )
    for reader in state.open.values():
        if _within(reader, wanted):
            yield reader


class _Access:
    """Who can read it after the commits that have been taken."""

    def __init__(self, has_task: bool, artifact: str) -> None:
        self.open: dict[str, Reader] = {}
        self.had_artifact = False
        self._artifact = artifact
        self._there = not has_task
        self._deleted = False
        self._members: dict[str, str] = {}
        self._administrators: set[str] = set()
        self._barred: set[str] = set()

    def take(self, commit: CommitView) -> Iterator[Reader]:
        """Apply a commit; yield those who can no more, or by another right."""
        for event in commit.events:
            self._apply(commit, event)
        rights = self._rights()
        for user, reader in list(self.open.items()):
            if rights.get(user) != reader.right:
                yield msgspec.structs.replace(
                    self.open.pop(user), until=commit.time, until_position=commit.position
                )
        for user, right in rights.items():
            if user not in self.open:
                self.open[user] = Reader(user, right, commit.time, None, commit.position, None)

    def _rights(self) -> dict[str, str]:
        if not self._there:
            return {}
        members: Iterable[tuple[str, str]] = [] if self._deleted else self._members.items()
        rights = dict.fromkeys(self._administrators, ADMINISTRATOR) | dict(members)
        return {user: right for user, right in rights.items() if user not in self._barred}

    def _apply(self, commit: CommitView, event: StoredEvent) -> None:
        if event.withheld and not event.data:
            raise NotAllowed(
                f"who was a member of group {commit.name!r} is for its Admins: ask one of them",
                group=commit.name,
            )
        name, data = event.event.partition("@")[0], event.data
        match name:
            case "task.submitted" if not self._artifact:
                self._there = True
            case "task.artifact_stored" if data["kind"] == self._artifact:
                self._there = self.had_artifact = True
            case "task.artifact_deleted" if data["kind"] == self._artifact:
                self._there = False
            case "group.created":
                self._members[data["creator"]] = _right(Role.ADMIN)
            case "group.member_role_set":
                self._members[data["user"]] = _right(data["role"])
            case "group.member_removed":
                self._members.pop(data["user"], None)
            case "group.state_changed":
                self._deleted = data["state"] == "deleted"
            case _:
                self._apply_account(name, commit.name, data)

    def _apply_account(self, name: str, user: str, data: dict[str, Any]) -> None:
        match name:
            case "user.created" | "user.admin_changed":
                (self._administrators.add if data.get("admin") else self._administrators.discard)(
                    user
                )
            case "user.state_changed":
                (self._barred.discard if data["state"] == "active" else self._barred.add)(user)


def _right(role: int) -> str:
    return Role(role).name.lower()


def _within(reader: Reader, wanted: ReadersOf) -> bool:
    return _reaches(reader.until, reader.until_position, wanted.since) and _begins_before(
        reader.since, reader.since_position, wanted.until
    )


def _reaches(time: datetime | None, position: int | None, moment: datetime | int | None) -> bool:
    if moment is None or time is None or position is None:
        return True
    return time > moment if isinstance(moment, datetime) else position > moment


def _begins_before(time: datetime, position: int, moment: datetime | int | None) -> bool:
    if moment is None:
        return True
    return time < moment if isinstance(moment, datetime) else position <= moment
