"""A set that only grows, of anything that can be hashed: 8 bytes for each member.

Two members may be taken for one with a chance of one in 2**64 a pair; what is hashed is salted by
the interpreter, so nobody can choose such a pair.
"""

from array import array
from bisect import bisect_left
from collections.abc import Hashable
from heapq import merge

BUFFER = 65_536


class Fingerprints:
    """Sorted runs, each at least twice as long as the next one, and a buffer."""

    def __init__(self, buffer: int = BUFFER) -> None:
        """`buffer` is how many are kept apart before they are sorted in."""
        self._size = buffer
        self._buffer: set[int] = set()
        self._runs: list[array[int]] = []

    def add(self, member: Hashable) -> None:
        """Take a member in."""
        self._buffer.add(hash(member))
        if len(self._buffer) < self._size:
            return
        run = array("q", sorted(self._buffer))
        self._buffer = set()
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = array("q", merge(self._runs.pop(), run))
        self._runs.append(run)

    def __contains__(self, member: Hashable) -> bool:
        wanted = hash(member)
        return wanted in self._buffer or any(_has(run, wanted) for run in self._runs)


def _has(run: "array[int]", wanted: int) -> bool:
    at = bisect_left(run, wanted)
    return at < len(run) and run[at] == wanted
