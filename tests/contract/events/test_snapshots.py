"""Snapshots on a real server: whole or not there, and only the newest few."""

from collections.abc import AsyncIterator
from uuid import uuid4

import msgspec
import pytest

from mitosis.errors import StoreUnavailable
from mitosis.events.messages import stream_state
from mitosis.events.snapshots import KEPT, MESSAGE_BYTES, SnapshotStore
from mitosis.nats.store_client import StoreClient


@pytest.fixture
async def named(nc: StoreClient) -> tuple[SnapshotStore, str, str]:
    name = f"s{uuid4().hex[:12]}"
    store = SnapshotStore(nc, name.upper(), name)
    await store.ensure()
    return store, name.upper(), name


@pytest.fixture
def store(named: tuple[SnapshotStore, str, str]) -> SnapshotStore:
    return named[0]


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def test_a_snapshot_of_several_messages_comes_back(store: SnapshotStore) -> None:
    large = bytes(range(256)) * (3 * MESSAGE_BYTES // 256)
    saved = await store.save("form", 7, "digest", pieces(b"head", large, b""))
    assert await store.manifests() == [saved]
    assert (saved.position, saved.messages, saved.size_bytes) == (7, 4, len(large) + 4)
    assert await store.load(saved) == b"head" + large


async def test_the_newest_snapshots_are_kept_and_older_ones_dropped(
    named: tuple[SnapshotStore, str, str], nc: StoreClient
) -> None:
    store, stream, _ = named
    for position in range(1, KEPT + 3):
        await store.save("form", position, "digest", pieces(b"content %d" % position))
    found = await store.manifests()
    assert [m.position for m in found] == [5, 4, 3]
    assert [await store.load(m) for m in found] == [b"content 5", b"content 4", b"content 3"]
    assert (await stream_state(nc, stream)).messages == 2 * KEPT


async def test_a_writer_that_dies_in_the_middle_leaves_nothing_that_counts(
    store: SnapshotStore,
) -> None:
    async def dying() -> AsyncIterator[bytes]:
        yield b"half"
        raise StoreUnavailable("the connection is gone")

    with pytest.raises(StoreUnavailable):
        await store.save("form", 3, "digest", dying())
    assert await store.manifests() == []
    again = await store.save("form", 3, "digest", pieces(b"whole"))
    assert await store.load(again) == b"whole"


async def test_content_that_is_not_what_the_manifest_says_is_not_loaded(
    store: SnapshotStore,
) -> None:
    saved = await store.save("form", 3, "digest", pieces(b"content"))
    assert await store.load(msgspec.structs.replace(saved, sha256="0" * 64)) is None
    assert await store.load(msgspec.structs.replace(saved, messages=2, size_bytes=99)) is None


async def test_a_damaged_manifest_is_passed_over(
    named: tuple[SnapshotStore, str, str], nc: StoreClient
) -> None:
    store, _, prefix = named
    saved = await store.save("form", 3, "digest", pieces(b"content"))
    await nc.request(f"{prefix}.9.manifest", b"{", timeout=5)
    assert await store.manifests() == [saved]


async def test_the_stream_is_made_once(named: tuple[SnapshotStore, str, str]) -> None:
    await named[0].ensure()
