"""Progress, the buffer before the database, and the shared question for the stream's end."""

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence

import pytest

from mitosis.errors import StoreUnavailable
from mitosis.projections.commit import RawCommit
from mitosis.projections.feed import MAX_BATCH_BYTES, MAX_BATCH_COMMITS, MAX_WAITING_COMMITS, Feed
from mitosis.projections.memory import MemoryCommitSource
from mitosis.projections.progress import Progress
from mitosis.services.projector.head import Head


def commits(count: int, payload: bytes = b"x") -> list[RawCommit]:
    return [(number, "s", payload) for number in range(1, count + 1)]


async def test_waiters_are_woken_by_their_position_and_not_before() -> None:
    progress = Progress()
    early, late = (asyncio.create_task(progress.wait_for(p, 10)) for p in (3, 7))
    await asyncio.sleep(0)
    assert progress.is_wanted
    progress.advance(5)
    assert await early
    assert not late.done()
    progress.advance(7)
    assert await late
    assert not progress.is_wanted


async def test_waiting_ends_in_time_and_leaves_nothing_behind() -> None:
    progress = Progress()
    assert not await progress.wait_for(1, 0.01)
    assert not progress.is_wanted
    assert await progress.wait_for(0, 0.0)


async def test_somebody_who_begins_to_wait_is_noticed_at_once() -> None:
    progress = Progress()
    noticed = asyncio.create_task(progress.until_wanted(60))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(progress.wait_for(1, 60))
    await asyncio.wait_for(noticed, 5)
    progress.advance(1)
    assert await waiting


async def test_batches_are_what_is_there_and_bounded() -> None:
    source = MemoryCommitSource(commits(MAX_BATCH_COMMITS + 10), batch=2 * MAX_BATCH_COMMITS)
    async with Feed(source, 1) as feed:
        assert len(await feed.take()) == MAX_BATCH_COMMITS
        assert len(await feed.take()) == 10
        source.append([(MAX_BATCH_COMMITS + 11, "s", b"x")])
        assert [raw[0] for raw in await feed.take()] == [MAX_BATCH_COMMITS + 11]


async def test_large_commits_make_short_batches() -> None:
    large = b"x" * (MAX_BATCH_BYTES // 2)
    async with Feed(MemoryCommitSource(commits(5, large)), 1) as feed:
        assert [len(await feed.take()) for _ in range(3)] == [2, 2, 1]


class CountingSource(MemoryCommitSource):
    given = 0

    async def batches(self, start: int) -> AsyncIterator[Sequence[RawCommit]]:
        async for batch in super().batches(start):
            self.given += len(batch)
            yield batch


async def test_reading_ahead_stops_at_a_bound() -> None:
    source = CountingSource(commits(4 * MAX_WAITING_COMMITS), batch=100)
    async with Feed(source, 1) as feed:
        seen = 0
        while seen < len(source.commits):
            seen += len(await feed.take())
            assert source.given - seen <= MAX_WAITING_COMMITS + 100
    assert seen == len(source.commits)


async def test_behind_what_was_stored_the_stream_is_asked_only_for_a_batch_that_is_wanted() -> None:
    source = CountingSource(commits(3))
    async with Feed(source, 1) as feed:
        assert len(await feed.take()) == 3
        source.append([(4, "s", b"x"), (5, "s", b"x")])
        await _turn()
        assert source.given == 3
        assert len(await feed.take()) == 2


class EndingSource(MemoryCommitSource):
    async def batches(self, start: int) -> AsyncIterator[Sequence[RawCommit]]:
        yield self.commits[start - 1 :]
        raise StoreUnavailable("the server is away")


async def test_what_was_read_before_an_error_is_given_first() -> None:
    async with Feed(EndingSource(commits(3)), 1) as feed:
        assert len(await feed.take()) == 3
        with pytest.raises(StoreUnavailable, match="away"):
            await feed.take()


async def test_questions_are_shared_but_never_older_than_who_asks() -> None:
    answers: list[asyncio.Future[int]] = []

    async def ask() -> int:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    head = Head(ask)
    first = asyncio.create_task(head.position())
    await _turn()
    later = [asyncio.create_task(head.position()) for _ in range(10)]
    await _turn()
    assert len(answers) == 1
    answers[0].set_result(5)
    assert await first == 5
    await _turn()
    assert len(answers) == 2, "the ten share one question, sent after they came"
    answers[1].set_result(6)
    assert await asyncio.gather(*later) == [6] * 10


async def test_a_failed_question_fails_those_who_shared_it_and_nobody_else() -> None:
    outcomes: list[int | Exception] = [StoreUnavailable("away"), 3]

    async def ask() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    head = Head(ask)
    both = await asyncio.gather(head.position(), head.position(), return_exceptions=True)
    assert [type(result) for result in both] == [StoreUnavailable] * 2
    assert await head.position() == 3


async def test_a_question_that_fails_when_nobody_waits_any_more_is_no_error_of_the_program() -> (
    None
):
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    asked, answered = asyncio.Event(), asyncio.Event()

    async def ask() -> int:
        await asked.wait()
        answered.set()
        raise StoreUnavailable("away")

    head = Head(ask)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await head.position()
    asked.set()
    await answered.wait()
    await _turn()
    del head
    gc.collect()
    assert told == []


async def _turn() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)
