"""Removing objects that no event names (design, Files).

An upload that was granted and never completed leaves bytes behind. An object is swept when nobody
names it, nobody holds a reservation for it, and it is older than any URL that could still be
completing it.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from mitosis.artifacts.multipart import OpenUpload
from mitosis.artifacts.s3 import MAX_LISTED, StoredObject
from mitosis.errors import MitosisError

log = logging.getLogger(__name__)

MARGIN = timedelta(minutes=5)  # the store's clock against ours, and an upload begun at the end
_BATCH = 1_000  # what one multi-delete takes


Kept = Callable[[Sequence[str]], Awaitable[Collection[str]]]


class Swept(Protocol):
    """What the loop needs of a bucket."""

    async def list_prefix(self, prefix: str = "", *, start_after: str = "") -> list[StoredObject]:
        """Objects in the order of their names."""

    async def delete(self, object_names: Iterable[str]) -> None:
        """Delete them."""

    async def open_uploads(self) -> list[OpenUpload]:
        """Multipart uploads that were neither completed nor aborted."""

    async def drop_parts(self, object_name: str, store_id: str) -> None:
        """Abort one."""


def old_enough(listed: Iterable[StoredObject], now: datetime, url_life: timedelta) -> list[str]:
    """Say which objects are old enough to be deleted, unless somebody names them.

    Args:
        listed: What the store holds.
        now: The clock by which requests to the store are signed.
        url_life: How long a granted URL is valid.
    """
    oldest_alive = now - url_life - MARGIN
    return [item.name for item in listed if item.modified_at < oldest_alive]


async def sweep(
    bucket: Swept,
    kept: Kept,
    now: Callable[[], datetime],
    url_life: timedelta,
) -> int:
    """Sweep a bucket once, page by page.

    Args:
        bucket: What is swept.
        kept: Of the given objects, those that an event names or an open upload has promised;
            asked after the listing was made, so that an object completed in between stays.
        now: The clock by which requests to the store are signed.
        url_life: How long a granted URL is valid.

    Returns:
        How many objects were deleted.

    Raises:
        ObjectsUnavailable: The store does not answer; what was deleted stays deleted.
    """
    swept, after = 0, ""
    while True:
        listed = await bucket.list_prefix(start_after=after)
        candidates = old_enough(listed, now(), url_life)
        named = await kept(candidates) if candidates else ()
        doomed = [name for name in candidates if name not in named]
        for start in range(0, len(doomed), _BATCH):
            await bucket.delete(doomed[start : start + _BATCH])
        swept += len(doomed)
        if len(listed) < MAX_LISTED:
            return swept
        after = listed[-1].name


async def sweep_parts(
    bucket: Swept,
    kept: Kept,
    now: Callable[[], datetime],
    url_life: timedelta,
) -> int:
    """Abort multipart uploads that nobody goes on with; the arguments are those of `sweep`.

    Returns:
        How many were aborted.

    Raises:
        ObjectsUnavailable: The store does not answer.
    """
    oldest_alive = now() - url_life - MARGIN
    old = [upload for upload in await bucket.open_uploads() if upload.begun_at < oldest_alive]
    named = await kept([upload.object_name for upload in old]) if old else ()
    doomed = [upload for upload in old if upload.object_name not in named]
    for upload in doomed:
        await bucket.drop_parts(upload.object_name, upload.store_id)
    return len(doomed)


async def sweep_bucket(
    bucket: Swept,
    kept: Kept,
    now: Callable[[], datetime],
    url_life: timedelta,
) -> None:
    """Sweep objects and unfinished uploads once; a store that is away is tried another time."""
    try:
        swept = await sweep(bucket, kept, now, url_life)
        aborted = await sweep_parts(bucket, kept, now, url_life)
    except MitosisError as error:
        log.warning("sweeping failed, tried again later: %s", error)
        return
    if swept or aborted:
        log.info(
            "swept %d objects that nothing names, and %d unfinished uploads", swept, aborted,
            extra={"swept": swept, "aborted": aborted},
        )  # fmt: skip
