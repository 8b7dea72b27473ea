"""Which objects of S3 the events name: a fold of commits, in order."""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from mitosis.contract.subjects import tail_of
from mitosis.domain.attachment import AttachmentDeleted, AttachmentStored
from mitosis.domain.task import ArtifactDeleted, ArtifactStored
from mitosis.errors import CorruptData
from mitosis.events.catalogue import decode_event
from mitosis.events.envelope import decode_commit
from mitosis.projections.commit import RawCommit

ARTIFACTS: Literal["artifacts"] = "artifacts"
ATTACHMENTS: Literal["attachments"] = "attachments"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._/-]{0,1023}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TOPICS = {
    cls.TOPIC for cls in (ArtifactStored, ArtifactDeleted, AttachmentStored, AttachmentDeleted)
}


class NamedObject(msgspec.Struct, frozen=True):
    """An object that an event names; `bucket` is `artifacts` or `attachments`."""

    bucket: str
    name: str
    size_bytes: int
    sha256: str

    def check(self) -> None:
        """Refuse what no event of ours names.

        Raises:
            ValueError: Says what.
        """
        if self.bucket not in {ARTIFACTS, ATTACHMENTS}:
            raise ValueError(f"there is no bucket {self.bucket[:40]!r}")
        if not _NAME.fullmatch(self.name) or {"", ".", ".."} & set(self.name.split("/")):
            raise ValueError(f"{self.name[:80]!r} is no name of an object")
        if not _SHA256.fullmatch(self.sha256) or self.size_bytes < 0:
            raise ValueError(f"the object {self.name} has no right size and checksum")


class Inventory:
    """The objects that exist after the commits that were taken in."""

    def __init__(self) -> None:
        self._named: dict[tuple[str, str], NamedObject] = {}

    def take(self, commits: Iterable[RawCommit]) -> None:
        """Take in the next commits.

        Raises:
            CorruptData: One of them cannot be read.
        """
        for position, subject, payload in commits:
            if not (b"artifact_" in payload or b"attachment." in payload):
                continue
            for topic, body in decode_commit(subject, payload, position).events:
                if topic.partition("@")[0] in _NAMES:
                    self._apply(tail_of(subject), decode_event(topic, body), position)

    def _apply(self, tail: str, event: object, position: int) -> None:
        match event:
            case AttachmentStored():
                found = NamedObject(ATTACHMENTS, event.object_name, event.size_bytes, event.sha256)
                self._put((tail, ""), found, position)
            case ArtifactStored():
                found = NamedObject(ARTIFACTS, event.object_name, event.size_bytes, event.sha256)
                self._put((tail, event.kind.value), found, position)
            case AttachmentDeleted():
                self._named.pop((tail, ""), None)
            case ArtifactDeleted():
                self._named.pop((tail, event.kind.value), None)

    def _put(self, key: tuple[str, str], found: NamedObject, position: int) -> None:
        try:
            found.check()
        except ValueError as error:
            raise CorruptData(f"position {position}: {error}", position=position) from error
        self._named[key] = found

    def __len__(self) -> int:
        return len(self._named)

    def __iter__(self) -> Iterator[NamedObject]:
        return iter(list(self._named.values()))


_NAMES = {topic.partition("@")[0] for topic in _TOPICS}
