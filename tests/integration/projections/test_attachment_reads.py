"""Reads of attachments: literal filters, one order, and pages that fit together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitosis.contract import subjects
from mitosis.contract.queries import AttachmentView, GetAttachment, ListAttachments
from mitosis.domain import attachment, group
from mitosis.domain.roles import Role
from mitosis.errors import InvalidInput, NotAllowed, NotFound, TooLarge
from mitosis.projections.attachment_reads import behind
from mitosis.projections.pool import ReadPool
from mitosis.projections.queries import Queries
from mitosis.services.projector.decoding import decode
from mitosis.testing.history import History
from mitosis.testing.views import project

ODD = [
    "100%",
    "100x",
    "a_b",
    "aXb",
    "a\\b",
    "run 1+2.pcap",
    "a#b?c&d=e",
    "(x)",
    "k:v",
    "é",
    "Z",
    "😀",
]
MANY = [f"many/{number:04}/{'x' * 900}" for number in range(1200)]


class Files(NamedTuple):
    queries: Queries

    async def keys(self, user: str = "bob", **wanted: object) -> list[str]:
        page = await self.queries.list_attachments(user, ListAttachments("lab", **wanted))  # type: ignore[arg-type]
        return [view.key for view in page.attachments]


@pytest.fixture(scope="module")
def filled(make_database: Callable[[], str]) -> str:
    history = History()
    history.add_user("root", admin=True)
    for name in ("alice", "bob", "eve"):
        history.add_user(name)
    history.decide(subjects.group_tail("lab"), group.CreateGroup("lab", "alice"))
    history.decide(subjects.group_tail("big"), group.CreateGroup("big", "alice"))
    history.add_member("lab", "bob", Role.READ)
    for size, key in enumerate(ODD):
        history.store_attachment("lab", key, size)
    history.store_attachment("lab", "gone", 1)
    history.decide(subjects.attachment_tail("lab", "gone"), attachment.DeleteAttachment())
    history.store_attachment("lab", "Z", 7)
    for key in MANY:
        history.store_attachment("big", key, 1)
    url = make_database()
    asyncio.run(project(url, history))
    return url


@pytest.fixture
async def files(filled: str) -> AsyncIterator[Files]:
    pool = ReadPool(filled)
    yield Files(Queries(pool, decode))
    await pool.close()


async def test_files_are_listed_in_the_order_of_the_bytes_of_their_keys(files: Files) -> None:
    assert await files.keys() == sorted(ODD, key=str.encode)
    page = await files.queries.list_attachments("bob", ListAttachments("lab", limit=1, offset=1))
    assert (page.total, page.next) == (len(ODD), page.attachments[0].key)


@pytest.mark.parity("D-082")
async def test_filters_are_taken_literally(files: Files) -> None:
    assert await files.keys(prefix="100%") == ["100%"]
    assert await files.keys(prefix="a_") == ["a_b"]
    assert await files.keys(contains="_") == ["a_b"]
    assert await files.keys(contains="%") == ["100%"]
    assert await files.keys(contains="\\") == ["a\\b"]
    assert await files.keys(prefix="a", contains="b") == ["a#b?c&d=e", "aXb", "a\\b", "a_b"]
    assert await files.keys(prefix="'; DROP") == []


async def test_a_file_is_shown_with_the_size_of_its_last_version(files: Files) -> None:
    row = await files.queries.get_attachment("bob", GetAttachment("Z", "lab"))
    assert (row.size_bytes, row.key, row.group_name) == (7, "Z", "lab")
    assert row.created_at < row.updated_at
    for gone in ("gone", "z"):
        with pytest.raises(NotFound, match="has no attachment"):
            await files.queries.get_attachment("bob", GetAttachment(gone, "lab"))


async def test_files_are_seen_with_a_role_in_the_group_only(files: Files) -> None:
    for user, seen in (("alice", True), ("root", True), ("eve", False)):
        if seen:
            assert await files.keys(user)
            continue
        with pytest.raises(NotAllowed):
            await files.keys(user)
        with pytest.raises(NotAllowed):
            await files.queries.get_attachment(user, GetAttachment("Z", "lab"))
    with pytest.raises(NotFound):
        await files.queries.list_attachments("eve", ListAttachments("no-such-group"))


async def test_a_page_that_would_not_fit_into_one_message_ends_earlier_and_says_how_to_go_on(
    files: Files,
) -> None:
    found: list[AttachmentView] = []
    after: str | None = ""
    pages = 0
    while after is not None:
        wanted = ListAttachments("big", after=after, limit=10_000)
        page = await files.queries.list_attachments("alice", wanted)
        found += page.attachments
        after, pages = page.next, pages + 1
    assert [view.key for view in found] == MANY
    assert pages == 2
    last = await files.queries.list_attachments("alice", ListAttachments("big", limit=1200))
    assert last.next == last.attachments[-1].key


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (ListAttachments("lab", limit=0), InvalidInput),
        (ListAttachments("lab", offset=-1), InvalidInput),
        (ListAttachments("no group"), InvalidInput),
        (ListAttachments("lab", prefix="\0"), InvalidInput),
        (ListAttachments("lab", contains="x" * 2000), TooLarge),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    files: Files, wanted: ListAttachments, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await files.queries.list_attachments("bob", wanted)


@given(st.text(min_size=1), st.text())
def test_what_begins_with_a_prefix_lies_between_it_and_what_is_behind_it(
    prefix: str, more: str
) -> None:
    text = prefix + more
    end = behind(prefix)
    assert prefix.encode() <= text.encode()
    assert not end or text.encode() < end.encode()


@given(st.text(min_size=1), st.text())
def test_nothing_else_lies_there(prefix: str, text: str) -> None:
    end = behind(prefix)
    if end and prefix.encode() <= text.encode() < end.encode():
        assert text.startswith(prefix)
