"""Requests that wait for their turn: a bounded number, and nobody's hold up all others'.

While little comes, a request is handled as it arrives. When more comes than can be handled, each
turn of the event loop does a slice of it, so that reading, renewals and timers go on; owners take
turns, one request each, in the order in which each of them has sent. What does not fit is for the
caller to refuse, at once: the refusal costs a small part of the work.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.005
MOST = 4_000  # some seconds of work; who waits longer asks again anyway
MOST_OF_ONE = 1_000
MOST_BYTES = 64 * 1024 * 1024


class WaitingLine(Generic[T]):
    """Hands what is put in to `handle`, which must not raise.

    Args:
        handle: Called with one item after the other, on the event loop.
        most: Items that may wait, of all owners.
        most_of_one: Items of one owner that may wait.
        most_bytes: Bytes that may wait.
    """

    def __init__(
        self,
        handle: Callable[[T], None],
        *,
        most: int = MOST,
        most_of_one: int = MOST_OF_ONE,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._handle = handle
        self._most, self._most_of_one, self._most_bytes = most, most_of_one, most_bytes
        self._owners: OrderedDict[str, deque[tuple[T, int]]] = OrderedDict()
        self._waiting = self._bytes = 0
        self._turn: asyncio.Handle | None = None
        self._turn_ends = 0.0

    def __len__(self) -> int:
        return self._waiting

    def put(self, owner: str, item: T, size: int) -> bool:
        """Handle an item now or later; False: there is no room for it.

        Args:
            owner: Whose turn it takes.
            item: What is handed on.
            size: Its bytes.
        """
        if not self._waiting and self._has_time():
            self._handle(item)
            return True
        own = self._owners.get(owner, ())
        if (
            self._waiting >= self._most
            or len(own) >= self._most_of_one
            or self._bytes + size > self._most_bytes
        ):
            return False
        self._owners.setdefault(owner, deque()).append((item, size))
        self._waiting += 1
        self._bytes += size
        return True

    def take(self) -> T | None:
        """Take out whose turn it is; None when nobody waits."""
        if not self._owners:
            return None
        owner, own = next(iter(self._owners.items()))
        item, size = own.popleft()
        if own:
            self._owners.move_to_end(owner)
        else:
            del self._owners[owner]
        self._waiting -= 1
        self._bytes -= size
        return item

    def stop(self) -> None:
        """Hand on nothing more of what waits."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _has_time(self) -> bool:
        """Whether this turn of the event loop has time left for requests."""
        now = time.monotonic()
        if self._turn is None:
            self._begin_turn(now)
        return now < self._turn_ends

    def _begin_turn(self, now: float) -> None:
        self._turn_ends = now + SLICE_SECONDS
        self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if not self._waiting:
            return
        self._begin_turn(time.monotonic())
        while time.monotonic() < self._turn_ends and (item := self.take()) is not None:
            self._handle(item)
