"""`history runs` and `history readers`: what no single thing's history answers."""

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from mitosis.cli.invocation import UsageError
from mitosis.cli.output.screen import note, printable, show
from mitosis.cli.output.texts import listed, moment
from mitosis.cli.parameters import Group, Moment, Tags, converter, read_outputs
from mitosis.cli.running import with_client
from mitosis.domain.task import ArtifactKind

if TYPE_CHECKING:
    from mitosis.client.client import MitoClient
    from mitosis.client.readers import Reader
    from mitosis.client.runs import WorkerRun

OptionalKind = Annotated[
    ArtifactKind | None, Parameter(converter=converter(read_outputs), n_tokens=1)
]


def history_runs(worker: str, /, *, tags: Tags = ()) -> None:
    """Show which tasks a worker ran, from when to when, and which tags it had meanwhile.

    Args:
        worker: The UUID of the worker, or a unique prefix; also of one that is gone.
        tags: Only what it ran while it had all of these tags, for a moment at least.
    """

    async def run(client: "MitoClient") -> None:
        each = cast("AsyncGenerator[WorkerRun, None]", client.worker_runs(worker, tags))
        async with contextlib.aclosing(each) as runs:
            async for one in runs:
                _print_run(one)

    with_client(run)


def history_readers(
    task: str = "",
    /,
    *,
    group: Group = "",
    artifact: OptionalKind = None,
    since: Moment = None,
    until: Moment = None,
) -> None:
    """Show who could read what is in a group, or an output of a task, from when to when.

    Args:
        task: The UUID of the task, a unique prefix of it, `last`, or GROUP#NUMBER.
        group: In its place the group.
        artifact: Only while the task had this output: result, exec-log or std-log.
        since: Only who could after this time or position.
        until: Only who could before this time or position.
    """
    if bool(task) == bool(group):
        raise UsageError("name a task, or a group with --group")
    if artifact is not None and not task:
        raise UsageError("--artifact is of a task: name it")

    async def run(client: "MitoClient") -> None:
        from mitosis.client.readers import ReadersOf

        wanted = ReadersOf(
            group=group, task=task, artifact="" if artifact is None else artifact.value,
            since=since, until=until,
        )  # fmt: skip
        each = cast("AsyncGenerator[Reader, None]", client.readers(wanted))
        async with contextlib.aclosing(each) as readers:
            async for one in readers:
                _print_reader(one)
        if not (await client.whoami()).admin:
            note(
                "Members of the group only: platform administrators, and when accounts were "
                "locked, are shown to platform administrators"
            )

    with_client(run)


def _print_run(one: "WorkerRun") -> None:
    ended = "(no end told)" if one.ended_at is None else moment(one.ended_at)
    tags = " then ".join(f"[{listed(tags)}]" for tags in one.tags)
    show(
        one,
        lambda: [
            printable(f"{moment(one.began_at)} to {ended}  {one.group} {one.task} "
                      f"attempt {one.attempt}, tags {tags}")
        ],
    )  # fmt: skip


def _print_reader(one: "Reader") -> None:
    until = "now" if one.until is None else moment(one.until)
    show(one, lambda: [printable(f"{one.user}  {one.right}  {moment(one.since)} to {until}")])
