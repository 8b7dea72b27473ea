"""What a start reads: the newest snapshot that can be trusted, and the events behind it."""

from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from msgspec.structs import asdict
from nats.aio.client import Client

from mitosis.contract import subjects
from mitosis.errors import CorruptData
from mitosis.events.envelope import digest
from mitosis.events.messages import stream_state
from mitosis.events.reader import EventReader
from mitosis.events.snapshots import PREFIX, STREAM, SnapshotStore
from mitosis.events.streams import ensure_stream
from mitosis.nats.credentials import ServiceLogin, inbox_prefix
from mitosis.services.coordinator import memory
from mitosis.services.coordinator.history import Mark, read_world, take_in
from mitosis.services.coordinator.world import World
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.testing.history import Stored, campaign
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER

COMMITS = campaign(3, 30, live=8).commits
MIDDLE = len(COMMITS) // 2


def folded(commits: list[Stored]) -> World:
    world = World()
    for commit in commits:
        take_in(world, *commit)
    return world


@pytest.fixture
async def nc(tmp_path: Path) -> AsyncIterator[Client]:
    """A connection to a server of this test alone, whose stream holds the campaign."""
    users = {"service_users": (SERVICE_USER,), "system_users": (SYSTEM_USER,)}
    async with EmbeddedNats(tmp_path / "nats", **users) as server:
        client = await nats.connect(
            server.url, user=SERVICE_USER.name, password=SERVICE_USER.password,
            inbox_prefix=inbox_prefix(ServiceLogin(SERVICE_USER.name, "")).encode(),
        )  # fmt: skip
        await ensure_stream(client)
        await SnapshotStore(client).ensure()
        for _, subject, payload in COMMITS:
            await client.request(subject, payload, timeout=5)
        yield client
        await client.close()


async def snapshot(nc: Client, position: int, form: str = "", at: str = "") -> None:
    taken = memory.take(folded(COMMITS[:position]))
    found = digest(*COMMITS[position - 1][1:]) if position else ""
    await SnapshotStore(nc).save(form or memory.form(), position, at or found, memory.frames(taken))


async def read(nc: Client, archived: Mark | None = None) -> int:
    """Read, compare with the fold of everything, and return from which snapshot it was."""
    found = await read_world(EventReader(nc), archived or Mark(), SnapshotStore(nc))
    world, position, start = found
    assert position == len(COMMITS)
    whole = folded(COMMITS)
    assert {k: v for k, v in asdict(world).items() if v} == {
        k: v for k, v in asdict(whole).items() if v
    }
    return start


async def test_the_newest_snapshot_is_where_a_start_begins(nc: Client) -> None:
    assert await read(nc) == 0
    await snapshot(nc, 10)
    await snapshot(nc, MIDDLE)
    assert await read(nc) == MIDDLE
    await snapshot(nc, len(COMMITS))
    assert await read(nc) == len(COMMITS)


async def test_a_snapshot_that_cannot_be_trusted_is_passed_over(nc: Client) -> None:
    await snapshot(nc, 10)
    await snapshot(nc, 20, form="another version")
    await snapshot(nc, MIDDLE, at="digest of another stream")
    assert await read(nc) == 10


async def test_a_snapshot_whose_content_is_damaged_is_passed_over(nc: Client) -> None:
    await snapshot(nc, 10)
    await snapshot(nc, MIDDLE)
    newest = (await SnapshotStore(nc).manifests())[0]
    await nc.request(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", b'{"seq":%d}' % newest.first, timeout=5)
    await nc.request(f"{PREFIX}.{MIDDLE}.content", b"x" * newest.size_bytes, timeout=5)
    assert await read(nc) == 10


async def test_a_stream_that_is_shorter_than_its_snapshot_is_read_from_its_own_beginning(
    nc: Client,
) -> None:
    await SnapshotStore(nc).save(
        memory.form(), len(COMMITS) + 5, "digest", memory.frames(memory.take(World()))
    )
    assert await read(nc) == 0


@pytest.mark.parametrize("position", [5, MIDDLE, MIDDLE + 5])
async def test_the_archive_is_compared_also_behind_a_snapshot(nc: Client, position: int) -> None:
    await snapshot(nc, MIDDLE)
    good = Mark(position, digest(*COMMITS[position - 1][1:]))
    assert await read(nc, good) == MIDDLE
    with pytest.raises(CorruptData, match=f"differs from its archive at position {position}"):
        await read(nc, Mark(position, "another"))


async def test_a_stream_shorter_than_its_archive_is_refused(nc: Client) -> None:
    await snapshot(nc, len(COMMITS))
    last = (await stream_state(nc, subjects.EVENTS_STREAM)).last_seq
    with pytest.raises(CorruptData, match="has lost commits"):
        await read(nc, Mark(last + 1, "digest"))
