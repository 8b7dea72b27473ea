"""The short form of the fault suite; `just chaos` is the long one (docs/reliability.md)."""

from collections.abc import Callable

import pytest

from mitosis.testing.chaos.run import Settings, run
from mitosis.testing.chaos.site import Shape

SEED = 31


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_promise_holds_while_processes_are_killed_frozen_and_cut_off(
    scaled: Callable[[int, int], int],
) -> None:
    """Both coordinators, workers, projector, NATS, Postgres and S3, and the links between them."""
    settings = Settings(
        seed=SEED, seconds=scaled(15, 120), shape=Shape(workers=2, lease_seconds=4.0),
        pause=(0.1, 0.6), at_once=2, least_submits=40,
    )  # fmt: skip
    result = run(settings)
    assert result.violations == [], result.summary()
    assert result.faults.total() >= settings.seconds / 5, result.summary()
    assert result.operations["submit ok"] >= settings.least_submits, result.summary()
    assert result.ledger_lines >= 20, result.summary()
