"""When the platform's key vouches for history: after so many commits, and at most so much later."""

import asyncio
import base64

from mitosis.contract import subjects
from mitosis.domain.platform import SignCheckpoint, TellKey
from mitosis.events.chain import checkpoint_text
from mitosis.runtime import Clock
from mitosis.services.auth.tokens import TokenKeys
from mitosis.services.coordinator.journal import Journal

LOOK_SECONDS = 0.2
ACTOR = "system:coordinator"


class Checkpoints:
    """Signs what is stored in one term; never because of checkpoints alone."""

    def __init__(
        self, journal: Journal, keys: TokenKeys, clock: Clock, every: int, interval_seconds: float
    ) -> None:
        """`every` is a number of commits; what is less waits for `interval_seconds` at most."""
        self._journal, self._keys, self._clock = journal, keys, clock
        self._every, self._interval = every, interval_seconds
        self._signed_at = clock.monotonic()

    @property
    def unproved(self) -> int:
        """How many commits no checkpoint covers; the last checkpoint itself is not counted."""
        proved = self._journal.world.platform.proved
        return self._journal.position - proved - (1 if proved else 0)

    def tell_key(self) -> None:
        """Let history know the key before anything is signed with it.

        One that follows another vouches at once for what that one has signed: who has the new one
        alone can then check all of history.
        """
        former = self._journal.world.platform.key
        unit = self._journal.unit(ACTOR)
        unit.run(subjects.PLATFORM_TAIL, TellKey(self._keys.key_id, self._keys.public_pem))
        unit.close()
        if former not in {"", self._keys.key_id}:
            self.sign()

    async def keep(self) -> None:
        """Go on for the whole term."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Sign if it is time to."""
        waited = self._clock.monotonic() - self._signed_at
        if self.unproved >= self._every or (self.unproved > 0 and waited >= self._interval):
            self.sign()

    def sign(self) -> None:
        """Vouch for everything that was decided; stored behind it, or not at all."""
        if self.unproved <= 0:
            return
        world, position = self._journal.world, self._journal.position
        count, chain = world.chained, world.chain
        signature = self._keys.sign(checkpoint_text(position, count, chain))
        told = base64.b64encode(signature).decode()
        unit = self._journal.unit(ACTOR)
        unit.run(
            subjects.PLATFORM_TAIL,
            SignCheckpoint(position, count, chain, self._keys.key_id, told),
        )
        unit.close()
        self._signed_at = self._clock.monotonic()
