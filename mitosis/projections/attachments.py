"""Files of groups, from the events of attachments."""

from mitosis.domain.attachment import AttachmentDeleted, AttachmentStored
from mitosis.domain.event import Event
from mitosis.projections.commit import Commit
from mitosis.projections.rows import AttachmentRow, Tables
from mitosis.projections.sequence import out_of_order


def fold(tables: Tables, commit: Commit, event: Event) -> None:
    """Apply an event of an attachment.

    Raises:
        CorruptData: A deletion of what is not there.
    """
    _, group, token = commit.tail.split(".", 2)
    former = tables.attachments.get(group, token)
    before = former.size_bytes if former else 0
    match event:
        case AttachmentStored(_, key, object_name, size, sha256):
            created_at = former.created_at if former else commit.at
            tables.attachments.put(
                AttachmentRow(group, token, key, object_name, size, sha256, created_at, commit.at)
            )
            tables.use_of(group).storage_used_bytes += size - before
        case AttachmentDeleted() if former is not None:
            tables.attachments.drop(group, token)
            tables.use_of(group).storage_used_bytes -= before
        case _:
            raise out_of_order(commit, event)
