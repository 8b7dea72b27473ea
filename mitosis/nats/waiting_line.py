"""Requests that wait for their turn: a bounded number, and nobody's hold up all others'.

While little comes, a request is handled as it arrives. When more comes than can be handled, each
turn of the event loop does a slice of it, so that reading, renewals and timers go on; owners take
turns, one request each, in the order in which each of them has sent. What does not fit is for the
caller to refuse, at once: the refusal costs a small part of the work. When it is full, who has
more in it than the one who comes gives up its newest place: many who are loud shut nobody out.
While nothing more could be done with a request than to refuse it, for a moment, the line stands:
else who asks most would be the one who hits the moment in which there is room.
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
LOOK_SECONDS = 0.002
MOST_STANDING_SECONDS = 1.0  # then requests are handed on, for whatever answer they get


class WaitingLine(Generic[T]):
    """Hands what is put in to `handle`, which must not raise.

    Args:
        handle: Called with one item after the other, on the event loop.
        turn_away: Called with an item that has lost its place to somebody else's.
        has_room: Whether what is handed on can be done just now.
        most: Items that may wait, of all owners.
        most_of_one: Items of one owner that may wait.
        most_bytes: Bytes that may wait.
    """

    def __init__(
        self,
        handle: Callable[[T], None],
        turn_away: Callable[[T], None] = lambda _: None,
        has_room: Callable[[], bool] = lambda: True,
        *,
        most: int = MOST,
        most_of_one: int = MOST_OF_ONE,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._handle, self._turn_away, self._has_room = handle, turn_away, has_room
        self._most, self._most_of_one, self._most_bytes = most, most_of_one, most_bytes
        self._owners: OrderedDict[str, deque[tuple[T, int]]] = OrderedDict()
        self._bytes_of: dict[str, int] = {}
        self._waiting = self._bytes = 0
        self._turn: asyncio.Handle | None = None
        self._turn_ends = 0.0
        self._stands_since: float | None = None

    def __len__(self) -> int:
        return self._waiting

    def put(self, owner: str, item: T, size: int) -> bool:
        """Handle an item now or later; False: there is no room for it.

        Args:
            owner: Whose turn it takes.
            item: What is handed on.
            size: Its bytes.
        """
        if not self._waiting and self._has_time() and self._moves():
            self._handle(item)
            return True
        if len(self._owners.get(owner, ())) >= self._most_of_one:
            return False
        while (in_the_way := self._in_the_way(owner, size)) is not None:
            if in_the_way == owner:
                return False
            self._turn_away(self._remove(in_the_way, newest=True))
        self._owners.setdefault(owner, deque()).append((item, size))
        self._bytes_of[owner] = self._bytes_of.get(owner, 0) + size
        self._waiting += 1
        self._bytes += size
        return True

    def _in_the_way(self, owner: str, size: int) -> str | None:
        """Return who must give up a place for one more item: who has most, or the owner itself."""
        if self._waiting >= self._most:
            held, wanted = {name: len(own) for name, own in self._owners.items()}, 1
        elif self._bytes + size > self._most_bytes:
            held, wanted = self._bytes_of, size
        else:
            return None
        largest = max(held, key=held.__getitem__, default=owner)
        return largest if held.get(largest, 0) > held.get(owner, 0) + wanted else owner

    def take(self) -> T | None:
        """Take out whose turn it is; None when nobody waits."""
        if not self._owners:
            return None
        owner = next(iter(self._owners))
        item = self._remove(owner)
        if owner in self._owners:
            self._owners.move_to_end(owner)
        return item

    def _remove(self, owner: str, *, newest: bool = False) -> T:
        own = self._owners[owner]
        item, size = own.pop() if newest else own.popleft()
        self._waiting -= 1
        self._bytes -= size
        self._bytes_of[owner] -= size
        if not own:
            del self._owners[owner], self._bytes_of[owner]
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

    def _moves(self) -> bool:
        """Whether items are handed on: there is room, or there has been none for long."""
        if self._has_room():
            self._stands_since = None
            return True
        now = time.monotonic()
        if self._stands_since is None:
            self._stands_since = now
        return now - self._stands_since >= MOST_STANDING_SECONDS

    def _begin_turn(self, now: float) -> None:
        self._turn_ends = now + SLICE_SECONDS
        self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if not self._waiting:
            self._stands_since = None
            return
        if not self._moves():
            self._turn = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._next_turn)
            return
        self._begin_turn(time.monotonic())
        while time.monotonic() < self._turn_ends and self._moves():
            item = self.take()
            if item is None:
                return
            self._handle(item)
