"""Removing objects that no event names (design, Files).

An upload that was granted and never completed leaves bytes behind. An object is swept when nobody
names it, nobody holds a reservation for it, and it is older than any URL that could still be
completing it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

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


def old_enough(listed: Iterable[StoredObject], now: datetime, url_life: timedelta) -> list[str]:
    """Say which objects are old enough to be deleted, unless somebody names them.

    Args:
        listed: What the store holds.
        now: The coordinator's clock.
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
        now: The coordinator's clock.
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


async def sweep_for_ever(
    bucket: Swept,
    kept: Kept,
    now: Callable[[], datetime],
    url_life: timedelta,
    every: timedelta,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Sweep a bucket every now and then until cancelled; a store that is away is tried later."""
    while True:
        try:
            swept = await sweep(bucket, kept, now, url_life)
        except MitosisError as error:
            log.warning("sweeping failed, tried again later: %s", error)
        else:
            if swept:
                log.info("swept %d objects that nothing names", swept, extra={"swept": swept})
        await pause(every.total_seconds())
