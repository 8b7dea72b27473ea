"""Slowing down whoever guesses passwords: waits that double, in bounded memory."""

from collections import OrderedDict
from typing import NamedTuple


class _Tries(NamedTuple):
    failures: int
    last_at: float


class Throttle:
    """Failed tries by key (a user name, a source).

    The first few cost nothing; each further one doubles the wait up to a bound. A key that has
    been quiet is forgotten, and the oldest ones when there are too many. Times are monotonic.
    """

    def __init__(
        self,
        free: int,
        first_wait_seconds: float = 1.0,
        longest_wait_seconds: float = 60.0,
        forget_seconds: float = 900.0,
        max_keys: int = 10_000,
    ) -> None:
        """`free`: failures before the first wait."""
        self._free = free
        self._first = first_wait_seconds
        self._longest = longest_wait_seconds
        self._forget = forget_seconds
        self._max_keys = max_keys
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def wait_seconds(self, key: str, now: float) -> float:
        """How long the key must wait before its next try; 0: it may try now."""
        tries = self._tries.get(key)
        if tries is None or tries.failures < self._free:
            return 0.0
        if now - tries.last_at > self._forget:
            del self._tries[key]
            return 0.0
        doublings = min(tries.failures - self._free, 30)
        wait = min(self._longest, self._first * 2.0**doublings)
        return max(0.0, tries.last_at + wait - now)

    def failed(self, key: str, now: float) -> None:
        """Count a failure."""
        tries = self._tries.pop(key, None)
        recent = tries is not None and now - tries.last_at <= self._forget
        self._tries[key] = _Tries(tries.failures + 1 if tries and recent else 1, now)
        while len(self._tries) > self._max_keys:
            self._tries.popitem(last=False)

    def forgive(self, key: str) -> None:
        """Take one failure of a key off: whoever shares it has shown a right password."""
        tries = self._tries.get(key)
        if tries is None or tries.failures <= 1:
            self._tries.pop(key, None)
        else:
            self._tries[key] = tries._replace(failures=tries.failures - 1)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        self._tries.pop(key, None)
