"""Taking a backup, also while the platform runs.

Commits first, then the objects that they name, then again what was stored meanwhile if an object
had been deleted before it was fetched: so every object that the last commit of the backup names is
in it, or is told to be missing.
"""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mitosis.artifacts.copies import fetch
from mitosis.artifacts.s3 import Bucket, S3Store
from mitosis.contract.subjects import EVENTS, EVENTS_STREAM
from mitosis.errors import REPAIR, CorruptData, InvalidInput
from mitosis.events.envelope import digest
from mitosis.events.reader import EventReader
from mitosis.events.verify import ChainVerifier
from mitosis.nats.store_client import StoreClient
from mitosis.projections.archive import Archive
from mitosis.runtime import Clock
from mitosis.services.backup.commits import CommitFiles
from mitosis.services.backup.folder import (
    ABSENT,
    DAMAGED,
    Manifest,
    Missing,
    NewBackup,
    StoredCopy,
    new_manifest,
)
from mitosis.services.backup.inventory import ARTIFACTS, Inventory, NamedObject

log = logging.getLogger(__name__)

ROUNDS = 5
AT_ONCE = 4  # objects that are fetched side by side
SHOWN_MISSING = 100


class Platform(msgspec.Struct, frozen=True):
    """What a backup is taken of, and what it is brought back to.

    Attributes:
        nc: Connection of the event store.
        reader: Of the stream.
        archive: Its second copy.
        objects: The S3 store.
        clock: For what is stamped.
    """

    nc: StoreClient
    reader: EventReader
    archive: Archive
    objects: S3Store
    clock: Clock


class Taken(msgspec.Struct, frozen=True):
    """A backup that was taken.

    Attributes:
        path: Its folder.
        position: It has all commits up to here.
        objects, object_bytes: How many objects of S3, and their size together.
        missing: How many objects the store does not have as their events say.
        named: The first of them, at most 100; all stand in `backup.json`.
    """

    path: str
    position: int
    objects: int
    object_bytes: int
    missing: int
    named: tuple[Missing, ...]


async def take(platform: Platform, folder: Path, secrets: Mapping[str, bytes]) -> Taken:
    """Take a backup into a new folder.

    Args:
        platform: What is backed up; it may run.
        folder: Gets the backup; must not exist.
        secrets: Names and contents of the files with keys, passwords and settings.

    Raises:
        AlreadyExists: The folder exists.
        CorruptData: The stream is shorter than its archive, differs from it, or is damaged.
        Unavailable: A service does not answer. What was fetched is used by the next try.
        InvalidInput: The folder cannot be written.
    """
    backup = NewBackup(folder)
    try:
        manifest = await _Taking(platform, backup).take()
        for name, content in secrets.items():
            backup.write_secret(name, content)
        backup.finish(manifest)
    except OSError as error:
        raise InvalidInput(
            f"the backup cannot be written to {backup.partial}: {error.strerror or error}; what "
            "is there is used by the next try"
        ) from error
    missing = manifest.missing
    return Taken(
        str(backup.path), manifest.position, manifest.objects, manifest.object_bytes,
        len(missing), missing[:SHOWN_MISSING],
    )  # fmt: skip


class _Taking:
    def __init__(self, platform: Platform, backup: NewBackup) -> None:
        self._platform, self._backup = platform, backup
        self._verifier = ChainVerifier(EVENTS)
        self._inventory = Inventory()
        self._copies: dict[NamedObject, StoredCopy] = {}
        self._missing: dict[NamedObject, Missing] = {}
        self._digest = ""

    async def take(self) -> Manifest:
        made_at = self._platform.clock.now()
        with CommitFiles(self._backup.partial / "commits") as files:
            for _ in range(ROUNDS):
                await self._read_commits(files)
                await self._fetch_objects()
                if all(one.reason != ABSENT for one in self._missing.values()):
                    break  # else: deleted meanwhile, which the next commits tell, or lost
        named = set(self._inventory)
        copies = [copy for key, copy in self._copies.items() if key in named]
        missing = [one for key, one in self._missing.items() if key in named]
        self._backup.write_index(copies)
        position = self._verifier.position
        return new_manifest(made_at, EVENTS_STREAM, position, self._digest, copies, missing)

    async def _read_commits(self, files: CommitFiles) -> None:
        archived = await self._platform.archive.last_position()
        start = self._verifier.position + 1
        async for batch in self._platform.reader.batches(start, follow=False):
            self._verifier.check(batch)
            await self._compare(batch[0].position, [digest(s, p) for _, s, p in batch])
            await asyncio.to_thread(files.add, batch)
            self._inventory.take(batch)
            self._digest = digest(batch[-1].subject, batch[-1].payload)
        if self._verifier.position < max(archived, 1):
            raise CorruptData(
                f"the event stream ends at position {self._verifier.position}, its archive has "
                f"commits up to {archived}: it has lost commits, and a backup of it would lack "
                f"them. {REPAIR}",
                archived=archived,
            )

    async def _compare(self, first: int, digests: list[str]) -> None:
        """Compare with the archive; what it does not have yet is archived later."""
        known = await self._platform.archive.digests(first, first + len(digests) - 1)
        for position, found in enumerate(digests, first):
            if known.get(position, found) != found:
                raise CorruptData(
                    f"position {position} is another commit in the stream than in its archive: "
                    f"one of them was changed. {REPAIR}",
                    position=position,
                )

    async def _fetch_objects(self) -> None:
        wanted = [one for one in self._inventory if one not in self._copies]
        for start in range(0, len(wanted), AT_ONCE):
            fetching = [self._fetch(one) for one in wanted[start : start + AT_ONCE]]
            for outcome in await asyncio.gather(*fetching, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _fetch(self, one: NamedObject) -> None:
        backup = self._backup
        if await asyncio.to_thread(backup.has_object, one.sha256, one.size_bytes):
            self._keep(one, one.size_bytes, one.sha256)
            return
        path = backup.object_path(one.sha256)
        copied = await fetch(bucket_of(self._platform.objects, one.bucket), one.name, path)
        if copied is None:
            self._missing[one] = Missing(one.bucket, one.name, ABSENT)
            return
        if copied != (one.size_bytes, one.sha256):
            log.warning("the object %s is not what was uploaded", one.name)
            self._missing[one] = Missing(one.bucket, one.name, DAMAGED)
            path.rename(backup.object_path(copied.sha256))
        self._keep(one, *copied)

    def _keep(self, one: NamedObject, size_bytes: int, sha256: str) -> None:
        self._copies[one] = StoredCopy(one.bucket, one.name, size_bytes, sha256)


def bucket_of(objects: S3Store, name: str) -> Bucket:
    """Return the bucket that an inventory calls `artifacts` or `attachments`."""
    return objects.artifacts if name == ARTIFACTS else objects.attachments
