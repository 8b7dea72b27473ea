"""Which workers have free slots, kept up to date, so that a task looks only at those."""

from collections.abc import Iterator


class Openings:
    """Free slots by worker; iterates over workers that have some, those with the most first.

    Among equals the first is the one that has had so many for the longest time. `crew` counts what
    has happened to workers: while it stays the same, so do all of them.
    """

    def __init__(self) -> None:
        self.crew = 0
        self._free: dict[str, int] = {}
        self._by_free: dict[int, dict[str, None]] = {}

    def note(self, worker: str, free: int) -> None:
        """A worker may be given so many tasks more; none when it is 0 or less."""
        free, before = max(0, free), self._free.get(worker, 0)
        if free == before:
            return
        if before:
            equals = self._by_free[before]
            del equals[worker], self._free[worker]
            if not equals:
                del self._by_free[before]
        if free:
            self._free[worker] = free
            self._by_free.setdefault(free, {})[worker] = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Openings) and self._free == other._free

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __iter__(self) -> Iterator[str]:
        for free in sorted(self._by_free, reverse=True):
            yield from self._by_free[free]
