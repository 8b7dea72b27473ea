"""When the memory is stored, so that the next start reads a little history and not all."""

import asyncio
import logging
from time import monotonic

from mitosis.errors import MitosisError
from mitosis.events.reader import EventReader
from mitosis.events.snapshots import SnapshotStore
from mitosis.services.coordinator.history import write_snapshot
from mitosis.services.coordinator.journal import Journal
from mitosis.services.coordinator.world import World

LOOK_SECONDS = 1.0
REST = 20  # times what the last one took: at most 5 % of the time goes into snapshots

log = logging.getLogger(__name__)


class SnapshotRhythm:
    """Stores a snapshot after every so many commits, and rests in between."""

    def __init__(
        self,
        store: SnapshotStore,
        reader: EventReader,
        world: World,
        journal: Journal,
        last: int,
        every: int,
    ) -> None:
        """`last` is the position of the newest snapshot, `every` a number of commits."""
        self._store, self._reader = store, reader
        self._world, self._journal = world, journal
        self._last, self._every = last, every

    async def keep(self) -> None:
        """Go on for the whole term; a snapshot that fails is tried again later."""
        while True:
            took = 0.0
            if self._journal.position - self._last >= self._every:
                began = monotonic()
                await self._write()
                took = monotonic() - began
            await asyncio.sleep(max(LOOK_SECONDS, REST * took))

    async def _write(self) -> None:
        try:
            manifest = await write_snapshot(self._store, self._reader, self._world, self._journal)
        except MitosisError as error:
            log.warning("no snapshot was stored, history is read from the last one: %s", error)
            return
        self._last = manifest.position
        log.info("snapshot at position %d: %d bytes", manifest.position, manifest.size_bytes)
