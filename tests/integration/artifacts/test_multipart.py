"""Uploads in parts against a real store, and what a store refuses by the signature alone."""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mitosis.artifacts import multipart
from mitosis.artifacts.s3 import S3Store
from mitosis.artifacts.sending import send
from mitosis.artifacts.sweeper import MARGIN, sweep_parts
from mitosis.artifacts.transfer import Transfers
from mitosis.contract.commands import UploadBegun
from mitosis.errors import InvalidInput, NotAllowed, NotFound

MIB = 1 << 20
SIZE = 12 * MIB + 1
SENDER = Transfers(tries=2, first_delay_seconds=0.01)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As large as S3 wants them at least, so that few bytes make several."""
    monkeypatch.setattr(multipart, "PART_BYTES", 5 * MIB)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


async def put_part(store: S3Store, name: str, store_id: str, number: int, source: Path) -> None:
    url = store.attachments.presign_part(name, store_id, number, SIZE)
    offset, length = (number - 1) * 5 * MIB, multipart.part_length(SIZE, number)
    await asyncio.to_thread(SENDER.upload, url, source, offset=offset, length=length)


async def test_a_file_that_was_sent_in_parts_is_one_object(
    store: S3Store, source: Path, tmp_path: Path, prefix: str
) -> None:
    bucket, name = store.attachments, f"{prefix}/u"
    store_id = await bucket.begin_parts(name)
    asked, moved = [], []

    async def urls(first: int) -> list[str]:
        asked.append(first)
        return [bucket.presign_part(name, store_id, n, SIZE) for n in range(first, 4)][:2]

    async def run(piece: object) -> object:
        return await asyncio.to_thread(piece, lambda: False)  # type: ignore[arg-type]

    place = UploadBegun("u", "g", 1.0, parts=3, part_bytes=5 * MIB)
    digest = await send(SENDER, place, source, SIZE, urls, run, moved.append)  # type: ignore[arg-type]
    assert await bucket.size_of(name) is None  # not before it is completed
    await bucket.join_parts(name, store_id, SIZE)
    await bucket.join_parts(name, store_id, SIZE)  # the first answer may have been lost
    assert await bucket.size_of(name) == SIZE
    assert (asked, sum(moved)) == ([1, 3], SIZE)
    assert digest.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest()
    back = tmp_path / "back"
    url = bucket.presign_get(name)
    await asyncio.to_thread(SENDER.download, url, back, sha256=digest.hexdigest(), size_bytes=SIZE)
    assert back.read_bytes() == source.read_bytes()
    with pytest.raises(NotFound):  # its URLs are of no use any more
        await put_part(store, name, store_id, 1, source)
    assert await bucket.size_of(name) == SIZE


async def test_parts_that_are_missing_are_named_and_make_no_object(
    store: S3Store, source: Path, prefix: str
) -> None:
    bucket, name = store.attachments, f"{prefix}/u"
    store_id = await bucket.begin_parts(name)
    await put_part(store, name, store_id, 1, source)
    with pytest.raises(InvalidInput, match="2 of 3 parts") as caught:
        await bucket.join_parts(name, store_id, SIZE)
    assert caught.value.details["parts"] == [2, 3]
    assert await bucket.size_of(name) is None
    for _ in range(2):
        await bucket.drop_parts(name, store_id)
    with pytest.raises(InvalidInput):
        await bucket.join_parts(name, store_id, SIZE)


async def test_a_url_is_good_for_the_declared_size_only(
    store: S3Store, source: Path, prefix: str
) -> None:
    """The store itself refuses more: nobody can fill it by a URL that was granted for less."""
    bucket = store.attachments
    for length in (SIZE - 1, SIZE + 1, 0):
        url = bucket.presign_put(f"{prefix}/one", length)
        with pytest.raises(NotAllowed, match="for another size"):
            await asyncio.to_thread(SENDER.upload, url, source)
    assert await bucket.size_of(f"{prefix}/one") is None
    name = f"{prefix}/parts"
    store_id = await bucket.begin_parts(name)
    url = bucket.presign_part(name, store_id, 1, SIZE)
    with pytest.raises(NotAllowed):
        await asyncio.to_thread(SENDER.upload, url, source)
    await bucket.drop_parts(name, store_id)


async def test_uploads_that_nobody_goes_on_with_are_aborted(store: S3Store, prefix: str) -> None:
    bucket = store.attachments
    names = [f"{prefix}/{number}" for number in range(3)]
    ids = [await bucket.begin_parts(name) for name in names]
    mine = dict(zip(names, ids, strict=True))

    async def open_now() -> set[str]:
        found = await bucket.open_uploads()
        assert {o.object_name: o.store_id for o in found if o.object_name in mine}.items() <= (
            mine.items()
        )
        return {o.object_name for o in found} & set(names)

    assert await open_now() == set(names)
    everybody_elses = {o.object_name for o in await bucket.open_uploads()} - set(names)

    async def kept(_: Sequence[str]) -> set[str]:
        return {names[0]} | everybody_elses

    life = timedelta(hours=1)
    now = datetime.now(UTC)
    assert await sweep_parts(bucket, kept, lambda: now, life) == 0
    later = now + life + MARGIN + timedelta(seconds=5)
    assert await sweep_parts(bucket, kept, lambda: later, life) == 2
    assert await open_now() == {names[0]}
    await bucket.drop_parts(names[0], ids[0])
