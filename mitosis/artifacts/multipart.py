"""Multipart uploads: objects too large for one PUT, sent in parts that are put together at the end.

The store gives each such upload an id of its own, which clients never see as such: they get one
presigned URL a part. Until it is completed there is no object; what is never completed is aborted
by the sweeper.
"""

import re
from datetime import datetime
from html import unescape
from typing import TYPE_CHECKING

import msgspec

from mitosis.errors import InvalidInput, NotFound, ObjectsUnavailable

if TYPE_CHECKING:
    from mitosis.artifacts.s3 import Bucket

# Up to here one PUT is enough; parts of this size make 10,000 parts of 640 GB.
PART_BYTES = 64 << 20
MAX_PARTS = 10_000  # S3
MAX_PART_BYTES = 5 << 30  # S3
MAX_OBJECT_BYTES = 5 << 40  # S3
_MIB = 1 << 20
_MAX_PAGES = 100  # of a listing: 1000 entries each


class OpenUpload(msgspec.Struct, frozen=True):
    """A multipart upload that was neither completed nor aborted."""

    object_name: str
    store_id: str
    begun_at: datetime


class StoredPart(msgspec.Struct, frozen=True):
    """A part that the store has."""

    number: int
    etag: str
    size_bytes: int


def part_size(size_bytes: int) -> int:
    """Return how large the parts of an object are, all but the last; 0: it goes by one PUT."""
    if size_bytes <= PART_BYTES:
        return 0
    return max(PART_BYTES, -(-size_bytes // (MAX_PARTS * _MIB)) * _MIB)


def part_count(size_bytes: int) -> int:
    """Return in how many parts an object is sent; 0: by one PUT."""
    size = part_size(size_bytes)
    return -(-size_bytes // size) if size else 0


def part_length(size_bytes: int, number: int) -> int:
    """Return how many bytes the part of this number (from 1) has.

    Raises:
        InvalidInput: There is no such part.
    """
    count, size = part_count(size_bytes), part_size(size_bytes)
    if not 1 <= number <= count:
        raise InvalidInput(f"there is no part {number}: this upload has parts 1 to {count}")
    return size if number < count else size_bytes - (count - 1) * size


async def begin(bucket: "Bucket", object_name: str) -> str:
    """Begin an upload; return the store's id of it.

    Raises:
        ObjectsUnavailable: The store does not answer, or not in the way of S3.
    """
    answer = await bucket.store.ask("POST", bucket.path(object_name), {"uploads": ""})
    store_id = text_of(answer, "UploadId")
    if not store_id:
        raise ObjectsUnavailable("the S3 store began a multipart upload without an id")
    return store_id


async def complete(bucket: "Bucket", object_name: str, store_id: str, size_bytes: int) -> None:
    """Put the parts together, if all are there and have the sizes that were agreed.

    Repeating is safe: an upload that is completed already is left as it is.

    Raises:
        InvalidInput: Parts are missing or have other sizes.
        ObjectsUnavailable: The store does not answer, or not with success.
    """
    try:
        parts = await stored_parts(bucket, object_name, store_id)
        _check_parts(parts, size_bytes)
        body = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><ETag>{part.etag}</ETag></Part>"
            for part in parts
        )
        document = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
        query = {"uploadId": store_id}
        answer = await bucket.store.ask("POST", bucket.path(object_name), query, document)
    except NotFound:
        if await bucket.size_of(object_name) is None:
            raise InvalidInput("the store does not know this upload any more") from None
        return  # completed before; the answer was lost
    if code := text_of(answer, "Code"):  # S3 may say 200 first and then fail
        raise ObjectsUnavailable(f"the S3 store did not put the parts together: {code}")


def _check_parts(parts: list[StoredPart], size_bytes: int) -> None:
    found = {part.number: part.size_bytes for part in parts}
    wanted = {n: part_length(size_bytes, n) for n in range(1, part_count(size_bytes) + 1)}
    wrong = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
    if wrong:
        raise InvalidInput(
            f"{len(wrong)} of {len(wanted)} parts are missing or have other sizes than agreed, "
            f"the first is part {wrong[0]}: upload them again",
            parts=wrong[:100],
        )


async def stored_parts(bucket: "Bucket", object_name: str, store_id: str) -> list[StoredPart]:
    """Return the parts that the store has, in order.

    Raises:
        NotFound: The upload was completed or aborted, or never was.
    """
    parts: list[StoredPart] = []
    after = "0"
    for _ in range(_MAX_PAGES):
        query = {"uploadId": store_id, "part-number-marker": after}
        page = await bucket.store.ask("GET", bucket.path(object_name), query)
        for item in _elements(page, "Part"):
            etag = text_of(item, "ETag")
            parts.append(
                StoredPart(int(text_of(item, "PartNumber")), etag, int(text_of(item, "Size")))
            )
        marker = text_of(page, "NextPartNumberMarker")
        if text_of(page, "IsTruncated") != "true" or marker in {"", after}:
            break
        after = marker
    return parts


async def abort(bucket: "Bucket", object_name: str, store_id: str) -> None:
    """Drop an upload with the parts that were sent; one that is gone is no error."""
    try:
        await bucket.store.ask("DELETE", bucket.path(object_name), {"uploadId": store_id})
    except NotFound:
        return


async def open_uploads(bucket: "Bucket") -> list[OpenUpload]:
    """Return the uploads of a bucket that are neither completed nor aborted."""
    found: list[OpenUpload] = []
    marker = ("", "")
    for _ in range(_MAX_PAGES):
        query = {"uploads": ""}
        if any(marker):
            query |= {"key-marker": marker[0], "upload-id-marker": marker[1]}
        page = await bucket.store.ask("GET", bucket.path(), query)
        for item in _elements(page, "Upload"):
            begun_at = datetime.fromisoformat(text_of(item, "Initiated"))
            found.append(OpenUpload(text_of(item, "Key"), text_of(item, "UploadId"), begun_at))
        following = (text_of(page, "NextKeyMarker"), text_of(page, "NextUploadIdMarker"))
        if text_of(page, "IsTruncated") != "true" or following in {marker, ("", "")}:
            break
        marker = following
    return found


def text_of(document: bytes, element: str) -> str:
    """Return the text of the first such element of a small XML document; empty: none."""
    found = re.search(rf"<{element}>([^<]*)</{element}>", document.decode(errors="replace"))
    return unescape(found[1]) if found else ""


def _elements(document: bytes, name: str) -> list[bytes]:
    return re.findall(rf"<{name}>(.*?)</{name}>".encode(), document, re.DOTALL)
