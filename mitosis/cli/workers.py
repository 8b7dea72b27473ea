"""`get worker`, `get workers`, `manage worker`."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.invocation import UsageError
from mitosis.cli.output.screen import note, on_terminal, show
from mitosis.cli.parameters import (
    Flag,
    Group,
    Labels,
    Moment,
    Number,
    Tags,
    VerboseFlag,
    read_list,
    read_roles,
    several,
)
from mitosis.cli.running import with_client
from mitosis.config.client import DEFAULT_PAGE, GetWorkersArgs
from mitosis.contract.commands import WorkerChanged
from mitosis.contract.queries import WorkerPage, WorkerView
from mitosis.domain.roles import Role, parse_grants
from mitosis.errors import InvalidInput

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient

ForceFlag = Annotated[bool, Parameter(name=["--force", "-f"], negative=())]
Roles = Annotated[tuple[Role, ...], several("--role", "-r", read=read_roles)]


def get_worker(worker: str, /, *, as_of: Moment = None) -> None:
    """Get the info of a worker.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
    """
    from mitosis.cli.output.texts import worker_lines

    view = with_client(lambda client: client.get_worker(worker, as_of))
    show(view, lambda: worker_lines(view))
    _say_what_no_past_has(as_of)


def get_workers(
    *,
    group: Group = "",
    role: Roles = (),
    tags: Tags = (),
    labels: Labels = (),
    creator: str = "",
    all: Flag = False,  # noqa: A002  the name of the option
    limit: Number = DEFAULT_PAGE,
    offset: Number = 0,
    as_of: Moment = None,
    verbose: VerboseFlag = False,
) -> None:
    """Query a list of workers subject to the filter.

    Args:
        group: The group that has a role on the workers; default: the user's own.
        role: The role of the group on the workers, as read,write,admin; default: any.
        tags: Tags that the workers have, all of them.
        labels: Labels that the workers have, all of them.
        creator: The user who started the workers.
        all: Also workers that are gone.
        limit: How many at most.
        offset: How many to leave out first.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
        verbose: Everything about each of them.
    """
    from mitosis.cli.output.texts import worker_lines

    args = GetWorkersArgs(
        group=group, roles=role, tags=tags, labels=labels, creator=creator, all=all, limit=limit,
        offset=offset, as_of=as_of,
    )  # fmt: skip
    page = with_client(lambda client: client.get_workers(args))
    _say_what_no_past_has(as_of)
    if on_terminal() and not verbose:
        _print_workers(page)
        return
    show(
        page,
        lambda: [
            line
            for worker in page.workers
            for line in (
                [*worker_lines(worker), _queried(page.group, worker)] if verbose else [worker.uuid]
            )
        ],
    )
    note(f"{page.total} worker{'' if page.total == 1 else 's'}")


def _say_what_no_past_has(as_of: Moment) -> None:
    if as_of is not None:
        note("When a worker was heard, and whether it was connected, is no event: no past has it")


def _queried(group: str, worker: WorkerView) -> str:
    role = worker.roles.get(group)
    return f"Queried Group: {group}" + (f" = {role.label}" if role else "")


def _print_workers(page: WorkerPage) -> None:
    from mitosis.cli.output.tables import print_table, short_ids
    from mitosis.cli.output.texts import age, listed

    now, ids = datetime.now(UTC), short_ids([w.uuid for w in page.workers])
    print_table(
        ("UUID", "STATE", "TASKS", "TAGS", "OWNER", "HOST", "HEARD"),
        [
            (
                short,
                w.state,
                f"{len(w.tasks)}/{w.slots}",
                listed(w.tags),
                w.owner,
                w.host,
                age(w.last_heartbeat_at, now) if w.last_heartbeat_at else "",
            )
            for w, short in zip(page.workers, ids, strict=True)
        ],
        whole=("UUID",),
    )
    note(f"{page.total} worker{'' if page.total == 1 else 's'}")


def cancel_worker(worker: str, /, *, force: ForceFlag = False, reason: str = "") -> None:
    """Stop a worker: it finishes its tasks and leaves.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        force: Hand its tasks back at once.
        reason: Why, for its record.
    """
    what = "hands its tasks back and leaves" if force else "finishes its tasks and leaves"
    _change(lambda client: client.cancel_worker(worker, force=force, reason=reason), what)


def update_tags(worker: str, /, *tags: str) -> None:
    """Replace the tags of a worker; its running tasks go on.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        tags: All tags that it has from now on; none: it runs tasks of any tags.
    """
    wanted = read_list(list(tags))
    _change(
        lambda client: client.update_worker_tags(worker, wanted), f"has the tags: {_shown(wanted)}"
    )


def update_labels(worker: str, /, *labels: str) -> None:
    """Replace the labels of a worker, by which workers are found.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        labels: All labels that it has from now on.
    """
    wanted = read_list(list(labels))
    _change(
        lambda client: client.update_worker_labels(worker, wanted),
        f"has the labels: {_shown(wanted)}",
    )


def update_roles(worker: str, /, *roles: str) -> None:
    """Give groups a role on a worker; roles of other groups stay.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        roles: The groups with their roles, as GROUP:ROLE; the role is read, write or admin.
    """
    grants = grants_with_roles(roles)
    _change(
        lambda client: client.update_worker_roles(worker, grants),
        f"gave the roles: {_shown(f'{g} = {role.label}' for g, role in grants.items())}",
    )


def remove_roles(worker: str, /, *groups: str) -> None:
    """Take the roles of groups on a worker away; what runs for them goes on.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        groups: The groups.
    """
    wanted = read_list(list(groups))
    if not wanted:
        raise UsageError("name the groups whose roles are to be removed")
    _change(
        lambda client: client.remove_worker_roles(worker, wanted),
        f"serves no more: {_shown(wanted)}",
    )


def update_slots(worker: str, slots: Number, /) -> None:
    """Change how many tasks a worker runs at once; what runs goes on.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        slots: From 1 to 4096.
    """
    _change(lambda client: client.update_worker_slots(worker, slots), f"has {slots} slots")


def pause_worker(worker: str, /, *, reason: str = "") -> None:
    """Give a worker nothing new until it is resumed; what runs goes on.

    Args:
        worker: The UUID of the worker, or a unique prefix.
        reason: Why, for its record.
    """
    _change(lambda client: client.pause_worker(worker, reason), "is paused")


def resume_worker(worker: str, /) -> None:
    """Let a paused worker take tasks again.

    Args:
        worker: The UUID of the worker, or a unique prefix.
    """
    _change(lambda client: client.resume_worker(worker), "takes tasks")


def grants_with_roles(texts: Sequence[str]) -> dict[str, Role]:
    """Read `g1:write g2:admin`; each needs its role.

    Raises:
        UsageError: None given, an unknown role, a name given twice.
    """
    try:
        grants = parse_grants(read_list(list(texts)), default=None)
    except InvalidInput as error:
        raise UsageError(error.message) from None
    if not grants:
        raise UsageError("name the groups with their roles, as GROUP:ROLE")
    return grants


def _change(
    action: Callable[["MitoClient"], Awaitable[WorkerChanged]],
    what: str,
) -> None:
    done = with_client(action)
    before = "" if done.changed else " (as before)"
    show(done, lambda: [f"Worker {done.worker} {what}{before}"])


def _shown(items: Iterable[str]) -> str:
    return ", ".join(items) or "None"
