"""`follow`: what tasks write, while they run."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.exit_codes import DONE, FAILED, status_of_task
from mitosis.cli.invocation import UsageError, current
from mitosis.cli.output.screen import note
from mitosis.cli.parameters import Flag, OptionalNumber
from mitosis.cli.running import with_client

if TYPE_CHECKING:
    from mitosis.cli.output.following import Printer
    from mitosis.client.client import MitoClient

BOTH = ("stdout", "stderr")


def follow(
    *tasks: str,
    stdout: Flag = False,
    stderr: Flag = False,
    tail: Annotated[OptionalNumber, Parameter(name=["--tail", "-n"])] = None,
    from_start: Flag = False,
) -> int:
    """Show what tasks write while they run, and end with the exit status of the task.

    Args:
        tasks: The UUIDs of the tasks, unique prefixes of them, `last`, or GROUP#NUMBER; several
            as GROUP#12-40.
        stdout: Only their standard output.
        stderr: Only their standard error.
        tail: Begin so many lines before the present end.
        from_start: Begin at the start, or the earliest that is kept, which is the default.
    """
    if not tasks:
        raise UsageError("there is no task to follow: name one, or several")
    if tail is not None and from_start:
        raise UsageError("--tail and --from-start exclude each other")
    return follow_to_end(tasks, wanted_streams(stdout=stdout, stderr=stderr), tail)


def wanted_streams(*, stdout: bool, stderr: bool) -> tuple[str, ...]:
    """Return the streams that are named, or both if none is."""
    named = tuple(n for n, on in zip(BOTH, (stdout, stderr), strict=True) if on)
    return named or BOTH


def follow_to_end(tasks: tuple[str, ...], streams: tuple[str, ...], tail: int | None) -> int:
    """Follow tasks, and return the exit status: of the one task, or whether all succeeded."""
    from mitosis.client.following import check_wanted
    from mitosis.client.watching import named_views

    check_wanted(len(tasks), streams, tail)
    running: set[str] = set()

    async def run(client: "MitoClient") -> int:
        views = await named_views(client.session, tasks)
        names = {view.uuid: f"{view.group}#{view.number}" for view in views}
        running.update(names)
        return await _print_all(client, names, streams, tail, running.discard)

    try:
        return with_client(run, on_loop=True)
    except KeyboardInterrupt:
        for uuid in sorted(running):
            note(f"The task goes on; to end it: mito client manage task {uuid} cancel")
        raise


async def _print_all(
    client: "MitoClient",
    names: dict[str, str],
    streams: tuple[str, ...],
    tail: int | None,
    on_end: Callable[[str], None],
) -> int:
    from mitosis.client.output_source import NoticeKind, OutputChunk

    printer = _printer(names)
    statuses: list[int] = []
    events = client.follow(list(names), streams=streams, tail_lines=tail)
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, OutputChunk):
                # In a thread: whoever reads our output slowly must not hold up the connection.
                await asyncio.to_thread(printer.chunk, event)
                continue
            status = status_of_task(event.view) if event.kind is NoticeKind.ENDED else None
            await asyncio.to_thread(printer.notice, event, status)
            if status is not None:
                statuses.append(status)
                on_end(event.task)
    if len(names) == 1:
        return statuses[0]
    return FAILED if any(statuses) else DONE


def _printer(names: dict[str, str]) -> "Printer":
    from mitosis.cli.output.following import JsonPrinter, PrefixPrinter, StreamPrinter

    if current.get().json:
        return JsonPrinter()
    return StreamPrinter() if len(names) == 1 else PrefixPrinter(names)
