"""Becoming a worker while a coordinator goes, or one that was overtaken does not know it yet."""

from typing import Any

import msgspec
import pytest

from mitosis.config.worker import WorkerConfig
from mitosis.contract.commands import Registered, RegisterWorker
from mitosis.errors import AuthenticationFailed, MitosisError, NoCoordinator, Unavailable
from mitosis.services.worker import registration
from mitosis.services.worker.registration import NEW_WORKER_SECONDS, register

TIMEOUT = WorkerConfig().as_client().timeout.total_seconds()
AWAY = NoCoordinator("no coordinator answers")
REFUSED = AuthenticationFailed("the worker is not known")


class World:
    """A platform, a network and a clock: each who wants to be let in meets what is next in turn.

    With nothing left in turn it is let in.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.registering_seconds = 0.0
        self.registered = 0
        self.next: list[MitosisError] = []
        self.connection = object()

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def open(self, *_: Any, deadline: float, **__: Any) -> object:
        if self.next:
            raise self.next.pop(0)
        return self.connection

    # --- as the user who registers it ---

    async def command(
        self, noun: str, verb: str, body: msgspec.Struct, result: type[Any], key: str = ""
    ) -> Any:
        self.registered += 1
        self.now += self.registering_seconds
        return Registered("w1", "token", 600.0, 150.0, {})

    async def servers(self) -> list[str]:
        return ["nats://first:4222"]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(registration, "time", world)
    monkeypatch.setattr(registration, "asleep", world.sleep)
    monkeypatch.setattr(registration, "Connection", world)
    monkeypatch.setattr("mitosis.client.retry.time", world)
    return world


async def registering(world: World) -> Any:
    return await register(world, RegisterWorker(), WorkerConfig())


@pytest.mark.parametrize(
    "errors",
    [
        [AWAY] * 10,
        [REFUSED],
        [REFUSED, AWAY, REFUSED],
        [*[AWAY] * 10, REFUSED],
        [Unavailable("nobody has decided")],
    ],
    ids=["it is away", "it was overtaken", "both", "late", "it is slow"],
)
async def test_a_worker_that_was_just_registered_is_let_in_when_a_coordinator_is_back(
    world: World, errors: list[MitosisError]
) -> None:
    """The worker ended, although the coordinator was away for a moment only."""
    world.next = [*errors]
    membership = await registering(world)
    assert (membership.connection, world.registered) == (world.connection, 1)


@pytest.mark.parametrize("registering_seconds", [0.0, TIMEOUT - 10])
async def test_registering_and_being_let_in_have_the_time_of_one_request_together(
    world: World, registering_seconds: float
) -> None:
    began, world.registering_seconds = world.now, registering_seconds
    world.next = [AWAY] * 1000
    with pytest.raises(NoCoordinator):
        await registering(world)
    assert TIMEOUT - 2 < world.now - began <= TIMEOUT


async def test_who_was_registered_at_the_last_moment_is_tried_again_too(world: World) -> None:
    world.registering_seconds, world.next = TIMEOUT, [AWAY, REFUSED]
    assert (await registering(world)).connection is world.connection


async def test_a_worker_that_stays_refused_is_told_soon_that_it_may_register_again(
    world: World,
) -> None:
    """Whoever registers anew tries again what is unavailable, and ends with any other error."""
    began, world.next = world.now, [REFUSED] * 1000
    with pytest.raises(Unavailable, match="register again"):
        await registering(world)
    assert NEW_WORKER_SECONDS <= world.now - began < NEW_WORKER_SECONDS + 1


async def test_a_user_who_is_not_logged_in_is_told_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> Any:
        raise AuthenticationFailed("nobody is logged in")

    monkeypatch.setattr(world, "command", refuse)
    began = world.now
    with pytest.raises(AuthenticationFailed):
        await registering(world)
    assert world.now == began
