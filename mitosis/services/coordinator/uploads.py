"""Uploads on their way: what was promised to whom, and what it reserves of a group's quota."""

import msgspec

from mitosis.domain.task import ArtifactKind
from mitosis.errors import LimitReached
from mitosis.runtime import Clock

GRANT_SECONDS = 3_600.0


class Grant(msgspec.Struct, frozen=True):
    """A place that may be written to until `expires` (monotonic seconds)."""

    object_name: str
    group: str
    task: str
    attempt: int
    kind: ArtifactKind
    size_bytes: int
    expires: float


class Uploads:
    """Open grants by object name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._grants: dict[str, Grant] = {}

    def reserved_bytes(self, group: str) -> int:
        """What open grants take of a group's quota."""
        self._expire()
        return sum(g.size_bytes for g in self._grants.values() if g.group == group)

    def grant(
        self,
        object_name: str,
        *,
        group: str,
        task: str,
        attempt: int,
        kind: ArtifactKind,
        size_bytes: int,
        used_bytes: int,
        quota_bytes: int,
    ) -> Grant:
        """Promise a place.

        Raises:
            LimitReached: The group's quota has no room for it.
        """
        check_quota(group, size_bytes, used_bytes + self.reserved_bytes(group), quota_bytes)
        expires = self._clock.monotonic() + GRANT_SECONDS
        grant = Grant(object_name, group, task, attempt, kind, size_bytes, expires)
        self._grants[object_name] = grant
        return grant

    def take(self, object_name: str) -> Grant | None:
        """Return and close a grant; None when there is none (any more)."""
        self._expire()
        return self._grants.pop(object_name, None)

    def names(self) -> set[str]:
        """Return the objects that may appear at any moment."""
        self._expire()
        return set(self._grants)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        for name in [n for n, g in self._grants.items() if g.expires < now]:
            del self._grants[name]


def check_quota(group: str, size_bytes: int, used_bytes: int, quota_bytes: int) -> None:
    """Check that a group has room for so many bytes more.

    Raises:
        LimitReached: It has not.
    """
    if size_bytes > quota_bytes - used_bytes:
        raise LimitReached(
            f"{size_bytes} bytes do not fit into the quota of group {group!r}: "
            f"{used_bytes} of {quota_bytes} bytes are used; delete artifacts or ask a platform "
            "administrator for more",
            group=group,
            size=size_bytes,
            used=used_bytes,
            quota=quota_bytes,
        )
