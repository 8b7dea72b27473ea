"""Uploads, deletions and given-up uploads of several people at once, in any order of the steps.

Whatever happens, a group is charged for exactly what is stored, never stores more than its quota,
and nothing stays reserved when nothing is open.
"""

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitosis.contract import commands, subjects
from mitosis.domain import group
from mitosis.domain.quotas import QuotaChange
from tests.unit.coordinator.conftest import Coordinator

QUOTA = 100
SHA = "0" * 64

sizes = st.integers(0, QUOTA + 1)
keys = st.sampled_from("abc")
uploads = st.tuples(st.just("upload"), keys, sizes, st.sampled_from(["right", "more", "abort"]))
deletions = st.tuples(st.just("delete"), keys, st.just(0), st.just(""))


class Slow:
    """A bucket whose answers take so many turns of the loop as the dice say."""

    def __init__(self, bucket: Any, dice: random.Random) -> None:
        self._bucket, self._dice = bucket, dice
        self.sizes = bucket.sizes
        self.deleted = bucket.deleted

    def presign_put(self, object_name: str, size_bytes: int | None = None) -> str:
        return f"{object_name}"

    async def size_of(self, object_name: str) -> int | None:
        await pause(self._dice)
        size: int | None = await self._bucket.size_of(object_name)
        await pause(self._dice)
        return size

    async def delete(self, names: Any) -> None:
        await pause(self._dice)
        await self._bucket.delete(names)


async def pause(dice: random.Random) -> None:
    for _ in range(dice.randrange(4)):
        await asyncio.sleep(0)


class Scene:
    def __init__(self, seed: int) -> None:
        self.coordinator = made = Coordinator()
        self.dice = random.Random(seed)  # noqa: S311  no secret
        made.attachments = Slow(made.attachments, self.dice)
        made.start()
        made.add_user("alice")
        unit = made.core.journal.unit("system:test")
        unit.run(subjects.group_tail("alice"), group.ChangeStorageQuota(QuotaChange(QUOTA)))
        unit.close()
        made.store.let_through()

    async def ask(self, handler: Any, body: Any, result: type[Any]) -> Any:
        await pause(self.dice)
        reply = await self.coordinator.ask("alice", handler, body)
        await pause(self.dice)
        self.coordinator.store.let_through()
        answer = self.coordinator.answer(reply, result)
        self.check_bounds()
        return answer.result if answer.error is None else None

    async def step(self, what: str, key: str, size: int, how: str) -> None:
        files = self.coordinator.files
        if what == "delete":
            body: Any = commands.DeleteAttachment(key, "alice")
            await self.ask(files.delete_attachment, body, commands.Done)
            return
        begin = commands.BeginAttachment(key, size, "alice")
        begun = await self.ask(files.begin_attachment, begin, commands.UploadBegun)
        if begun is None:
            return
        real = size + 1 if how == "more" else size
        self.coordinator.attachments.sizes[f"alice/{begun.upload}"] = real
        await pause(self.dice)
        if how == "abort":
            await self.ask(files.abort, commands.AbortUpload(begun.upload), commands.Done)
            return
        body = commands.CompleteAttachment(begun.upload, "alice", key, SHA)
        await self.ask(files.complete_attachment, body, commands.UploadedAttachment)

    def check_bounds(self) -> None:
        assert 0 <= self.coordinator.world.used_bytes.get("alice", 0) <= QUOTA
        assert self.coordinator.core.uploads.reserved_bytes("alice") >= 0

    async def run(self, steps: list[tuple[str, str, int, str]]) -> None:
        await asyncio.gather(*(self.step(*step) for step in steps))
        while self.coordinator.core.background:
            await asyncio.gather(*self.coordinator.core.background)
        files = self.coordinator.world.attachments.values()
        named = {file.object_name: file.size_bytes for file in files if file.object_name}
        assert self.coordinator.attachments.sizes == named  # nothing else is left in the store
        assert self.coordinator.world.used_bytes.get("alice", 0) == sum(named.values())
        assert self.coordinator.core.uploads.reserved_bytes("alice") == 0
        assert self.coordinator.core.uploads.names() == set()
        again = self.coordinator.replayed()
        assert again.used_bytes.get("alice", 0) == sum(named.values())
        assert again.attachments == self.coordinator.world.attachments
        assert again.heads == self.coordinator.world.heads


@pytest.mark.parity("D-077")
@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(uploads, uploads, deletions), max_size=12), st.integers(0, 2**32))
def test_a_group_is_charged_for_what_it_stores_however_uploads_overlap(
    steps: list[tuple[str, str, int, str]], seed: int
) -> None:
    asyncio.run(Scene(seed).run(steps))
