"""The short form of the fault suite; `just chaos` is the long one (docs/reliability.md)."""

from collections.abc import Callable

import pytest

from mitosis.testing.chaos.run import Settings, run
from mitosis.testing.chaos.site import Shape

# Seeds that ever ended with a violation, their NATS nodes, and whether programs were short.
FAILED = ((1, 3, False),)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("seed", "nats_nodes", "short"), [(31, 1, False), (7, 1, True), *FAILED])
def test_every_promise_holds_while_processes_are_killed_frozen_and_cut_off(
    seed: int, nats_nodes: int, short: bool, scaled: Callable[[int, int], int]
) -> None:
    """Both coordinators, workers, projector, NATS, Postgres and S3, and the links between them."""
    shape = Shape(workers=2, lease_seconds=4.0, nats_nodes=nats_nodes)
    settings = Settings(
        seed=seed, seconds=scaled(15, 120), shape=shape,
        pause=(0.1, 0.6), at_once=2, least_submits=40, short=short,
    )  # fmt: skip
    result = run(settings)
    assert result.violations == [], result.summary()
    assert result.faults.total() >= settings.seconds / 5, result.summary()
    assert result.operations["submit ok"] >= settings.least_submits, result.summary()
    assert result.ledger_lines >= 20, result.summary()
