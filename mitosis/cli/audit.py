"""`history` and `mito events list|tail`: who did what, when, from where, and why."""

import contextlib
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

from cyclopts import Parameter
from msgspec.structs import replace

from mitosis.cli.invocation import ClientFlags, Invocation, UsageError, current
from mitosis.cli.output.screen import show
from mitosis.cli.parameters import (
    Coordinator,
    Group,
    Moment,
    OptionalNumber,
    User,
    several,
)
from mitosis.cli.running import with_client
from mitosis.config.client import GetEventsArgs
from mitosis.domain.limits import MAX_PAGE, check_number

if TYPE_CHECKING:
    from mitosis.client.changes import HistoryEntry
    from mitosis.client.client import MitoClient
    from mitosis.contract.queries import CommitView

V = TypeVar("V")

Last = Annotated[OptionalNumber, Parameter(name=["--last", "-n"])]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which part of a history.

    Attributes:
        since: Begin at this time or behind this position, such as 4711, '2h ago', yesterday,
            '2026-11-20 14:05' or 2026-11-20T14:05:00Z.
        until: End before this time or at this position.
        actor: Only what this user did; or worker:UUID, system:coordinator.
        event: Only these events, such as task.cancelled.
        command: Only what the command with this id caused.
        last: Only so many, the last ones.
    """

    since: Moment = None
    until: Moment = None
    actor: str = ""
    event: Annotated[tuple[str, ...], several("--event")] = ()
    command: str = ""
    last: Last = None

    def args(self, *, kind: str = "", name: str = "", group: str = "") -> GetEventsArgs:
        """Return the request for this part of the history of something."""
        if self.last is not None:
            check_number(self.last, "--last", 1, MAX_PAGE)
        return GetEventsArgs(
            kind=kind, name=name, group=group, actor=self.actor, events=self.event,
            command=self.command,
            after=self.since if isinstance(self.since, int) else 0,
            since=self.since if isinstance(self.since, datetime) else None,
            until=self.until if isinstance(self.until, int) else 0,
            before=self.until if isinstance(self.until, datetime) else None,
        )  # fmt: skip


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Access:
    """Whom to ask, and as whom; everything else by the settings of the client.

    Attributes:
        config: The path of the config file.
        coordinator: The address of the coordinator; default: http://127.0.0.1:5000.
        credential_path: The path of the user credential file.
        user: The username of the user.
    """

    config: Annotated[Path | None, Parameter(name="--config")] = None
    coordinator: Coordinator = None
    credential_path: Path | None = None
    user: User = None

    def apply(self) -> None:
        """Let the client of this command line use them."""
        flags = ClientFlags(
            config=self.config, coordinator=self.coordinator,
            credential_path=self.credential_path, user=self.user,
        )  # fmt: skip
        current.set(Invocation(json=current.get().json, client=flags))


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Within:
    """Whose history.

    Attributes:
        kind: Only of things of this kind: task, worker, group, user, attachment or platform.
        name: Only of the thing of this name; needs its kind.
        group: Only of the tasks and attachments of this group.
    """

    kind: str = ""
    name: str = ""
    group: Group = ""

    def args(self, chosen: Chosen) -> GetEventsArgs:
        """Return the request for a part of it."""
        return chosen.args(kind=self.kind, name=self.name, group=self.group)


WHOLE, EVERYWHERE, USUAL = Chosen(), Within(), Access()
USUAL_TAIL = 10


def history_task(task: str, /, *, chosen: Chosen = WHOLE) -> None:
    """Show everything that happened to a task.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        chosen: Which part of it.
    """
    _history(chosen, kind="task", name=task)


def history_worker(worker: str, /, *, chosen: Chosen = WHOLE) -> None:
    """Show everything that happened to a worker, also to one that is gone.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        chosen: Which part of it.
    """
    _history(chosen, kind="worker", name=worker)


def history_group(name: str, /, *, chosen: Chosen = WHOLE) -> None:
    """Show everything that happened to a group: members, quota, state.

    Args:
        name: The name of the group.
        chosen: Which part of it.
    """
    _history(chosen, kind="group", name=name)


def history_user(name: str, /, *, chosen: Chosen = WHOLE) -> None:
    """Show everything that happened to an account, also to a deleted one.

    Args:
        name: The name of the user.
        chosen: Which part of it.
    """
    _history(chosen, kind="user", name=name)


def history_attachment(key: str, /, *, group: Group = "", chosen: Chosen = WHOLE) -> None:
    """Show everything that happened to a file of a group, also to a deleted one.

    Args:
        key: The key of the attachment.
        group: The group; default: the user's own.
        chosen: Which part of it.
    """
    _history(chosen, kind="attachment", name=key, group=group)


def list_events(
    *, within: Within = EVERYWHERE, chosen: Chosen = WHOLE, access: Access = USUAL
) -> None:
    """Print what was stored, oldest first: all of it for administrators, else of your groups."""
    access.apply()
    wanted = within.args(chosen)

    async def run(client: "MitoClient") -> None:
        if chosen.last is None:
            await _print_each(client.each_event(wanted), _print_commit)
            return
        for commit in (await client.last_events(wanted, chosen.last)).commits:
            _print_commit(commit)

    with_client(run)


def tail_events(
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    within: Within = EVERYWHERE,
    chosen: Chosen = WHOLE,
    access: Access = USUAL,
) -> None:
    """Print the last of what was stored, and with -f what comes, until Ctrl-C.

    Ten commits unless --last says another number. Each is printed once, also over restarts of the
    platform and the sleep of this machine.

    Args:
        follow: Go on with what comes.
        within: Whose history.
        chosen: Which part of it.
        access: Whom to ask.
    """
    access.apply()
    if follow and chosen.until is not None:
        raise UsageError("--follow and --until exclude each other")
    wanted = within.args(chosen)

    async def run(client: "MitoClient") -> None:
        page = await client.last_events(wanted, chosen.last or USUAL_TAIL)
        for commit in page.commits:
            _print_commit(commit)
        sys.stdout.flush()
        if follow:
            behind = replace(wanted, after=page.position)
            await _print_each(client.watch_events(behind), _print_commit, flush=True)

    with_client(run, on_loop=follow)


def _history(chosen: Chosen, *, kind: str, name: str, group: str = "") -> None:
    wanted = chosen.args(kind=kind, name=name, group=group)

    async def run(client: "MitoClient") -> None:
        if chosen.last is None:
            await _print_each(client.history(wanted), _print_entry)
            return
        kept: deque[HistoryEntry] = deque(maxlen=chosen.last)
        async for entry in client.history(wanted):
            kept.append(entry)
        for entry in kept:
            _print_entry(entry)

    with_client(run)


async def _print_each(
    values: "AsyncIterator[V]", print_one: Callable[[V], None], *, flush: bool = False
) -> None:
    async with contextlib.aclosing(cast("AsyncGenerator[V, None]", values)) as each:
        async for value in each:
            print_one(value)
            if flush:
                sys.stdout.flush()


def _print_entry(entry: "HistoryEntry") -> None:
    from mitosis.cli.output.told import entry_lines

    show(entry, lambda: entry_lines(entry))


def _print_commit(commit: "CommitView") -> None:
    from mitosis.cli.output.told import commit_lines

    show(commit, lambda: commit_lines(commit))
