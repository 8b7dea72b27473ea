"""Bringing a platform back: whatever of it is lost is filled from the backup and from what is left.

    check everything  ->  objects  ->  archive  ->  stream  ->  Restored

The archive comes before the stream: when a restore breaks off, the stream is shorter than its
archive, with which no coordinator starts. Run again, it goes on where it was.
"""

import asyncio
import logging

import msgspec

from mitosis._version import __version__
from mitosis.artifacts.copies import put
from mitosis.artifacts.s3 import MAX_LISTED, Bucket
from mitosis.contract import subjects
from mitosis.domain.platform import Restored
from mitosis.errors import CorruptData
from mitosis.events.envelope import digest
from mitosis.events.messages import StoredMessage
from mitosis.events.verify import ChainVerifier, Link
from mitosis.events.writer import Append, PipelinedWriter
from mitosis.projections.commit import RawCommit
from mitosis.runtime import Ids
from mitosis.services.backup.copies import Ends, ends_of, whole_history
from mitosis.services.backup.ending import PLATFORM, ending
from mitosis.services.backup.folder import ABSENT, Backup, Missing, StoredCopy
from mitosis.services.backup.inventory import ARTIFACTS, ATTACHMENTS, Inventory, NamedObject
from mitosis.services.backup.taking import AT_ONCE, Platform, bucket_of

log = logging.getLogger(__name__)

SHOWN = 100


class BroughtBack(msgspec.Struct, frozen=True):
    """What a restore has done.

    Attributes:
        position: The last commit of the history that is there now.
        backup_position: The last commit of the backup.
        commits: How many were added to the stream, from the backup or from the archive.
        archived: How many were added to the archive.
        objects: How many objects were stored again; those that were there were kept.
        missing: How many objects the events name that are neither in the store nor in the backup.
        named: The first of them.
        unknown: How many objects in the store no event names, such as uploads that are newer than
            the history: the coordinator removes them when they are older than an hour.
        unknown_named: The first of them, as bucket/name.
    """

    position: int
    backup_position: int
    commits: int
    archived: int
    objects: int
    missing: int
    named: tuple[Missing, ...]
    unknown: int
    unknown_named: tuple[str, ...]


async def restore(platform: Platform, backup: Backup, ids: Ids) -> BroughtBack:
    """Fill stream, archive and store from a backup that was opened.

    No coordinator and no projector may be at work. Nothing that is there is changed or undone.

    Raises:
        CorruptData: The backup is damaged, or the stream or archive that is there is of another
            history. Nothing was changed.
        Unavailable: A service does not answer; run it again, it goes on where it was.
        WrongState: A projector is at work.
    """
    await platform.archive.hold()
    restoring = _Restoring(platform, backup, await ends_of(platform, backup))
    await restoring.check()
    return await restoring.fill(ids)


class _Restoring:
    def __init__(self, platform: Platform, backup: Backup, ends: Ends) -> None:
        self._platform, self._backup, self._ends = platform, backup, ends
        self._verifier = ChainVerifier(subjects.EVENTS)
        self._inventory = Inventory()
        self._named: dict[tuple[str, str], NamedObject] = {}
        self._copies: dict[tuple[str, str], StoredCopy] = {}

    async def check(self) -> None:
        """Read all of it once, before anything is changed."""
        manifest = self._backup.manifest
        of_backup: list[NamedObject] = []
        async for piece, _ in whole_history(self._platform, self._backup, self._ends):
            for commit in piece:
                self._verifier.check([_message(commit)])
                self._inventory.take([commit])
                if commit[0] == manifest.position:
                    of_backup = list(self._inventory)
                    if digest(commit[1], commit[2]) != manifest.digest:
                        raise self._damaged("its last commit is not the one that it names")
        self._named = {(one.bucket, one.name): one for one in self._inventory}
        await asyncio.to_thread(self._check_objects, of_backup)

    def _check_objects(self, of_backup: list[NamedObject]) -> None:
        """Compare index and events: each object is there as its event says, or told as missing."""
        manifest, backup = self._backup.manifest, self._backup
        named = {(one.bucket, one.name): one for one in of_backup}
        told = {(one.bucket, one.name) for one in manifest.missing}
        for copy in backup.copies():
            key = (copy.bucket, copy.name)
            if key not in named:
                raise self._damaged(f"it has the object {copy.name}, which no commit names")
            wanted = (named[key].size_bytes, named[key].sha256)
            if (copy.size_bytes, copy.sha256) != wanted and key not in told:
                raise self._damaged(f"the object {copy.name} is not what its commit names")
            backup.check_object(copy)
            self._copies[key] = copy
        if lacking := named.keys() - self._copies.keys() - told:
            raise self._damaged(f"it lacks the object {min(lacking)[1]}")

    async def fill(self, ids: Ids) -> BroughtBack:
        """Add what is missing, in the order in which a break does no harm."""
        platform, ends = self._platform, self._ends
        objects = await self._fill_objects()
        archived = await self._fill_archive()
        commits = ends.whole - ends.stream
        position = ends.whole
        if commits:
            position = await self._fill_stream(ids)
        if commits or archived:
            await platform.archive.forget_views()
        missing = await self._missing()
        unknown = [name for b in (ARTIFACTS, ATTACHMENTS) for name in await self._unknown(b)]
        return BroughtBack(
            position, ends.backup, commits, archived, objects,
            len(missing), tuple(missing[:SHOWN]), len(unknown), tuple(unknown[:SHOWN]),
        )  # fmt: skip

    async def _fill_objects(self) -> int:
        wanted = [copy for key, copy in self._copies.items() if key in self._named]
        stored = 0
        for start in range(0, len(wanted), AT_ONCE):
            storing = [self._store(copy) for copy in wanted[start : start + AT_ONCE]]
            for outcome in await asyncio.gather(*storing, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                stored += outcome
        return stored

    async def _store(self, copy: StoredCopy) -> bool:
        """Store one object unless it is there: a name is given to one upload only, ever."""
        bucket = bucket_of(self._platform.objects, copy.bucket)
        if await bucket.size_of(copy.name) == copy.size_bytes:
            return False
        await put(bucket, copy.name, self._backup.object_path(copy))
        return True

    async def _fill_archive(self) -> int:
        added = 0
        async for piece, archived in whole_history(self._platform, self._backup, self._ends):
            lacking = [commit for commit in piece if commit[0] not in archived]
            if lacking:
                digests = [digest(subject, payload) for _, subject, payload in lacking]
                await self._platform.archive.add(lacking, digests)
                added += len(lacking)
        return added

    async def _fill_stream(self, ids: Ids) -> int:
        ends, nc = self._ends, self._platform.nc
        last_of: dict[str, int] = {}
        writer = await PipelinedWriter.open(nc, subjects.EVENTS_STREAM, ends.stream)
        try:
            async for piece, _ in whole_history(self._platform, self._backup, ends):
                new = []
                for position, subject, payload in piece:
                    if position > ends.stream:
                        new.append(Append(subject, payload, last_of.get(subject, 0)))
                    last_of[subject] = position
                if new:
                    await writer.submit_batch(new)[1]
            expected = last_of.get(PLATFORM, 0)
            appends = [Append(PLATFORM, payload, expected) for payload in self._restored(ids)]
            return await writer.submit_batch(appends)[1]
        finally:
            await writer.close()

    def _restored(self, ids: Ids) -> list[bytes]:
        """The commits that tell of it."""
        manifest = self._backup.manifest
        event = Restored(
            position=self._ends.whole,
            commits=self._ends.whole - self._ends.stream,
            backup_position=manifest.position,
            backup_made_at=manifest.made_at,
            version=__version__,
        )
        link = self._verifier.chains.get(subjects.PLATFORM_TAIL, Link(0, ""))
        return ending(link, event, "system:restore", self._platform.clock.now(), ids)

    async def _missing(self) -> list[Missing]:
        """Objects that the history names, and that are nowhere or not as they were uploaded."""
        told = {(one.bucket, one.name): one for one in self._backup.manifest.missing}
        found = []
        for key, one in self._named.items():
            if key in self._copies and key not in told:
                continue
            size = await bucket_of(self._platform.objects, one.bucket).size_of(one.name)
            if size != one.size_bytes:
                found.append(told.get(key) or Missing(one.bucket, one.name, ABSENT))
        return found

    async def _unknown(self, bucket: str) -> list[str]:
        names = await _names_in(bucket_of(self._platform.objects, bucket))
        return [f"{bucket}/{name}" for name in names if (bucket, name) not in self._named]

    def _damaged(self, why: str) -> CorruptData:
        return CorruptData(
            f"the backup {self._backup.path} cannot be used: {why}. Nothing was restored; use "
            "another backup"
        )


async def _names_in(bucket: Bucket) -> list[str]:
    found: list[str] = []
    while True:
        page = await bucket.list_prefix(start_after=found[-1] if found else "")
        found.extend(one.name for one in page)
        if len(page) < MAX_LISTED:
            return found


def _message(commit: RawCommit) -> StoredMessage:
    return StoredMessage(*commit)
