"""What a follower makes of pieces that come once, twice, late or not at all."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from mitosis.client.output_source import FollowEvent, NoticeKind, OutputChunk, OutputNotice, Source
from mitosis.client.stored_output import last_lines
from mitosis.contract.output import (
    MAX_BACKLOG_BYTES,
    WINDOW_BYTES,
    FollowTask,
    OutputMessage,
    OutputPiece,
    OutputReached,
    check_follow,
)
from mitosis.contract.queries import AttemptEnd, FormerAttempt, TaskView
from mitosis.contract.wire import encode
from mitosis.domain.task import Exit, ExitKind, TaskSpec, TaskState
from mitosis.errors import InvalidInput

TASK = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
AT = datetime(2026, 1, 2, tzinfo=UTC)
WAITING = TaskView(
    uuid=TASK, number=1, group="lab", creator="ann", state=TaskState.READY, outcome=None, reason="",
    spec=TaskSpec(("true",)), labels=(), attempt=0, losses=0, worker=None, created_at=AT,
    updated_at=AT, started_at=None, ended_at=None, cancel_requested=False, steps=[], exit=None,
    artifacts=[], warnings=[],
)  # fmt: skip
RUNNING = replace(WAITING, state=TaskState.RUNNING, attempt=1, worker="w")
ENDED = replace(RUNNING, state=TaskState.FINISHED)
FAILED = FormerAttempt(1, "w", AttemptEnd.FAILED, "exit code 4", ExitKind.CODE, 4, AT, AT)
RETRIED = replace(
    RUNNING, state=TaskState.PENDING, worker=None, exit=Exit(ExitKind.CODE, 4),
    former_attempts=[FAILED],
)  # fmt: skip


class Bench:
    """A source, with the time and the worker played by the test."""

    def __init__(self, *views: TaskView, tail_lines: int | None = None) -> None:
        self.now, self.news = 100.0, 0
        self.source = Source(TASK, ("stdout", "stderr"), tail_lines, self._count, lambda: self.now)
        for view in views:
            self.source.look(view)

    def _count(self) -> None:
        self.news += 1

    def ask(self) -> FollowTask:
        assert self.source.due_in() == 0.0
        self.question = self.source.question()
        return self.question

    @property
    def follower(self) -> str:
        return f"ann:{self.question.token}"

    def piece(self, offset: int, data: bytes, worker: str = "w", **more: Any) -> None:
        given = {"follower": self.follower, "attempt": self.question.attempt, "stream": "stdout"}
        self.hear(worker, OutputPiece(**{**given, "offset": offset, "data": data, **more}))

    def reached(self, stdout: int | None = None, **more: Any) -> None:
        self.hear("w", OutputReached(self.follower, self.question.attempt, stdout, **more))

    def hear(self, worker: str, message: OutputMessage) -> None:
        self.source.hear(worker, encode(message))

    def taken(self) -> list[OutputChunk]:
        return [event for event in self._taken() if isinstance(event, OutputChunk)]

    def notices(self) -> list[OutputNotice]:
        return [event for event in self._taken() if isinstance(event, OutputNotice)]

    def _taken(self) -> list[FollowEvent]:
        found = []
        while (event := self.source.take()) is not None:
            found.append(event)
        return found

    def text(self) -> bytes:
        return b"".join(chunk.data for chunk in self.taken())


def test_a_task_that_waits_is_asked_about_when_it_runs() -> None:
    bench = Bench(WAITING)
    assert bench.source.due_in() is None
    bench.source.look(RUNNING)
    asked = bench.ask()
    assert (asked.attempt, asked.stdout, asked.stderr, asked.again) == (1, 0, 0, False)
    kinds = [bench.source.take(), bench.source.take()]
    assert [k.kind for k in kinds if isinstance(k, OutputNotice)] == ["waits", "begun"]


def test_what_comes_twice_or_overlaps_is_shown_once() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    for offset, data in ((0, b"abc"), (0, b"abc"), (2, b"cde"), (5, b"f")):
        bench.piece(offset, data)
    assert bench.text() == b"abcdef"
    assert bench.source.due_in() != 0.0


def test_a_gap_is_asked_for_once_again_from_where_it_is() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    bench.piece(0, b"abc")
    assert bench.text() == b"abc"
    bench.piece(10, b"later")
    asked = bench.ask()
    assert (asked.again, asked.stdout) == (True, 3)
    bench.piece(15, b"was on its way")
    assert bench.source.due_in() != 0.0
    bench.reached(3)
    bench.piece(3, b"defghij")
    assert bench.text() == b"defghij"


def test_what_was_lost_at_the_end_of_a_burst_is_noticed_by_the_next_answer() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    bench.piece(0, b"abc")
    bench.reached(9)
    assert bench.ask().again
    bench.reached(3)
    assert bench.source.due_in() != 0.0


def test_what_nobody_kept_is_no_gap_and_is_counted() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    bench.piece(0, b"abc")
    bench.piece(10, b"xyz", skipped_bytes=7)
    bench.piece(8, b"--xyz123", skipped_bytes=8)
    told = [(chunk.offset, chunk.data, chunk.skipped_bytes) for chunk in bench.taken()]
    assert told == [(0, b"abc", 0), (10, b"xyz", 7), (13, b"123", 0)]


def test_nothing_of_other_followers_workers_attempts_and_streams_is_shown() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    bench.piece(0, b"x", follower="ann:another")
    bench.piece(0, b"x", worker="another")
    bench.piece(0, b"x", attempt=2)
    bench.piece(0, b"x", stream="stdin")
    bench.hear("w", OutputReached("ann:another", 1, over=True))
    bench.source.hear("another", b"no message")
    assert bench.text() == b""
    assert not bench.source.over


def test_a_new_attempt_begins_at_its_start_when_the_old_one_was_shown_to_its_end() -> None:
    bench = Bench(RUNNING, tail_lines=1)
    assert bench.ask().stdout == -(MAX_BACKLOG_BYTES + 1)
    bench.piece(7, b"one\ntwo\n", backlog=True)
    bench.piece(15, b"three\nfour\n")
    assert bench.text() == b"two\nthree\nfour\n"
    bench.source.look(replace(RUNNING, attempt=2, former_attempts=[FAILED]))
    old = bench.follower
    bench.piece(26, b"late\n")
    assert bench.text() == b"late\n"
    assert not bench.source.complete, "its worker may have more of it"
    bench.reached(31, over=True)
    assert bench.source.complete
    assert bench.source.settle() is None
    (ended, begun) = bench.notices()
    assert (ended.kind, ended.former, ended.unseen) == (NoticeKind.ATTEMPT_ENDED, FAILED, False)
    assert (begun.kind, begun.view.attempt) == (NoticeKind.BEGUN, 2)
    bench.piece(31, b"too late\n")
    assert bench.ask().stdout == 0
    assert bench.follower != old
    bench.piece(0, b"again\nlast\n")
    assert bench.text() == b"again\nlast\n"


def test_only_who_was_there_before_the_start_sees_more_than_the_tail() -> None:
    assert Bench(RUNNING, tail_lines=0).ask().stdout == -1
    assert Bench(WAITING, RUNNING, tail_lines=0).ask().stdout == 0
    assert Bench(ENDED, tail_lines=0).source.missing() == (ENDED, {"stdout": -1, "stderr": -1})


def test_an_attempt_that_failed_between_two_looks_is_shown_from_where_it_is_stored() -> None:
    bench = Bench(WAITING, RETRIED)
    assert bench.source.complete
    assert bench.source.missing() == (RETRIED, {"stdout": 0, "stderr": 0})
    bench.source.look(replace(RUNNING, attempt=2, former_attempts=[FAILED]))
    assert bench.source.missing() == (RETRIED, {"stdout": 0, "stderr": 0}), "it is being read"
    assert bench.source.settle() is None
    kinds = [(one.kind, one.former, one.unseen) for one in bench.notices()]
    assert kinds == [
        (NoticeKind.WAITS, None, False),
        (NoticeKind.ATTEMPT_ENDED, FAILED, False),
        (NoticeKind.BEGUN, None, False),
    ]
    assert bench.ask().attempt == 2


def test_attempts_that_came_and_went_unseen_are_told_and_older_ones_are_not() -> None:
    second, third = replace(FAILED, attempt=2), replace(FAILED, attempt=3)
    bench = Bench(replace(RUNNING, attempt=2, former_attempts=[FAILED]))
    bench.ask()
    bench.reached(0, over=True)
    last = replace(ENDED, attempt=4, former_attempts=[FAILED, second, third])
    bench.source.look(last)
    assert bench.source.settle() is None
    told = [(one.former.attempt, one.unseen) for one in bench.notices() if one.former]
    assert told == [(2, False), (3, True)]
    assert bench.source.missing() == (last, {"stdout": 0, "stderr": 0})
    assert bench.source.settle() is last


def test_of_a_task_that_waits_after_a_failure_only_that_one_is_shown() -> None:
    bench = Bench(replace(RETRIED, attempt=2, former_attempts=[FAILED, replace(FAILED, attempt=2)]))
    assert bench.source.complete
    assert bench.source.settle() is None
    assert [one.former and one.former.attempt for one in bench.notices()] == [2]
    assert not bench.source.complete
    assert bench.source.due_in() is None
    lost = Bench(replace(WAITING, attempt=1))
    assert not lost.source.complete, "nothing is kept of one that was lost"
    assert [one.kind for one in lost.notices()] == [NoticeKind.WAITS]


def test_a_cancel_while_it_waits_to_run_again_is_the_end_and_shows_nothing_twice() -> None:
    bench = Bench(WAITING, RETRIED)
    bench.source.settle()
    cancelled = replace(RETRIED, state=TaskState.CANCELLED)
    bench.source.look(cancelled)
    assert bench.source.complete
    assert bench.source.missing() is None
    assert bench.source.settle() is cancelled


def test_more_is_asked_for_when_half_of_the_window_was_taken_and_not_before() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    half = WINDOW_BYTES // 2
    bench.reached(0)
    bench.piece(0, b"x" * half)
    bench.piece(half, b"x" * half)
    assert bench.source.due_in() != 0.0, "nothing was taken"
    bench.taken()
    assert bench.ask().stdout == 2 * half


def test_questions_become_seldom_whether_answered_or_not() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    pauses = [bench.source.due_in()]
    for _ in range(5):
        bench.now += pauses[-1] or 0
        bench.ask()
        pauses.append(bench.source.due_in())
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    bench.reached(0)
    assert bench.source.due_in() == 5.0


def test_an_ended_task_is_complete_when_its_worker_says_so_or_nothing() -> None:
    bench = Bench(RUNNING)
    bench.ask()
    bench.reached(0, over=True)
    assert not bench.source.complete
    bench.source.look(ENDED)
    assert bench.source.complete
    silent = Bench(RUNNING, ENDED)
    for _ in range(3):
        assert not silent.source.complete
        silent.ask()
        silent.now += 5
    assert silent.source.complete
    assert Bench(ENDED).source.complete


async def test_what_is_read_from_a_store_waits_until_there_is_room() -> None:
    import asyncio

    bench = Bench(ENDED)
    chunk = OutputChunk(TASK, 1, "stdout", 0, b"x" * WINDOW_BYTES)
    await bench.source.give(chunk)
    second = asyncio.ensure_future(bench.source.give(chunk))
    await asyncio.sleep(0)
    assert not second.done()
    bench.source.take()
    await second


@pytest.mark.parametrize(
    ("data", "count", "wanted"),
    [
        (b"", 2, b""),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 0, b""),
        (b"a", 0, b""),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"\n\n", 1, b"\n"),
    ],
)
def test_last_lines(data: bytes, count: int, wanted: bytes) -> None:
    assert last_lines(data, count) == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        FollowTask(TASK, token="a" * 41),
        FollowTask(TASK, token="a:b"),
        FollowTask(TASK, attempt=-1),
        FollowTask(TASK, stdout=-(MAX_BACKLOG_BYTES + 2)),
        FollowTask(TASK, stderr=2**53),
    ],
)
def test_a_request_out_of_bounds_is_refused(wanted: FollowTask) -> None:
    with pytest.raises(InvalidInput):
        check_follow(wanted)


def test_notices_are_words() -> None:
    assert [str(kind) for kind in NoticeKind] == [
        "waits", "begun", "attempt_ended", "ended",
    ]  # fmt: skip
