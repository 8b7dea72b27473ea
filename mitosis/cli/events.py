"""`mito events`: the audit side, with the service credentials."""

from typing import Annotated

from cyclopts import Parameter

from mitosis.cli.output.screen import show
from mitosis.cli.parameters import ConfigPath
from mitosis.config.coordinator import CoordinatorConfig
from mitosis.config.loader import load


def verify(
    *,
    config: ConfigPath = None,
    nats_url: Annotated[str | None, Parameter(name="--nats")] = None,
) -> None:
    """Walk the whole stream and check that every commit continues the chain of its aggregate.

    Args:
        config: The config file of the coordinator.
        nats_url: The NATS URL.
    """
    from mitosis.bootstrap import verify_events

    flags = {"nats_url": nats_url} if nats_url else {}
    result = verify_events(load(CoordinatorConfig, config=config, flags=flags).config)
    show(
        result,
        lambda: [
            f"{result.commits} commits of {result.aggregates} aggregates up to position "
            f"{result.position}: every chain is whole"
        ],
    )
