"""Uploads and deletions of users, as the coordinator decides them."""

import asyncio
from typing import Any

import pytest

from mitosis.contract import commands, subjects
from mitosis.domain.roles import Role
from mitosis.domain.task import ArtifactKind
from mitosis.services.coordinator.storage import NamedAttachments
from mitosis.services.coordinator.uploads import GRANT_SECONDS, URLS_AT_ONCE

SHA = "0" * 64
GIB = 1 << 30


async def asked(coordinator: Any, owner: str, handler: Any, body: Any, result: type[Any]) -> Any:
    """Ask, let everything be stored; return the result, or the code of the error."""
    reply = await coordinator.ask(owner, handler, body)
    coordinator.store.let_through()
    for background in list(coordinator.core.background):
        await background
    answer = coordinator.answer(reply, result)
    return answer.error.code if answer.error else answer.result


async def begin(coordinator: Any, size: int, key: str = "k", owner: str = "alice") -> Any:
    body = commands.BeginAttachment(key, size, "alice")
    handler = coordinator.files.begin_attachment
    return await asked(coordinator, owner, handler, body, commands.UploadBegun)


async def complete(coordinator: Any, begun: Any, key: str = "k", owner: str = "alice") -> Any:
    body = commands.CompleteAttachment(begun.upload, "alice", key, SHA)
    handler = coordinator.files.complete_attachment
    return await asked(coordinator, owner, handler, body, commands.UploadedAttachment)


async def upload(coordinator: Any, size: int, key: str = "k") -> Any:
    begun = await begin(coordinator, size, key)
    if isinstance(begun, str):
        return begun
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = size
    return await complete(coordinator, begun, key)


async def delete(coordinator: Any, key: str = "k", owner: str = "alice") -> Any:
    body = commands.DeleteAttachment(key, "alice")
    return await asked(coordinator, owner, coordinator.files.delete_attachment, body, commands.Done)


def used(coordinator: Any) -> int:
    value: int = coordinator.world.used_bytes.get("alice", 0)
    assert coordinator.replayed().used_bytes.get("alice", 0) == value
    return value


@pytest.mark.parity("D-078")
async def test_an_upload_reserves_when_it_begins_and_is_charged_when_it_is_complete(coordinator):
    begun = await begin(coordinator, 10)
    assert begun.url == f"put:alice/{begun.upload}:10"
    assert (used(coordinator), coordinator.core.uploads.reserved_bytes("alice")) == (0, 10)
    before = len(coordinator.store.stored)
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = 10
    done = await complete(coordinator, begun)
    assert (done.size_bytes, done.replaced) == (10, False)
    assert len(coordinator.store.stored) == before + 1
    assert coordinator.store.topics()[-1] == ["attachment.stored"]
    assert (used(coordinator), coordinator.core.uploads.reserved_bytes("alice")) == (10, 0)


@pytest.mark.parity("D-079", "D-080")
async def test_overwriting_counts_the_real_size_and_removes_the_old_object_after_the_event(
    coordinator,
):
    await upload(coordinator, 10)
    (old,) = coordinator.attachments.sizes
    begun = await begin(coordinator, 4)
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = 4
    body = commands.CompleteAttachment(begun.upload, "alice", "k", SHA)
    await coordinator.ask("alice", coordinator.files.complete_attachment, body)
    for background in list(coordinator.core.background):
        await background
    assert coordinator.attachments.deleted == []  # not stored yet
    coordinator.store.let_through()
    for background in list(coordinator.core.background):
        await background
    assert coordinator.attachments.deleted == [old]
    assert used(coordinator) == 4


async def test_what_is_not_as_it_was_declared_is_refused_and_removed_without_a_trace(coordinator):
    before = len(coordinator.store.stored)
    for real in (11, 9):
        begun = await begin(coordinator, 10)
        coordinator.attachments.sizes[f"alice/{begun.upload}"] = real
        assert await complete(coordinator, begun) == "invalid"
        assert coordinator.attachments.deleted[-1] == f"alice/{begun.upload}"
    begun = await begin(coordinator, 10)
    assert await complete(coordinator, begun) == "invalid"  # nothing was sent
    assert coordinator.core.uploads.reserved_bytes("alice") == used(coordinator) == 0
    assert len(coordinator.store.stored) == before


@pytest.mark.parity("D-075", "D-076")
@pytest.mark.parametrize("size", [-1, 2**63, 2**200, 6 << 40])
async def test_a_size_that_cannot_be_is_refused(coordinator, size):
    assert await begin(coordinator, size) in {"invalid", "limit_reached"}
    assert coordinator.core.uploads.reserved_bytes("alice") == 0


async def test_open_uploads_count_against_the_quota_until_they_are_over(coordinator):
    quota = coordinator.world.groups["alice"].storage_quota_bytes
    first = await begin(coordinator, quota - 10, "a")
    assert await begin(coordinator, 11, "b") == "limit_reached"
    second = await begin(coordinator, 10, "b")
    handler = coordinator.files.abort
    body = commands.AbortUpload(second.upload)
    assert (await asked(coordinator, "alice", handler, body, commands.Done)).changed
    assert coordinator.attachments.deleted == [f"alice/{second.upload}"]
    third = await begin(coordinator, 10, "b")
    coordinator.clock.seconds += GRANT_SECONDS + 1
    assert coordinator.core.uploads.reserved_bytes("alice") == 0
    for lost in (first, third):
        assert await complete(coordinator, lost) == "not_found"


async def test_overwriting_needs_only_the_difference_and_the_order_of_completion_is_free(
    coordinator,
):
    coordinator.world.used_bytes["alice"] = 0
    quota = coordinator.world.groups["alice"].storage_quota_bytes
    assert (await upload(coordinator, quota // 2, "large")).size_bytes
    assert (await upload(coordinator, quota // 10, "small")).size_bytes
    grown = await begin(coordinator, quota // 2, "small")
    shrunk = await begin(coordinator, quota * 4 // 10, "large")
    assert not isinstance(shrunk, str)
    for begun, key, size in ((grown, "small", quota // 2), (shrunk, "large", quota * 4 // 10)):
        coordinator.attachments.sizes[f"alice/{begun.upload}"] = size
        assert (await complete(coordinator, begun, key)).replaced
    assert used(coordinator) <= quota


async def test_a_large_file_is_sent_in_parts_whose_urls_prolong_the_reservation(coordinator):
    begun = await begin(coordinator, 5 * GIB + 1)
    name = f"alice/{begun.upload}"
    assert (begun.url, begun.parts, begun.part_bytes) == ("", 81, 64 << 20)
    coordinator.clock.seconds += GRANT_SECONDS - 1

    async def parts(first: int) -> Any:
        body = commands.GetParts(begun.upload, first)
        return await asked(coordinator, "alice", coordinator.files.parts, body, commands.PartUrls)

    urls = (await parts(1)).urls
    assert len(urls) == URLS_AT_ONCE
    assert urls[0] == f"part:{name}:store-id-0:1:{64 << 20}"
    assert (await parts(81)).urls == [f"part:{name}:store-id-0:81:1"]
    assert [await parts(0), await parts(82)] == ["invalid", "invalid"]
    coordinator.clock.seconds += GRANT_SECONDS - 1
    assert (await complete(coordinator, begun)).size_bytes == 5 * GIB + 1
    assert coordinator.attachments.open == {}


async def test_an_aborted_upload_in_parts_is_dropped_at_the_store(coordinator):
    begun = await begin(coordinator, GIB)
    assert coordinator.attachments.open
    body = commands.AbortUpload(begun.upload)
    await asked(coordinator, "alice", coordinator.files.abort, body, commands.Done)
    assert coordinator.attachments.open == {}


async def test_only_writers_upload_and_delete_and_nobody_touches_anothers_upload(coordinator):
    begun = await begin(coordinator, 10)
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = 10
    coordinator.add_user("eve")
    assert await begin(coordinator, 10, owner="eve") == "not_allowed"
    assert await complete(coordinator, begun, owner="eve") == "not_allowed"
    assert await complete(coordinator, begun, owner="root") == "not_allowed"
    for handler, body in (
        (coordinator.files.parts, commands.GetParts(begun.upload, 1)),
        (coordinator.files.abort, commands.AbortUpload(begun.upload)),
    ):
        answer = await asked(coordinator, "eve", handler, body, commands.Done)
        assert answer == "not_found" or not answer.changed
    assert (await complete(coordinator, begun)).size_bytes == 10
    assert await delete(coordinator, owner="eve") == "not_allowed"
    assert (await delete(coordinator, owner="root")).changed  # a platform administrator
    assert await delete(coordinator) == "not_found"
    assert used(coordinator) == 0


async def test_a_repeated_completion_is_answered_and_has_no_second_effect(coordinator):
    begun = await begin(coordinator, 10)
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = 10
    both = await asyncio.gather(complete(coordinator, begun), complete(coordinator, begun))
    assert {done.size_bytes for done in both} == {10}
    assert coordinator.store.topics().count(["attachment.stored"]) == 1
    coordinator.world = coordinator.replayed()
    coordinator.start()  # a new term, which knows no open upload
    assert (await complete(coordinator, begun)).size_bytes == 10
    assert coordinator.store.topics().count(["attachment.stored"]) == 1
    assert coordinator.attachments.deleted == []


async def test_a_completion_is_answered_again_to_who_may_upload_no_more(coordinator):
    coordinator.add_user("bob")
    for role in (Role.WRITE, Role.READ):
        change = commands.ChangeMembers("alice", {"bob": role})
        handler = coordinator.groups.change_members
        assert (await asked(coordinator, "alice", handler, change, commands.Done)).changed
        if role is Role.WRITE:
            begun = await begin(coordinator, 10, owner="bob")
            coordinator.attachments.sizes[f"alice/{begun.upload}"] = 10
            assert (await complete(coordinator, begun, owner="bob")).size_bytes == 10
    assert (await complete(coordinator, begun, owner="bob")).size_bytes == 10
    assert await begin(coordinator, 10, owner="bob") == "not_allowed"


async def test_an_upload_that_a_new_term_does_not_know_is_named_by_nobody(coordinator):
    begun = await begin(coordinator, 10)
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = 10
    coordinator.start()
    assert await complete(coordinator, begun) == "not_found"
    assert coordinator.world.attachments == {}
    assert coordinator.core.uploads.reserved_bytes("alice") == 0


async def test_a_file_may_be_stored_again_under_the_key_of_a_deleted_one(coordinator):
    await upload(coordinator, 10)
    await delete(coordinator)
    assert coordinator.world.attachments == {}  # nor is its history kept in memory
    assert subjects.attachment_tail("alice", "k") not in coordinator.world.heads
    assert (await upload(coordinator, 5)).replaced is False
    assert used(coordinator) == 5
    versions = [
        commit.version
        for subject, commit in coordinator.store.commits()
        if ".attachment." in subject
    ]
    assert versions == [1, 2, 3]


async def test_the_sweeper_keeps_attachments_that_are_named_or_promised(coordinator):
    await upload(coordinator, 10, "kept")
    await upload(coordinator, 10, "gone")
    await delete(coordinator, "gone")
    promised = await begin(coordinator, 10, "on its way")
    named = coordinator.world.attachments[subjects.attachment_tail("alice", "kept")[11:]]
    objects = [named.object_name, f"alice/{promised.upload}", "alice/stray"]
    kept = await NamedAttachments(coordinator.core)(objects)
    assert set(kept) == set(objects[:2])


async def test_a_user_may_store_replace_and_delete_an_output_of_a_task_that_has_ended(coordinator):
    worker = await coordinator.register()
    task = await coordinator.submit()
    await coordinator.report(worker, coordinator.ended(task))
    assert task not in coordinator.world.tasks
    files = coordinator.files

    async def store(size: int) -> Any:
        body = commands.BeginArtifact(task, ArtifactKind.RESULT, size)
        begun = await asked(coordinator, "alice", files.begin_artifact, body, commands.UploadBegun)
        name = f"{task}/0/{begun.upload}/result.tar.gz"
        coordinator.objects.sizes[name] = size
        wanted = commands.CompleteArtifact(begun.upload, task, ArtifactKind.RESULT, SHA)
        return await asked(
            coordinator, "alice", files.complete_artifact, wanted, commands.UploadedArtifact
        )

    assert (await store(10)).replaced is False
    assert (await store(3)).replaced is True
    assert used(coordinator) == 3
    assert len(coordinator.objects.sizes) == 1
    body = commands.DeleteArtifact(task, ArtifactKind.RESULT)
    assert (await asked(coordinator, "alice", files.delete_artifact, body, commands.Done)).changed
    again = await asked(coordinator, "alice", files.delete_artifact, body, commands.Done)
    assert again == "not_found"
    assert (used(coordinator), coordinator.objects.sizes) == (0, {})
    assert task not in coordinator.world.tasks
    assert coordinator.replayed().heads.keys() == coordinator.world.heads.keys()


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "./a", "a/../b", "a\0b", "a\nb", "x" * 1018, "\ud800"]
)
async def test_a_key_that_cannot_be_is_refused(coordinator, key):
    answer = await begin(coordinator, 1, key)
    assert answer.startswith("invalid")
    assert coordinator.core.uploads.reserved_bytes("alice") == 0


async def test_no_more_uploads_are_open_than_one_may_have(coordinator, monkeypatch):
    monkeypatch.setattr("mitosis.services.coordinator.uploads.MAX_GRANTS_OF_ONE", 3)
    for number in range(3):
        assert not isinstance(await begin(coordinator, 1, f"k{number}"), str)
    assert await begin(coordinator, 1, "more") == "limit_reached"


async def test_a_completed_upload_cannot_be_completed_with_another_checksum(coordinator):
    begun = await begin(coordinator, 10)
    coordinator.attachments.sizes[f"alice/{begun.upload}"] = 10
    await complete(coordinator, begun)
    stored = len(coordinator.store.stored)
    body = commands.CompleteAttachment(begun.upload, "alice", "k", "1" * 64)
    handler = coordinator.files.complete_attachment
    code = await asked(coordinator, "alice", handler, body, commands.UploadedAttachment)
    assert code == "conflict.exists"
    assert len(coordinator.store.stored) == stored


async def test_a_refusal_names_an_upload_on_one_line_whatever_was_sent(coordinator):
    body = commands.GetParts("a\0b\r\nc", 1)
    reply = await coordinator.ask("alice", coordinator.files.parts, body)
    coordinator.store.let_through()
    assert coordinator.answer(reply).error.message.isprintable()
