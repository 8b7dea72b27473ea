"""What a start reads: the newest snapshot that can be trusted, and the events behind it."""

from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from mitosis.contract import subjects
from mitosis.errors import CorruptData
from mitosis.events.envelope import decode_commit, digest
from mitosis.events.messages import StoredMessage, stream_state
from mitosis.events.reader import EventReader
from mitosis.events.snapshots import PREFIX, STREAM, SnapshotStore
from mitosis.events.streams import ensure_stream
from mitosis.nats.credentials import ServiceLogin, inbox_prefix
from mitosis.nats.store_client import StoreClient
from mitosis.services.coordinator import memory
from mitosis.services.coordinator.history import Mark, has_done, read_world, take_in
from mitosis.services.coordinator.world import World
from mitosis.services.platform.embedded_nats import EmbeddedNats
from mitosis.testing.history import Stored, campaign
from mitosis.testing.past import COMMITS_OF_A_TASK, past_tasks, store_past
from mitosis.testing.servers import SERVICE_USER, SYSTEM_USER

COMMITS = campaign(3, 30, live=8).commits
MIDDLE = len(COMMITS) // 2


def folded(commits: Iterable[Stored]) -> World:
    world = World()
    for commit in commits:
        take_in(world, *commit)
    return world


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[StoreClient]:
    """A connection to a server of this test alone, with empty streams."""
    users = {"service_users": (SERVICE_USER,), "system_users": (SYSTEM_USER,)}
    async with EmbeddedNats(tmp_path / "nats", **users) as server:
        client = StoreClient()
        await client.connect(
            server.url, user=SERVICE_USER.name, password=SERVICE_USER.password,
            inbox_prefix=inbox_prefix(ServiceLogin(SERVICE_USER.name, "")).encode(),
        )  # fmt: skip
        await ensure_stream(client)
        await SnapshotStore(client).ensure()
        yield client
        await client.close()


@pytest.fixture
async def nc(empty: StoreClient) -> StoreClient:
    """The same, and the stream holds the campaign."""
    for _, subject, payload in COMMITS:
        await empty.request(subject, payload, timeout=5)
    return empty


async def snapshot(nc: StoreClient, position: int, form: str = "", at: str = "") -> None:
    taken = memory.take(folded(COMMITS[:position]))
    found = digest(*COMMITS[position - 1][1:]) if position else ""
    await SnapshotStore(nc).save(form or memory.form(), position, at or found, memory.frames(taken))


async def read(nc: StoreClient, archived: Mark | None = None) -> int:
    """Read, compare with the fold of everything, and return from which snapshot it was."""
    found = await read_world(EventReader(nc), archived or Mark(), SnapshotStore(nc))
    world, position, start = found
    assert position == len(COMMITS)
    whole = folded(COMMITS)
    assert {k: v for k, v in asdict(world).items() if v} == {
        k: v for k, v in asdict(whole).items() if v
    }
    return start


async def test_the_newest_snapshot_is_where_a_start_begins(nc: StoreClient) -> None:
    assert await read(nc) == 0
    await snapshot(nc, 10)
    await snapshot(nc, MIDDLE)
    assert await read(nc) == MIDDLE
    await snapshot(nc, len(COMMITS))
    assert await read(nc) == len(COMMITS)


class CountingReader(EventReader):
    """Counts what is read of the stream in bulk."""

    count = 0

    async def batches(self, *args: Any, **options: Any) -> AsyncIterator[list[StoredMessage]]:
        async for batch in super().batches(*args, **options):
            self.count += len(batch)
            yield batch


async def test_a_start_reads_what_is_behind_the_snapshot_however_long_the_past_is(
    empty: StoreClient, scaled: Callable[[int, int], int]
) -> None:
    """`python -m bench history` measures how long that takes."""
    tasks, behind = scaled(2_000, 100_000), COMMITS_OF_A_TASK + 1  # the last task, and a farewell
    last = await store_past(empty, tasks)
    assert last == COMMITS_OF_A_TASK * tasks + 2  # the worker has come and gone
    cold = CountingReader(empty)
    whole, _, start = await read_world(cold, Mark(), SnapshotStore(empty))
    assert (start, cold.count) == (0, last)
    assert (len(whole.ended), whole.tasks, whole.numbers) == (tasks, {}, {"root": tasks})
    commits = islice(past_tasks(tasks), last - behind)
    taken = memory.take(folded(commits))
    at = await cold.message(last - behind)
    assert at is not None
    await SnapshotStore(empty).save(
        memory.form(), at.position, digest(at.subject, at.payload), memory.frames(taken)
    )
    warm = CountingReader(empty)
    world, position, start = await read_world(warm, Mark(), SnapshotStore(empty))
    assert (position, start, warm.count) == (last, last - behind, behind)
    assert asdict(world) == asdict(whole)


async def test_a_snapshot_that_cannot_be_trusted_is_passed_over(nc: StoreClient) -> None:
    await snapshot(nc, 10)
    await snapshot(nc, 20, form="another version")
    await snapshot(nc, MIDDLE, at="digest of another stream")
    assert await read(nc) == 10


async def test_a_snapshot_whose_content_is_damaged_is_passed_over(nc: StoreClient) -> None:
    await snapshot(nc, 10)
    await snapshot(nc, MIDDLE)
    newest = (await SnapshotStore(nc).manifests())[0]
    await nc.request(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", b'{"seq":%d}' % newest.first, timeout=5)
    await nc.request(f"{PREFIX}.{MIDDLE}.content", b"x" * newest.size_bytes, timeout=5)
    assert await read(nc) == 10


async def test_a_stream_that_is_shorter_than_its_snapshot_is_read_from_its_own_beginning(
    nc: StoreClient,
) -> None:
    await SnapshotStore(nc).save(
        memory.form(), len(COMMITS) + 5, "digest", memory.frames(memory.take(World()))
    )
    assert await read(nc) == 0


@pytest.mark.parametrize("position", [5, MIDDLE, MIDDLE + 5])
async def test_the_archive_is_compared_also_behind_a_snapshot(
    nc: StoreClient, position: int
) -> None:
    await snapshot(nc, MIDDLE)
    good = Mark(position, digest(*COMMITS[position - 1][1:]))
    assert await read(nc, good) == MIDDLE
    with pytest.raises(CorruptData, match=f"differs from its archive at position {position}"):
        await read(nc, Mark(position, "another"))


async def test_a_stream_shorter_than_its_archive_is_refused(nc: StoreClient) -> None:
    await snapshot(nc, len(COMMITS))
    last = (await stream_state(nc, subjects.EVENTS_STREAM)).last_seq
    with pytest.raises(CorruptData, match="has lost commits"):
        await read(nc, Mark(last + 1, "digest"))


async def test_what_a_command_has_done_is_found_in_its_aggregate(nc: StoreClient) -> None:
    position, subject, payload = next(one for one in COMMITS[MIDDLE:] if ".task." in one[1])
    commit, uuid = decode_commit(subject, payload), subject.rpartition(".")[2]
    wanted = {"tail": f"task.*.{uuid}", "actor": commit.actor, "command": commit.command}
    whole, reader = {"start": 1, "upto": len(COMMITS)}, EventReader(nc)
    assert await has_done(reader, **wanted, **whole)
    for other in (
        {"actor": "user:somebody"}, {"command": "another"}, {"start": position + 1},
        {"upto": position - 1}, {"tail": "task.*.00000000-0000-8000-8000-000000000000"},
    ):  # fmt: skip
        assert not await has_done(reader, **wanted | whole | other)
