"""What blocks is done aside."""

import asyncio
import contextlib
import threading

import pytest

from mitosis.client.network import EventLoop
from mitosis.errors import NoCoordinator


async def test_what_blocks_gives_its_result_or_its_error() -> None:
    def fail() -> None:
        raise NoCoordinator("nobody")

    for may_be_left in (False, True):
        assert await EventLoop().aside(lambda: 7, may_be_left=may_be_left) == 7
        with pytest.raises(NoCoordinator, match="nobody"):
            await EventLoop().aside(fail, may_be_left=may_be_left)


def test_the_end_of_a_program_waits_for_nothing_that_was_given_up() -> None:
    """As after Ctrl-C, while a silent address was being asked."""
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def silent() -> None:
        begun.set()
        release.wait()
        ended.set()

    async def main() -> None:
        asking = asyncio.create_task(EventLoop().aside(silent, may_be_left=True))
        while not begun.is_set():  # noqa: ASYNC110  it is a thread that begins
            await asyncio.sleep(0)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking

    asyncio.run(main())
    assert not ended.is_set()
    release.set()
    assert ended.wait(10.0)
