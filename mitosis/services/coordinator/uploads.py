"""Uploads on their way: what was promised to whom, and what it reserves of a group's quota.

In memory of the term only: a successor knows no open upload, and whoever completes one is told to
begin again. Its bytes, if any came, are then named by nobody and swept.
"""

import heapq
from collections.abc import Coroutine, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from mitosis.artifacts.multipart import MAX_OBJECT_BYTES, part_count, part_size
from mitosis.domain.limits import check_number
from mitosis.domain.task import ArtifactKind
from mitosis.errors import InvalidInput, LimitReached
from mitosis.runtime import Clock

GRANT_SECONDS = 3_600.0
MAX_GRANTS = 50_000
MAX_GRANTS_OF_ONE = 5_000  # a worker has one for each slot
URLS_AT_ONCE = 64  # of parts, in one answer


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A place that may be written to for a while.

    Attributes:
        upload: Id of the upload, a part of the object's name.
        object_name: Where the bytes go.
        owner: The user, or `worker:<uuid>`, who may complete it.
        group: In whose quota it is reserved.
        size_bytes: As declared.
        task, attempt, kind: Of an artifact; attempt 0: a user uploads it.
        key: Of an attachment.
    """

    upload: str
    object_name: str
    owner: str
    group: str
    size_bytes: int
    task: str = ""
    attempt: int = 0
    kind: ArtifactKind | None = None
    key: str = ""

    @property
    def output(self) -> "Output":
        """What of a worker's attempt it is."""
        return self.task, self.attempt, self.kind


Output = tuple[str, int, ArtifactKind | None]
"""Task, attempt and kind."""


class Uploads:
    """Open grants by upload id, with what they reserve. Bounded in number and in time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._grants: dict[str, Grant] = {}
        self._expires: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []
        self._reserved: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._store_ids: dict[str, str] = {}
        self._outputs: dict[Output, str] = {}

    def reserved_bytes(self, group: str) -> int:
        """Return what open grants take of a group's quota."""
        self._expire()
        return self._reserved.get(group, 0)

    def grant(self, grant: Grant, *, used_bytes: int, quota_bytes: int) -> Grant:
        """Promise a place.

        Args:
            grant: The place.
            used_bytes: What the group stores now, without the file that this one replaces.
            quota_bytes: What it may store.

        Raises:
            InvalidInput: A size that cannot be. LimitReached: The group's quota has no room for
                it, or too many uploads are open.
        """
        check_number(grant.size_bytes, "size in bytes", 0, MAX_OBJECT_BYTES)
        reserved = self.reserved_bytes(grant.group)
        check_quota(grant.group, grant.size_bytes, used_bytes + reserved, quota_bytes)
        if len(self._grants) >= MAX_GRANTS or self._held.get(grant.owner, 0) >= MAX_GRANTS_OF_ONE:
            raise LimitReached(
                f"too many uploads are open ({self._held.get(grant.owner, 0)} of {grant.owner}): "
                "complete or abort some, or wait until they expire",
                limit=MAX_GRANTS_OF_ONE,
            )
        self._grants[grant.upload] = grant
        if grant.attempt:
            self._outputs[grant.output] = grant.upload
        self._count(grant, +1)
        self._expires[grant.upload] = self._clock.monotonic() + GRANT_SECONDS
        heapq.heappush(self._queue, (self._expires[grant.upload], grant.upload))
        return grant

    def find(self, upload: str, owner: str) -> Grant | None:
        """Return an open grant of its owner."""
        self._expire()
        grant = self._grants.get(upload)
        return grant if grant is not None and grant.owner == owner else None

    def of_output(self, task: str, attempt: int, kind: ArtifactKind) -> Grant | None:
        """Return the open grant of a worker's output: it has one place at a time."""
        self._expire()
        upload = self._outputs.get((task, attempt, kind))
        return self._grants.get(upload) if upload else None

    def prolong(self, upload: str) -> None:
        """Let a grant last for another while, since its upload goes on."""
        if upload in self._grants:
            self._expires[upload] = self._clock.monotonic() + GRANT_SECONDS

    def in_parts(self, upload: str, store_id: str) -> None:
        """Note what the store calls a multipart upload."""
        if upload in self._grants:
            self._store_ids[upload] = store_id

    def store_id(self, upload: str) -> str:
        """Return what the store calls a multipart upload; empty: it is none."""
        return self._store_ids.get(upload, "")

    def take(self, upload: str) -> Grant | None:
        """Return and close a grant; None when there is none (any more)."""
        self._expire()
        return self._close(upload)

    def names(self) -> set[str]:
        """Return the objects that may appear at any moment."""
        self._expire()
        return {grant.object_name for grant in self._grants.values()}

    def _close(self, upload: str) -> Grant | None:
        grant = self._grants.pop(upload, None)
        if grant is not None:
            self._count(grant, -1)
            del self._expires[upload]
            self._store_ids.pop(upload, None)
            if self._outputs.get(grant.output) == upload:
                del self._outputs[grant.output]
        return grant

    def _count(self, grant: Grant, by: int) -> None:
        for counts, key, step in (
            (self._reserved, grant.group, by * grant.size_bytes),
            (self._held, grant.owner, by),
        ):
            left = counts.get(key, 0) + step
            if left:
                counts[key] = left
            else:
                counts.pop(key, None)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        while self._queue and self._queue[0][0] < now:
            _, upload = heapq.heappop(self._queue)
            expires = self._expires.get(upload)
            if expires is not None and expires >= now:  # it was prolonged
                heapq.heappush(self._queue, (expires, upload))
            else:
                self._close(upload)


class Places(Protocol):
    """What is asked of a bucket while files are uploaded to it (`artifacts.s3.Bucket`)."""

    def presign_put(self, object_name: str, size_bytes: int | None = None) -> str:
        """Return a URL that an object may be uploaded to for a while."""
        ...

    def presign_part(self, object_name: str, store_id: str, number: int, size_bytes: int) -> str:
        """Return a URL for one part of an object of this whole size."""
        ...

    async def begin_parts(self, object_name: str) -> str:
        """Begin a multipart upload; return the store's id of it."""
        ...

    async def join_parts(self, object_name: str, store_id: str, size_bytes: int) -> None:
        """Complete a multipart upload."""
        ...

    async def drop_parts(self, object_name: str, store_id: str) -> None:
        """Abort a multipart upload."""
        ...

    async def size_of(self, object_name: str) -> int | None:
        """Return the real size, or None when there is no such object."""
        ...

    async def delete(self, object_names: Iterable[str]) -> None:
        """Remove objects."""
        ...


class Open(NamedTuple):
    """How the bytes of a granted upload are sent: by one URL, or in so many parts."""

    url: str
    parts: int
    part_bytes: int


async def open_place(uploads: Uploads, places: Places, grant: Grant) -> Open:
    """Make ready for the bytes of a grant. The one who granted it closes it after an error.

    Raises:
        ObjectsUnavailable: The store does not answer.
    """
    count = part_count(grant.size_bytes)
    if not count:
        return Open(places.presign_put(grant.object_name, grant.size_bytes), 0, 0)
    store_id = await places.begin_parts(grant.object_name)
    uploads.in_parts(grant.upload, store_id)
    return Open("", count, part_size(grant.size_bytes))


def part_urls(uploads: Uploads, places: Places, grant: Grant, first: int) -> list[str]:
    """Return URLs of parts from number `first` on, and let the grant last longer.

    Raises:
        InvalidInput: There is no such part.
    """
    store_id, count = uploads.store_id(grant.upload), part_count(grant.size_bytes)
    if not store_id or not 1 <= first <= count:
        raise InvalidInput(f"this upload has no part {first}: it has {count if store_id else 0}")
    uploads.prolong(grant.upload)
    return [
        places.presign_part(grant.object_name, store_id, number, grant.size_bytes)
        for number in range(first, min(count, first + URLS_AT_ONCE - 1) + 1)
    ]


async def stored_size(uploads: Uploads, places: Places, grant: Grant) -> int | None:
    """Put the parts of an upload together, if it has any, and ask the store for the real size.

    Raises:
        InvalidInput: Parts are missing or not as agreed.
        ObjectsUnavailable: The store does not answer.
    """
    store_id = uploads.store_id(grant.upload)
    if store_id:
        await places.join_parts(grant.object_name, store_id, grant.size_bytes)
    return await places.size_of(grant.object_name)


def give_up(uploads: Uploads, places: Places, grant: Grant) -> Coroutine[Any, Any, None]:
    """Close a grant at once; return the work that removes what was sent, which no event names."""
    store_id = uploads.store_id(grant.upload)
    uploads.take(grant.upload)

    async def remove() -> None:
        if store_id:
            await places.drop_parts(grant.object_name, store_id)
        await places.delete([grant.object_name])

    return remove()


def check_size(size: int | None, declared: int) -> int:
    """Check the real size of an uploaded object, and return it.

    Raises:
        InvalidInput: It is not there, or not what was declared.
    """
    if size is None:
        raise InvalidInput("the uploaded object is not in the store")
    if size != declared:
        raise InvalidInput(f"the object has {size} bytes, {declared} were declared")
    return size


def check_quota(group: str, size_bytes: int, used_bytes: int, quota_bytes: int) -> None:
    """Check that a group has room for so many bytes more.

    Raises:
        LimitReached: It has not.
    """
    if size_bytes > quota_bytes - used_bytes:
        raise LimitReached(
            f"{size_bytes} bytes do not fit into the quota of group {group!r}: "
            f"{used_bytes} of {quota_bytes} bytes are used; delete files or ask a platform "
            "administrator for more",
            group=group,
            size=size_bytes,
            used=used_bytes,
            quota=quota_bytes,
        )
