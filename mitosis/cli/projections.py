"""`mito projections`: rebuilding and checking the read models, by an operator."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.exit_codes import DONE, FAILED
from mitosis.cli.output.progress import CommitCounter
from mitosis.cli.output.screen import show
from mitosis.cli.parameters import ConfigPath
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load

if TYPE_CHECKING:
    from mitosis.projections.comparison import Compared, Difference

Database = Annotated[str | None, Parameter(name="--db")]
Nats = Annotated[str | None, Parameter(name="--nats")]


def rebuild(*, config: ConfigPath = None, db_url: Database = None, nats_url: Nats = None) -> None:
    """Build the read models anew from the stream, while the platform runs.

    Reads show the old ones until the new ones are complete, and then the new ones. The archive is
    not touched. Needs room in Postgres for both.

    Args:
        config: The config file of the coordinator.
        db_url: The database URL.
        nats_url: The NATS URL.
    """
    from mitosis.operations import rebuild_projections

    with CommitCounter() as told:
        done = rebuild_projections(_settings(config, db_url, nats_url), told)
    show(done, lambda: [f"The read models are built anew up to position {done.position}"])


def verify(*, config: ConfigPath = None, db_url: Database = None, nats_url: Nats = None) -> int:
    """Build the read models anew beside the live ones and compare every row; status 1: some differ.

    Nothing is changed, and the platform may run. Needs room in Postgres for both.

    Args:
        config: The config file of the coordinator.
        db_url: The database URL.
        nats_url: The NATS URL.
    """
    from mitosis.operations import verify_projections

    with CommitCounter() as told:
        found = verify_projections(_settings(config, db_url, nats_url), told)
    show(found, lambda: _lines(found))
    return FAILED if found.differing else DONE


def _settings(config: ConfigPath, db_url: str | None, nats_url: str | None) -> CoordinatorConfig:
    given = {"db_url": db_url, "nats_url": nats_url}
    flags = {key: value for key, value in given.items() if value is not None}
    return load(CoordinatorConfig, config=config, flags=flags).config


def _lines(found: "Compared") -> Iterable[str]:
    if not found.differing:
        yield f"All {found.rows} rows are as the stream says at position {found.position}"
        return
    yield (
        f"{found.differing} of {found.rows} rows are not as the stream says at position "
        f"{found.position}; `mito projections rebuild` makes them anew"
    )
    for difference in found.differences:
        yield f"  {_line(difference)}"
    if found.differing > len(found.differences):
        yield f"  and {found.differing - len(found.differences)} more"


def _line(difference: "Difference") -> str:
    columns = f": {', '.join(difference.columns)}" if difference.columns else ""
    key = json.dumps(difference.key, ensure_ascii=False)
    return f"{difference.table} {key} {difference.what}{columns}"
