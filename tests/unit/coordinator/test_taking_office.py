"""What a term that begins believes of the workers that another one has registered."""

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mitosis.config.coordinator import CoordinatorConfig
from mitosis.contract import work
from mitosis.services.auth.key_files import pem_of
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.coordinator import term
from mitosis.services.coordinator.leases import MARGIN_SECONDS
from mitosis.services.coordinator.standing import PROOF_SECONDS
from mitosis.services.coordinator.term import Term

LEASE_SECONDS = 5.0


class Wire:
    """A connection on which nobody says anything."""

    async def subscribe(self, *_: Any) -> object:
        return self

    def add_listener(self, **_: Any) -> None:
        """Nothing is lost."""


class Rhythm:
    """Of snapshots."""

    async def keep(self) -> None:
        """None is stored."""


@pytest.fixture
def successor(coordinator: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return how a term is made over what is stored; its loops do not run."""

    async def nothing(*_: Any, **__: Any) -> None: ...

    def keep_still(_: Term, going: Coroutine[Any, Any, None], __: str) -> None:
        going.close()

    monkeypatch.setattr(term, "ensure_admin", nothing)
    monkeypatch.setattr(Term, "_keep_going", keep_still)
    private = Ed25519PrivateKey.generate()
    parts = SimpleNamespace(
        config=CoordinatorConfig(),
        connection=Wire(),
        workers=Wire(),
        store_client=None,
        objects=SimpleNamespace(
            artifacts=coordinator.objects, attachments=coordinator.attachments, url_seconds=60.0
        ),
        passwords=None,
        keys=TokenKeys(private, pem_of(private)),
        clock=coordinator.clock,
        secret=SimpleNamespace(write=lambda: None),
        stop=lambda: None,
        reset_admin_password=False,
    )

    def make() -> Term:
        coordinator.world = coordinator.replayed()
        coordinator.start()
        return Term(parts, coordinator.core, None, Rhythm())  # type: ignore[arg-type]

    return make


async def test_a_term_gives_nothing_to_a_worker_before_it_has_heard_it(
    coordinator: Any, successor: Any
) -> None:
    """It may be gone since: what it was given would wait for the end of its lease."""
    worker = await coordinator.register()
    await successor()._take_office()
    coordinator.store.let_through()
    task = await coordinator.submit()
    assert coordinator.pushed() == []
    await coordinator.ask(worker, coordinator.reports.renew, work.Renew())
    coordinator.store.let_through()
    assert [pushed.task for pushed in coordinator.pushed()] == [task]


@pytest.mark.parametrize(
    ("in_a_cluster", "longer"), [(False, 0.0), (True, PROOF_SECONDS)], ids=["alone", "in a cluster"]
)
async def test_a_term_waits_for_leases_that_the_former_one_may_still_prolong(
    coordinator: Any, successor: Any, in_a_cluster: bool, longer: float
) -> None:
    """In a cluster that one may be cut off, and answers as long as its last proof counts."""
    worker = await coordinator.register()
    coordinator.clock.seconds += 100
    begun = successor()
    if in_a_cluster:
        coordinator.core.standing.prove(coordinator.clock.seconds)
    await begun._take_office()
    coordinator.clock.seconds += 1
    await begun.serve()
    leases, lease_seconds = coordinator.core.leases, {worker: LEASE_SECONDS}
    coordinator.clock.seconds += LEASE_SECONDS + MARGIN_SECONDS + longer - 0.1
    assert leases.expired(lease_seconds) == []
    coordinator.clock.seconds += 0.2
    assert leases.expired(lease_seconds) == [worker]
