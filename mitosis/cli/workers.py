"""`get worker`, `get workers`, `manage worker`."""

from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.output.screen import note, on_terminal, show
from mitosis.cli.parameters import Flag, Group, Tags
from mitosis.cli.running import with_client
from mitosis.config.client import DEFAULT_PAGE, GetWorkersArgs
from mitosis.contract.queries import WorkerPage

ForceFlag = Annotated[bool, Parameter(name=["--force", "-f"], negative=())]
VerboseFlag = Annotated[bool, Parameter(name=["--verbose", "-v"], negative=())]


def get_worker(worker: str, /) -> None:
    """Get the info of a worker.

    Args:
        worker: The UUID of the worker, or a unique prefix.
    """
    from mitosis.cli.output.texts import worker_lines

    view = with_client(lambda client: client.get_worker(worker))
    show(view, lambda: worker_lines(view))


def get_workers(
    *,
    group: Group = "",
    tags: Tags = (),
    all: Flag = False,  # noqa: A002  the name of the option
    limit: int = DEFAULT_PAGE,
    offset: int = 0,
    verbose: VerboseFlag = False,
) -> None:
    """Query a list of workers subject to the filter.

    Args:
        group: The group that the workers serve; default: the user's own.
        tags: Tags that the workers have, all of them.
        all: Also workers that are gone.
        limit: How many at most.
        offset: How many to leave out first.
        verbose: Everything about each of them.
    """
    from mitosis.cli.output.texts import worker_lines

    args = GetWorkersArgs(group=group, tags=tags, all=all, limit=limit, offset=offset)
    page = with_client(lambda client: client.get_workers(args))
    if on_terminal() and not verbose:
        _print_workers(page)
        return
    show(
        page,
        lambda: [
            line
            for worker in page.workers
            for line in (worker_lines(worker) if verbose else [worker.uuid])
        ],
    )
    note(f"{page.total} worker{'' if page.total == 1 else 's'}")


def _print_workers(page: WorkerPage) -> None:
    from mitosis.cli.output.tables import print_table
    from mitosis.cli.output.texts import listed

    print_table(
        ("UUID", "STATE", "TASKS", "TAGS", "OWNER", "HOST"),
        [
            (w.uuid, w.state, f"{len(w.tasks)}/{w.slots}", listed(w.tags), w.owner, w.host)
            for w in page.workers
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
    with_client(lambda client: client.cancel_worker(worker, force=force, reason=reason))
    show(
        {"worker": worker, "force": force},
        lambda: [f"Worker {worker} is {'stopping' if force else 'finishing its tasks'}"],
    )
