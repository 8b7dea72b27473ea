"""`mito events replay`: read models of the past, by an operator."""

from datetime import datetime
from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.output.progress import CommitCounter
from mitosis.cli.output.screen import show
from mitosis.cli.parameters import ConfigPath, converter, read_moment
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load

To = Annotated[
    datetime | int,
    Parameter(name="--to", converter=converter(read_moment), n_tokens=1, metavar="TIME|POSITION"),
]
Into = Annotated[str, Parameter(name="--into", metavar="DATABASE")]


def replay(
    *,
    to: To,
    into: Into,
    config: ConfigPath = None,
    db_url: Annotated[str | None, Parameter(name="--db")] = None,
    nats_url: Annotated[str | None, Parameter(name="--nats")] = None,
) -> None:
    """Build the read models of a moment of the past in another database, while the platform runs.

    What is there is for SQL: `SELECT state, count(*) FROM views.tasks GROUP BY state`. Drop the
    database when it is not needed any more. A replay that was killed goes on when it is run again.

    Args:
        to: The moment, such as 4711, '2h ago', yesterday, '2026-11-20 14:05' or
            2026-11-20T14:05:00Z.
        into: The name of a database on the server of the platform's own, made if it is not there,
            or the URL of an empty one.
        config: The config file of the coordinator.
        db_url: The database URL of the platform.
        nats_url: The NATS URL.
    """
    from mitosis.operations import replay_events

    given = {"db_url": db_url, "nats_url": nats_url}
    flags = {key: value for key, value in given.items() if value is not None}
    settings = load(CoordinatorConfig, config=config, flags=flags).config
    with CommitCounter() as told:
        done = replay_events(settings, to, into, told)
    show(
        done,
        lambda: [f"The read models of position {done.position} are in {done.database}"],
    )
