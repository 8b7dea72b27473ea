"""Reads of attachments."""

from datetime import datetime

import msgspec

from mitosis.contract.queries.pages import DEFAULT_PAGE, AsOf


class GetAttachment(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Needs Read in the group; `group` empty: the user's own."""

    key: str
    group: str = ""


class AttachmentView(msgspec.Struct):
    """One file of a group."""

    group: str
    key: str
    size_bytes: int
    sha256: str
    created_at: datetime
    updated_at: datetime


class AttachmentLink(msgspec.Struct):
    """Presigned GET, valid for a while; check the bytes against `sha256`. The URL is a secret."""

    group: str
    key: str
    size_bytes: int
    sha256: str
    url: str

    def __repr__(self) -> str:
        return f"AttachmentLink(group={self.group!r}, key={self.key!r})"


class ListAttachments(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """Filters; each given one must hold. `group` empty: the user's own.

    In the order of the bytes of their keys. To go on without repeating or missing a file while
    others are stored and deleted, ask with `after` set to the last key of the page before.

    Attributes:
        prefix: What the keys begin with, literally.
        contains: What the keys hold anywhere, literally.
        after: Only keys behind this one.
    """

    group: str = ""
    prefix: str = ""
    contains: str = ""
    after: str = ""
    limit: int = DEFAULT_PAGE
    offset: int = 0
    as_of: AsOf = None


class AttachmentPage(msgspec.Struct):
    """`total` counts all that match the filters, wherever the page begins.

    `next`: ask with it as `after` for more; None: there is nothing behind this page.
    """

    attachments: list[AttachmentView]
    total: int
    next: str | None = None
