"""`mito events repair`: a damaged event stream is made whole again."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.invocation import UsageError
from mitosis.cli.output.progress import moving
from mitosis.cli.output.screen import note, printable, show
from mitosis.cli.parameters import ConfigPath, Flag
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load

if TYPE_CHECKING:
    from mitosis.services.repair.rebuild import Repaired

Trust = Annotated[Literal["stream", "archive"] | None, Parameter(name="--trust")]


def repair(
    *,
    config: ConfigPath = None,
    data: Path | None = None,
    yes: Flag = False,
    keep: Path | None = None,
    accept_loss: Flag = False,
    trust: Trust = None,
) -> int:
    """Make a damaged event stream whole, out of what is sound in it and in the archive.

    Stop the coordinators and projectors first. Without --yes it only looks, and changes nothing:
    status 1 when something is wrong. What was there before is kept. When it breaks off, run it
    again with the same options: it goes on.

    Args:
        config: The config file of the coordinator.
        data: Instead of that: the data folder of `mito up`, which must not run.
        yes: Repair.
        keep: A new folder for what there was before. Default: in the data folder; of separate
            services it must be named.
        accept_loss: End history before the first position that is sound neither in the stream nor
            in the archive. Everything behind it is given up.
        trust: Which copy is right where they differ and nothing else tells.
    """
    from mitosis import repair as work

    if config is not None and data is not None:
        raise UsageError("--config and --data exclude each other")
    orders = work.Orders(yes, accept_loss, trust, keep)
    with moving("history") as progress:
        told = progress or (lambda *_: None)
        if data is not None:
            done = work.repair_data(data, orders, told)
        else:
            done = work.repair_services(load(CoordinatorConfig, config=config).config, orders, told)
    show(done, lambda: _lines(done))
    if done.done and done.lost:
        note(
            "Files of the lost events belong to no event now: the coordinator removes them an hour "
            "after they were stored. Copy what you need before you start it"
        )
    return DONE if done.sound or done.done else FAILED


def _lines(done: "Repaired") -> Iterable[str]:
    if done.sound:
        yield f"Nothing is wrong: the stream has all positions from 1 to {done.known}"
        return
    yield (
        f"The stream lacked {done.missing} positions and had {done.changed} that were changed; "
        f"{done.archive} commits of the archive were missing or changed"
    )
    if done.differ:
        yield f"  they differed at {', '.join(map(str, done.differ))}"
    if done.lost:
        yield (
            f"Lost: the positions {done.position + 1} to {done.known}, {done.cut} of which can be "
            "read still"
        )
        yield from (f"  {printable(reason)}" for reason in done.reasons)
    if done.done:
        yield (
            f"Repaired: history is whole up to position {done.position}, and its digests are those "
            f"of archive and checkpoints; the stream ends at {done.end}"
        )
        yield f"What there was before: {done.kept}"
    elif done.lost:
        yield f"History can be made whole up to position {done.position}: --yes --accept-loss"
    else:
        yield f"All {done.known} positions can be made whole: run it again with --yes"
