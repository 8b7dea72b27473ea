"""Reads of attachments. Keys are compared byte by byte, and filters mean what they say."""

from typing import Any, LiteralString

import msgspec

from mitosis.contract.queries import (
    AttachmentPage,
    AttachmentView,
    GetAttachment,
    ListAttachments,
)
from mitosis.domain.attachment import MAX_KEY_BYTES, check_key
from mitosis.domain.limits import check_text
from mitosis.domain.names import check_name
from mitosis.errors import NotFound
from mitosis.projections.postgres import Reader, fetch_value
from mitosis.projections.rows import AttachmentRow
from mitosis.projections.task_pages import check_page
from mitosis.projections.task_reads import MAX_PAGE_BYTES
from mitosis.projections.viewer import Viewer, check_group

_VIEW: LiteralString = """
    SELECT group_name AS "group", key, size_bytes, sha256, created_at, updated_at
    FROM attachments
"""
_decode_row = msgspec.json.Decoder(AttachmentRow).decode
_decode_view = msgspec.json.Decoder(AttachmentView).decode


async def get_attachment(
    connection: Reader, viewer: Viewer, wanted: GetAttachment
) -> AttachmentRow:
    """Return what is known of an attachment, with the name of its object.

    Raises:
        InvalidInput: No key can be so. NotFound: No such group, or no such file in it.
        NotAllowed: The viewer has no role in the group.
    """
    group = check_name(wanted.group or viewer.name, "group")
    check_key(group, wanted.key)
    await check_group(connection, viewer, group)
    text = await fetch_value(
        connection,
        "SELECT row_to_json(a)::text FROM attachments a"
        ' WHERE group_name = %s AND key COLLATE "C" = %s',
        group,
        wanted.key,
    )
    if text is None:
        raise NotFound(
            f"group {group!r} has no attachment {wanted.key!r}", group=group, key=wanted.key
        )
    return _decode_row(text)


def view_of(row: AttachmentRow) -> AttachmentView:
    """Return what its readers see of a row."""
    return AttachmentView(
        row.group_name, row.key, row.size_bytes, row.sha256, row.created_at, row.updated_at
    )


async def list_attachments(
    connection: Reader, viewer: Viewer, wanted: ListAttachments
) -> AttachmentPage:
    """Return a page of the files of a group, in the order of their keys.

    A page may be shorter than `limit` since it has to fit into one message; `next` says how to go
    on.

    Raises:
        InvalidInput: A filter that cannot be. NotFound, NotAllowed: The group.
    """
    group = check_name(wanted.group or viewer.name, "group")
    check_page(wanted.limit, wanted.offset)
    for field in ("prefix", "contains", "after"):
        check_text(getattr(wanted, field), field, MAX_KEY_BYTES)
    await check_group(connection, viewer, group)
    where, args = _conditions(wanted, group)
    total = await connection.execute(f"SELECT count(*) FROM attachments WHERE {where}", args)
    counted = await total.fetchone()
    if wanted.after:
        where += ' AND key COLLATE "C" > %(after)s'
    found = await connection.execute(
        "SELECT body, fetched FROM (SELECT body, count(*) OVER () AS fetched,"
        "  row_number() OVER by_key AS place, sum(octet_length(body)) OVER by_key AS size"
        " FROM (SELECT to_json(v)::text AS body, v.key"
        f'   FROM ({_VIEW} WHERE {where} ORDER BY key COLLATE "C"'
        "          OFFSET %(offset)s LIMIT %(limit)s + 1) v) bodies"
        ' WINDOW by_key AS (ORDER BY key COLLATE "C")) sized'
        " WHERE place = 1 OR (size <= %(bytes)s AND place <= %(limit)s) ORDER BY place",
        {
            **args,
            "after": wanted.after,
            "offset": wanted.offset,
            "limit": wanted.limit,
            "bytes": MAX_PAGE_BYTES,
        },
    )
    rows = await found.fetchall()
    views = [_decode_view(body) for body, _ in rows]
    more = bool(rows) and rows[0][1] > len(rows)
    return AttachmentPage(views, counted[0] if counted else 0, views[-1].key if more else None)


def _conditions(wanted: ListAttachments, group: str) -> tuple[LiteralString, dict[str, Any]]:
    parts: list[LiteralString] = ["group_name = %(group)s"]
    if wanted.prefix:
        # The bounds serve the index, the function is what is meant.
        parts.append('key COLLATE "C" >= %(prefix)s AND starts_with(key, %(prefix)s)')
        if behind(wanted.prefix):
            parts.append('key COLLATE "C" < %(behind)s')
    if wanted.contains:
        parts.append("strpos(key, %(contains)s) > 0")
    args = {
        "group": group,
        "prefix": wanted.prefix,
        "behind": behind(wanted.prefix),
        "contains": wanted.contains,
    }
    return " AND ".join(parts), args


def behind(prefix: str) -> str:
    """Return the lowest text above all that begin with the prefix; empty: there is none.

    Bytes of UTF-8 sort as code points do; surrogates are no characters.
    """
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)
