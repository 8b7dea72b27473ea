"""Commands about files: attachments of groups, and artifacts that a user uploads.

An upload is begun (the declared size is reserved against the group's quota), sent to the store by
presigned URLs, and completed: only then an event names it. An open upload is known to the
coordinator's present term alone; after a restart it is begun again.
"""

import msgspec

from mitosis.domain.task import ArtifactKind


class BeginAttachment(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Write in the group; `group` empty: the user's own."""

    key: str
    size_bytes: int
    group: str = ""


class BeginArtifact(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Write in the task's group. `task` is a full UUID."""

    task: str
    kind: ArtifactKind
    size_bytes: int


class UploadBegun(msgspec.Struct, omit_defaults=True):
    """Where the bytes go. URLs are secrets for as long as they live.

    Attributes:
        upload: Id of this upload.
        group: In whose quota the size is reserved.
        url: For one PUT of exactly the declared size; empty: it is sent in parts.
        parts: How many; their URLs are asked for by `upload.parts`.
        part_bytes: Size of each part but the last.
        expires_in_seconds: How long the reservation lasts; asking for parts prolongs it.
    """

    upload: str
    group: str
    expires_in_seconds: float
    url: str = ""
    parts: int = 0
    part_bytes: int = 0

    def __repr__(self) -> str:
        return f"UploadBegun(upload={self.upload!r}, group={self.group!r}, parts={self.parts})"


class GetParts(msgspec.Struct, forbid_unknown_fields=True):
    """Ask for URLs of the parts from number `first` (counted from 1) on."""

    upload: str
    first: int


class PartUrls(msgspec.Struct):
    """URLs of consecutive parts, as many as one answer holds; each is for one PUT."""

    first: int
    urls: list[str]

    def __repr__(self) -> str:
        return f"PartUrls(first={self.first}, {len(self.urls)} urls)"


class CompleteAttachment(msgspec.Struct, forbid_unknown_fields=True):
    """All bytes are in the store; `sha256` is their checksum in hexadecimal form."""

    upload: str
    group: str
    key: str
    sha256: str


class CompleteArtifact(msgspec.Struct, forbid_unknown_fields=True):
    """All bytes are in the store; `sha256` is their checksum in hexadecimal form."""

    upload: str
    task: str
    kind: ArtifactKind
    sha256: str


class UploadedAttachment(msgspec.Struct):
    """The file is stored under its key. `replaced`: it took the place of another one."""

    group: str
    key: str
    size_bytes: int
    sha256: str
    replaced: bool = False


class UploadedArtifact(msgspec.Struct):
    """The file is stored as an output. `replaced`: it took the place of another one."""

    task: str
    kind: ArtifactKind
    size_bytes: int
    sha256: str
    replaced: bool = False


class AbortUpload(msgspec.Struct, forbid_unknown_fields=True):
    """Give an upload up: what it reserved is free at once."""

    upload: str


class DeleteAttachment(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Write in the group, or a platform administrator; `group` empty: the user's own."""

    key: str
    group: str = ""


class DeleteArtifact(msgspec.Struct, forbid_unknown_fields=True):
    """Needs Write in the task's group, or a platform administrator. `task` is a full UUID."""

    task: str
    kind: ArtifactKind
