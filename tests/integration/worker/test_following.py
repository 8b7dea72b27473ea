"""A worker whose tasks are followed: what it sends, to whom, how much, and when it stops."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from mitosis.contract import subjects
from mitosis.contract.output import (
    WINDOW_BYTES,
    FollowOutput,
    OutputMessage,
    OutputPiece,
    OutputReached,
)
from mitosis.nats.connection import Connection, Msg
from mitosis.nats.credentials import ServiceLogin
from mitosis.processes.engine import Engine
from mitosis.processes.run import Run
from mitosis.processes.runs import RunSpec
from mitosis.services.worker.following import MAX_BEGINS, Followed, Followers
from mitosis.testing.waiting import eventually

Work = Callable[..., Any]
PIECE_BYTES = 64 * 1024
_decode: msgspec.json.Decoder[OutputMessage] = msgspec.json.Decoder(OutputMessage)


class Listener:
    """Hears the output of all tasks, and orders it in the name of followers."""

    def __init__(self, coordinator: Any) -> None:
        self.heard: list[OutputMessage] = []
        self._coordinator = coordinator

    def hear(self, message: Msg) -> None:
        self.heard.append(_decode.decode(message.data))

    def order(self, task: str, follower: str = "ann:1", **more: Any) -> None:
        order = {"stdout": 0, "stderr": 0, **more}
        self._coordinator.order(FollowOutput(task, "lab", 1, follower, **order))

    def pieces(self, follower: str = "ann:1") -> list[OutputPiece]:
        return [m for m in self.heard if isinstance(m, OutputPiece) and m.follower == follower]

    def text(self, stream: str = "stdout", follower: str = "ann:1") -> bytes:
        return b"".join(p.data for p in self.pieces(follower) if p.stream == stream)

    def reached(self, follower: str = "ann:1") -> list[OutputReached]:
        return [m for m in self.heard if isinstance(m, OutputReached) and m.follower == follower]


@pytest.fixture
async def listener(nats_url: str, coordinator: Any) -> AsyncIterator[Listener]:
    login = ServiceLogin("follower", "x")
    async with await Connection.open([nats_url], login, name="follower") as connection:
        made = Listener(coordinator)
        await connection.subscribe(subjects.output("lab", "*", "*"), made.hear)
        await connection.flush()
        yield made


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """A program that writes a line, more when there is a file `go`, and runs on."""
    engine = Engine(1, tmp_path / "engine")
    await engine.start()
    script = "echo one; while [ ! -e go ]; do sleep 0.02; done; echo bad >&2; echo two; sleep 600"
    started = engine.start_task(RunSpec(argv=["sh", "-c", script], env={"PATH": "/usr/bin:/bin"}))
    await started.started()
    yield started
    started.stop("cancel", 0.0)
    await started.result()
    started.release()
    await engine.close(0.0)


@pytest.fixture
async def make_followers(nats_url: str, run: Run) -> AsyncIterator[Callable[..., Followers]]:
    """Those of the one program, with other bounds than in a worker."""
    login = ServiceLogin("worker", "x")
    async with await Connection.open([nats_url], login, name="worker") as connection:
        made: list[Followers] = []

        def make(**bounds: Any) -> Followers:
            made.append(Followers(connection, "worker", lambda *_: Followed(run), **bounds))
            return made[-1]

        yield make
        for one in made:
            await one.close()


async def test_a_task_is_followed_from_its_start_to_its_end_and_only_when_asked(
    coordinator: Any, work: Work, listener: Listener, tmp_path: Path
) -> None:
    await work().ready()
    go = tmp_path / "go"
    script = f"echo one; echo bad >&2; while [ ! -e {go} ]; do sleep 0.02; done; echo two"
    task = coordinator.assign("sh", "-c", script)
    await coordinator.started(task)
    assert listener.heard == []
    listener.order(task)
    await eventually(lambda: listener.text() == b"one\n" and listener.text("stderr") == b"bad\n")
    go.touch()
    await eventually(lambda: listener.reached()[-1].over)
    assert listener.text() == b"one\ntwo\n"
    assert (listener.reached()[-1].stdout, listener.reached()[-1].stderr) == (8, 4)
    listener.order(task, "ann:late")
    await eventually(lambda: listener.reached("ann:late"))
    assert listener.reached("ann:late")[-1].over


async def test_no_more_is_sent_than_the_follower_has_taken_and_one_window(
    coordinator: Any, work: Work, listener: Listener
) -> None:
    await work().ready()
    size = 4 * WINDOW_BYTES
    script = f"head -c {size} /dev/zero; sleep 600"
    task = coordinator.assign("sh", "-c", script, terminal=True)
    listener.order(task)
    await coordinator.started(task)
    listener.order(task)
    await eventually(lambda: len(listener.text()) >= WINDOW_BYTES)
    answers = len(listener.reached())
    for more in range(1, 6):  # time for more, if it were sent
        listener.order(task)
        await eventually(lambda n=answers + more: len(listener.reached()) >= n)
    assert len(listener.text()) < WINDOW_BYTES + PIECE_BYTES
    while len(listener.text()) < size:
        taken = len(listener.text())
        listener.order(task, stdout=taken)
        await eventually(lambda n=taken: len(listener.text()) > n)
    assert listener.text() == bytes(size)


async def test_what_got_lost_is_sent_again_from_its_offset(
    coordinator: Any, work: Work, listener: Listener
) -> None:
    await work().ready()
    task = coordinator.assign("sh", "-c", "echo one; echo two; sleep 600")
    await coordinator.started(task)
    listener.order(task)
    await eventually(lambda: listener.text() == b"one\ntwo\n")
    listener.order(task, stdout=4, again=True)
    await eventually(lambda: listener.text() == b"one\ntwo\ntwo\n")
    assert [piece.offset for piece in listener.pieces()][-1] == 4


async def test_only_the_wanted_stream_is_sent_and_from_the_end_if_that_is_wanted(
    coordinator: Any, work: Work, listener: Listener, tmp_path: Path
) -> None:
    await work().ready()
    go = tmp_path / "go"
    script = f"echo bad >&2; echo one; while [ ! -e {go} ]; do sleep 0.02; done; echo two"
    task = coordinator.assign("sh", "-c", script)
    await coordinator.started(task)
    listener.order(task)
    await eventually(lambda: listener.text() == b"one\n")
    listener.order(task, "ann:end", stdout=-1, stderr=None)
    listener.order(task, "ann:tail", stdout=-3, stderr=None)
    await eventually(lambda: listener.text(follower="ann:tail") == b"e\n")
    go.touch()
    await eventually(lambda: listener.reached("ann:end")[-1].over)
    await eventually(lambda: listener.reached("ann:tail")[-1].over)
    assert listener.text(follower="ann:end") == b"two\n"
    assert [piece.backlog for piece in listener.pieces("ann:tail")] == [True, False]
    assert not any(listener.text("stderr", name) for name in ("ann:end", "ann:tail"))


async def test_who_is_silent_or_stops_is_followed_for_no_more(
    make_followers: Callable[..., Followers], listener: Listener
) -> None:
    followers = make_followers(follow_seconds=0.3)
    for name in ("ann:1", "ann:2", "ann:3"):
        followers.order(FollowOutput("task", "lab", 1, name, stdout=0))
    assert len(followers) == 3
    followers.order(FollowOutput("task", "lab", 1, "ann:1", stop=True))
    assert len(followers) == 2

    def only_one() -> bool:
        followers.order(FollowOutput("task", "lab", 1, "ann:3", stdout=4))
        return len(followers) == 1

    await eventually(only_one)
    await eventually(lambda: len(followers) == 0)
    assert listener.text(follower="ann:3") == b"one\n"


async def test_too_many_followers_are_refused_with_the_reason(
    make_followers: Callable[..., Followers], listener: Listener
) -> None:
    followers = make_followers(max_followers=18)
    for number in range(17):
        followers.order(FollowOutput("task", "lab", 1, f"ann:{number}", stdout=0))
    await eventually(lambda: len(listener.reached("ann:16")) == 2)
    assert "16 follow this run already" in listener.reached("ann:16")[-1].refused
    few = make_followers(max_followers=1)
    few.order(FollowOutput("task", "lab", 1, "bob:1", stdout=0))
    few.order(FollowOutput("task", "lab", 1, "bob:2", stdout=0))
    await eventually(lambda: listener.reached("bob:2"))
    assert "1 follow tasks of this worker already" in listener.reached("bob:2")[0].refused


@pytest.mark.parametrize("again", [False, True], ids=["as many followers", "as one, again"])
async def test_ten_thousand_requests_cost_no_more_than_a_few_and_disturb_nobody(
    make_followers: Callable[..., Followers], listener: Listener, run: Run, again: bool
) -> None:
    """One who asks without end gets no more of the worker, and others go on as before."""
    followers = make_followers()
    followers.order(FollowOutput("task", "lab", 1, "ann:1", stdout=0, stderr=0))
    await eventually(lambda: listener.text() == b"one\n")
    most, start = 0, time.monotonic()
    for number in range(10_000):
        name = "eve:1" if again else f"eve:{number}"
        order = FollowOutput("task", "lab", 1, name, stdout=0, stderr=0, again=again)
        followers.order(order)
        if number % 10 == 0:
            await asyncio.sleep(0)  # what was begun goes on
        if not again:
            followers.order(replace(order, stop=True))
        most = max(most, len(asyncio.all_tasks()))
    assert most < 300
    assert len(followers) <= 2
    seconds = time.monotonic() - start
    (run.folder / "work" / "go").touch()
    await eventually(lambda: listener.text() == b"one\ntwo\n")
    assert listener.text("stderr") == b"bad\n"
    answers = [m for m in listener.heard if m.follower.startswith("eve:")]
    assert len(answers) <= 3 * MAX_BEGINS * (1 + seconds)


async def test_an_attempt_that_is_not_there_is_not_spoken_of(
    coordinator: Any, work: Work, listener: Listener
) -> None:
    await work(slots=1).ready()
    task = coordinator.assign("sh", "-c", "echo one; sleep 600")
    listener.order("e07a2bf2-166d-40b5-8bb6-a78104c072f9", "ann:none")
    await coordinator.started(task)
    listener.order(task)
    await eventually(lambda: listener.text() == b"one\n")
    assert listener.reached("ann:none") == []
