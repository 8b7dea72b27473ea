"""Waiting: what is told, and how long a look may go unanswered."""

import asyncio

import pytest

from mitosis.cli.output.progress import counts_text
from mitosis.client import retry
from mitosis.client.retry import outlast
from mitosis.client.waiting import WaitProgress
from mitosis.domain.names import parse_task_range
from mitosis.errors import InvalidInput, NotFound, TooLarge, Unavailable


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time jumps when it is told to; waiting for a time takes none."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0

    def time(self) -> float:
        """Real time, and what was skipped."""
        return super().time() + self.passed


def outlasted(takes_seconds: list[float], patience_seconds: float) -> tuple[int, str]:
    """Ask; each try takes so long and fails, and the last one answers. Tries, and how it ended."""
    clock = Clock()
    tries = 0

    async def ask() -> str:
        nonlocal tries
        tries += 1
        if tries > len(takes_seconds):
            return "answer"
        clock.passed += takes_seconds[tries - 1]
        raise Unavailable("nobody")

    async def run() -> str:
        try:
            return await outlast(ask, 30.0, patience_seconds)
        except Unavailable:
            return "given up"

    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        ended = runner.run(run())
    return tries, ended


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "AGAIN_SECONDS", 0.001)


def test_a_look_is_repeated_until_patience_is_over() -> None:
    assert outlasted([30.0] * 3, 100.0) == (4, "answer")
    assert outlasted([30.0] * 5, 100.0) == (4, "given up")


def test_the_sleep_of_the_machine_is_no_waiting_for_an_answer() -> None:
    assert outlasted([50_000.0, 1.0, 30.0], 100.0) == (4, "answer")


async def test_a_refusal_is_an_answer() -> None:
    async def ask() -> str:
        raise NotFound("x")

    with pytest.raises(NotFound):
        await outlast(ask, 1.0, 10.0)


def test_the_bar_tells_counts_rate_and_time_left() -> None:
    progress = WaitProgress(None, 10, succeeded=3, failed=1, running=2, queued=4)  # type: ignore[arg-type]
    assert counts_text(progress, 4, 8.0) == "1 failed, 2 running, 4 queued, 0.5/s, 12s left"
    assert counts_text(progress, 0, 8.0) == "1 failed, 2 running, 4 queued"
    done = WaitProgress(None, 2, succeeded=2)  # type: ignore[arg-type]
    assert counts_text(done, 2, 1.0) == ""


def test_a_range_of_tasks_is_read() -> None:
    assert parse_task_range("my-lab#12-40") == ("my-lab", 12, 40)
    for other in ("lab#12", "last", "e07a2bf2-166d", "lab#-3", "lab#1-2-3", "a b#1-2"):
        assert parse_task_range(other) is None
    for wrong in ("lab#40-12", "lab#0-3"):
        with pytest.raises(InvalidInput, match="lab#"):
            parse_task_range(wrong)
    with pytest.raises(TooLarge, match="10001 tasks"):
        parse_task_range("lab#1-10001")
