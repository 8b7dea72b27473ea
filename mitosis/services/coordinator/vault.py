"""Secret variables at the coordinator: sealed when they come, opened for a worker, destroyed.

The order of what is stored is that of docs/decisions/0030-secrets.md: a key is on disk before the
commit that needs it; a key that no unfinished task names is destroyed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from mitosis.contract import subjects
from mitosis.domain.event import Event
from mitosis.domain.secret import SecretsStored, StoreSecrets
from mitosis.errors import CorruptData, MitosisError
from mitosis.runtime import Ids
from mitosis.services.auth.sealing import Sealer
from mitosis.services.coordinator.journal import Unit
from mitosis.services.coordinator.world import Head, World

SWEEP_SECONDS = 3_600.0
RETRY_SECONDS = 5.0
AT_ONCE = 32  # keys that are written or destroyed side by side


class Keys(Protocol):
    """Where keys are; see `SecretKeys`."""

    async def put(self, secret: str, key: bytes) -> None:
        """Store a key."""

    async def get(self, secret: str) -> bytes | None:
        """Return a key, if there is one."""

    async def destroy(self, secret: str) -> None:
        """Destroy a key."""

    async def stored(self) -> set[str]:
        """Return the ids of all."""


ReadAggregate = Callable[[str], Awaitable[tuple[list[Event], Head] | None]]

log = logging.getLogger(__name__)


class Sealed(msgspec.Struct, frozen=True):
    """What a specification says of its secret variables.

    `fresh`: what is to be stored before the task is; None: it is stored already.
    """

    names: tuple[str, ...] = ()
    sealing: str = ""
    fresh: StoreSecrets | None = None

    def store(self, unit: Unit) -> None:
        """Take the sealing into a unit, before the task that names it."""
        if self.fresh is not None:
            unit.run(subjects.secret_tail(self.fresh.group, self.sealing), self.fresh)


NO_SECRETS = Sealed()


class Vault:
    """The secret variables of the tasks in memory.

    Args:
        keys: The stream of keys.
        sealer: Seals and opens.
        ids: New ids.
        read: Reads an aggregate from the store.
        world: Names the unfinished tasks.
        check: Raises Unavailable when another coordinator may have taken over, whose tasks this
            world does not know: the stream of keys has no fence.
    """

    def __init__(
        self,
        keys: Keys,
        sealer: Sealer,
        ids: Ids,
        read: ReadAggregate,
        world: World,
        check: Callable[[], None],
    ) -> None:
        self._keys, self._sealer, self._ids = keys, sealer, ids
        self._read, self._world, self._check = read, world, check
        self._on_their_way: set[str] = set()
        self._doomed: set[str] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def seal(self, group: str, task: str, values: dict[str, str]) -> Sealed:
        """Seal the values of a task; their key is on disk when this returns.

        The sealing is kept from the sweep until `settle`.

        Raises:
            StoreUnavailable: The key could not be stored.
        """
        secret, names = self._ids.commit_id(), tuple(sorted(values))
        sealed, wrapped = self._sealer.seal(values, _place(group, task, secret))
        fresh = StoreSecrets(secret, group, task, names, sealed)
        self._on_their_way.add(secret)
        try:
            async with self._slots:
                await self._keys.put(secret, wrapped)
        except BaseException:
            self.settle(fresh)
            raise
        return Sealed(names, secret, fresh)

    def settle(self, fresh: StoreSecrets) -> None:
        """What a sealing was made for is decided: destroy its key if the task does not name it."""
        self._on_their_way.discard(fresh.secret)
        state = self._world.tasks.get(fresh.task)
        if state is None or state.spec.sealing != fresh.secret:
            self.doom([fresh.secret])

    async def open(self, group: str, task: str, secret: str) -> dict[str, str] | None:
        """Return the values; None: their key was destroyed.

        Raises:
            CorruptData: They cannot be opened. StoreUnavailable: They cannot be read now.
        """
        wrapped = await self._keys.get(secret)
        if wrapped is None:
            return None
        found = await self._read(subjects.secret_tail(group, secret))
        for event in found[0] if found else ():
            if isinstance(event, SecretsStored):
                return self._sealer.open(event.sealed, wrapped, _place(group, task, secret))
        raise CorruptData(f"the secret variables of task {task} are not stored", task=task)

    async def destroy(self, secret: str) -> None:
        """Destroy a key now.

        Raises:
            StoreUnavailable: It may still be there.
        """
        async with self._slots:
            await self._keys.destroy(secret)

    def doom(self, secrets: Iterable[str]) -> None:
        """Have keys destroyed soon."""
        self._doomed.update(secrets)
        if self._doomed:
            self._wake.set()

    def follow_up(self, unit: Unit) -> None:
        """Have the keys of tasks destroyed that end in this unit, when that is stored."""
        for tail, _ in unit.touched():
            if not tail.startswith("task."):
                continue
            state = self._world.tasks.get(tail.rpartition(".")[2])
            if state is not None and state.spec.sealing and state.state.terminal:
                gone = state.spec.sealing
                unit.then(lambda _, gone=gone: self.doom([gone]))  # type: ignore[misc]

    async def keep_clean(self) -> None:
        """Destroy what is doomed, and every hour what no task names; for the whole term."""
        due = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            try:
                if clock() >= due:
                    stored = await self._keys.stored()
                    self._check()
                    self.doom(stored - self._alive())
                    due = clock() + SWEEP_SECONDS
                await self._destroy_doomed()
            except MitosisError as error:
                log.warning("keys of secrets are not destroyed yet: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - clock())):
                    await self._wake.wait()

    async def _destroy_doomed(self) -> None:
        self._wake.clear()
        while self._doomed:
            some = sorted(self._doomed)[:AT_ONCE]
            await asyncio.gather(*map(self.destroy, some))
            self._doomed.difference_update(some)

    def _alive(self) -> set[str]:
        return self._on_their_way | {
            state.spec.sealing
            for state in self._world.tasks.values()
            if state.spec.sealing and not state.state.terminal
        }


@contextlib.contextmanager
def settling(vault: Vault, sealed: Iterable[Sealed]) -> Iterator[None]:
    """Destroy, after what is inside has decided, the keys that it has no use for."""
    try:
        yield
    finally:
        for one in sealed:
            if one.fresh is not None:
                vault.settle(one.fresh)


def _place(group: str, task: str, secret: str) -> str:
    return f"{group}/{task}/{secret}"
