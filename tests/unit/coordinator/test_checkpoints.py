"""The platform's key vouches for all of history, often enough and never without need."""

import base64
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mitosis.contract import subjects
from mitosis.domain.platform import CheckpointSigned, KeyRotated
from mitosis.errors import CorruptData
from mitosis.events.catalogue import decode_event
from mitosis.events.chain import START, checkpoint_text, extend, key_id
from mitosis.events.envelope import digest
from mitosis.events.takeover import WINDOW
from mitosis.events.writer import Append
from mitosis.services.auth.key_files import pem_of
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.coordinator.checkpoints import Checkpoints
from mitosis.services.coordinator.history import take_in
from mitosis.services.coordinator.takeover import take_over
from mitosis.services.coordinator.world import World


def new_keys() -> TokenKeys:
    private = Ed25519PrivateKey.generate()
    return TokenKeys(private, pem_of(private))


@pytest.fixture
def keys() -> TokenKeys:
    return new_keys()


@pytest.fixture
def checkpoints(coordinator, keys) -> Checkpoints:
    made = Checkpoints(coordinator.core.journal, keys, coordinator.clock, 10, 60.0)
    made.tell_key()
    coordinator.store.let_through()
    return made


def told(coordinator, kind):
    return [
        (position, event)
        for (position, _, _), (_, commit) in zip(
            coordinator.store.stored, coordinator.commits(), strict=True
        )
        for event in [decode_event(*one) for one in commit.events]
        if isinstance(event, kind)
    ]


@pytest.fixture(autouse=True)
def _commits(coordinator):
    coordinator.commits = coordinator.store.commits


def running_digest(stored, count: int) -> str:
    chain = START
    for _, subject, payload in stored[:count]:
        chain = extend(chain, digest(subject, payload))
    return chain


async def test_a_checkpoint_signs_everything_before_it(coordinator, checkpoints, keys) -> None:
    for _ in range(10):
        await coordinator.submit()
    checkpoints.look()
    coordinator.store.let_through()

    [(_, key)] = told(coordinator, KeyRotated)
    [(position, signed)] = told(coordinator, CheckpointSigned)
    assert (signed.position, signed.count) == (position - 1, position - 1)
    assert signed.digest == running_digest(coordinator.store.stored, signed.count)
    public = load_pem_public_key(key.public_key.encode())
    assert isinstance(public, Ed25519PublicKey)
    assert signed.key == key.key == key_id(public.public_bytes_raw()) == keys.key_id
    text = checkpoint_text(signed.position, signed.count, signed.digest)
    public.verify(base64.b64decode(signed.signature), text)


async def test_a_few_commits_wait_for_the_interval_and_an_idle_platform_signs_nothing(
    coordinator, checkpoints
) -> None:
    checkpoints.sign()
    await coordinator.submit()
    checkpoints.look()
    assert len(told(coordinator, CheckpointSigned)) == 1
    coordinator.clock.seconds += 60
    for _ in range(3):
        checkpoints.look()
        coordinator.store.let_through()
        coordinator.clock.seconds += 3600
    assert len(told(coordinator, CheckpointSigned)) == 2
    checkpoints.sign()
    coordinator.store.let_through()
    assert len(told(coordinator, CheckpointSigned)) == 2


async def test_every_so_many_commits_do_not_wait(coordinator, checkpoints) -> None:
    for _ in range(25):
        await coordinator.submit()
        checkpoints.look()
        coordinator.store.let_through()
    covered = [signed.position for _, signed in told(coordinator, CheckpointSigned)]
    assert len(covered) > 1
    between = {after - before for before, after in pairwise(covered)}
    assert between == {11}, "ten commits, and the checkpoint before them"


async def test_the_key_is_told_once_and_again_when_it_is_another(
    coordinator, checkpoints, keys
) -> None:
    checkpoints.tell_key()
    coordinator.world = coordinator.replayed()
    coordinator.start()
    other = new_keys()
    for each in (keys, other, other):
        Checkpoints(coordinator.core.journal, each, coordinator.clock, 10, 60.0).tell_key()
    coordinator.store.let_through()
    rotated = [event for _, event in told(coordinator, KeyRotated)]
    assert [(one.key, one.former) for one in rotated] == [
        (keys.key_id, ""),
        (other.key_id, keys.key_id),
    ]
    # The new one vouches at once for all that the former one has signed.
    [(position, signed)] = told(coordinator, CheckpointSigned)
    [_, (told_at, _)] = told(coordinator, KeyRotated)
    assert (signed.key, signed.position, position) == (other.key_id, told_at, told_at + 1)


async def test_a_new_coordinator_goes_on_with_the_same_running_digest(
    coordinator, checkpoints
) -> None:
    await coordinator.submit()
    world = coordinator.replayed()
    assert world.chained == len(coordinator.store.stored)
    assert world.chain == coordinator.world.chain
    assert world.chain == running_digest(coordinator.store.stored, world.chained)


async def test_a_coordinator_does_not_take_over_a_history_that_is_not_what_was_signed(
    coordinator, checkpoints
) -> None:
    await coordinator.submit()
    checkpoints.sign()
    coordinator.store.let_through()
    coordinator.replayed()
    at = max(i for i, (_, s, _) in enumerate(coordinator.store.stored) if ".task." in s)
    position, subject, payload = coordinator.store.stored[at]
    changed = payload.replace(b'"time":"2026', b'"time":"2025', 1)
    assert changed != payload
    coordinator.store.stored[at] = (position, subject, changed)
    with pytest.raises(CorruptData, match="is not what the checkpoint at position") as refused:
        coordinator.replayed()
    assert refused.value.details["position"] == len(coordinator.store.stored)


async def test_the_fence_of_a_new_term_is_covered_too(coordinator) -> None:
    class Writer:
        def submit_batch(self, appends: list[Append]):
            async def stored() -> int:
                return coordinator.store.next_position + len(appends) - 1

            self.appends = appends
            return 0, stored()

    writer, world = Writer(), coordinator.replayed()
    await take_over(world, writer, coordinator.clock, coordinator.ids, "second")  # type: ignore[arg-type]

    again = coordinator.replayed()
    for position, append in enumerate(writer.appends, coordinator.store.next_position):
        take_in(again, position, append.subject, append.payload)
    assert len(writer.appends) == WINDOW + 1
    assert (again.chain, again.chained) == (world.chain, world.chained)
    assert again.heads[subjects.PLATFORM_TAIL] == world.heads[subjects.PLATFORM_TAIL]
    assert isinstance(again, World)
