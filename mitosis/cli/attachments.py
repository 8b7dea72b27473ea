"""`upload attachment`, `get attachment`, `get attachments`, `get attachment-meta`, and deleting."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mitosis.cli.output.progress import moving
from mitosis.cli.output.screen import note, on_terminal, printable, show
from mitosis.cli.parameters import Flag, Group, Moment, Number, Output, VerboseFlag
from mitosis.cli.running import with_client
from mitosis.config.client import DEFAULT_PAGE, GetAttachmentsArgs

if TYPE_CHECKING:
    from mitosis.contract.queries import AttachmentPage, AttachmentView

Key = Annotated[str, Parameter(name=["--key", "-k"])]


def upload_attachment(file: Path, key: str = "", /, *, group: Group = "") -> None:
    """Upload a file to a group; one that is there under the key is replaced.

    Args:
        file: The path of the local file to upload.
        key: The key of the attachment; default: the name of the file. With a slash at its end, the
            name of the file is added.
        group: The name of the group; default: the user's own.
    """
    with moving(f"Uploading {file.name}") as progress:
        done = with_client(
            lambda client: client.upload_attachment(file, key, group, progress), on_loop=True
        )
    what = f"attachment {printable(done.key)} of group {done.group}"
    show(done, lambda: [f"Uploaded {done.size_bytes} B as {what}"])


def get_attachment(
    group: str, key: str, /, *, output: Output = None, no_download: Flag = False
) -> None:
    """Download an attachment of a group.

    Args:
        group: The name of the group.
        key: The key of the attachment.
        output: A file, or a folder that gets the file under the last part of the key.
        no_download: Only print the URL, which is good for a while.
    """
    from mitosis.client.downloads import Downloaded

    if no_download:
        link = with_client(lambda client: client.get_attachment_link(group, key))
        show(Downloaded(link.size_bytes, link.sha256, url=link.url), lambda: [link.url])
        return
    with moving(f"Downloading {key.rpartition('/')[2]}") as progress:
        done = with_client(
            lambda client: client.attachments.download(group, key, output, progress), on_loop=True
        )
    show(done, lambda: [f"Downloaded {done.size_bytes} B to {done.path}"])


def download_attachment(
    key: str, /, *, group: Group = "", output: Output = None, no_download: Flag = False
) -> None:
    """Download an attachment of a group.

    Args:
        key: The key of the attachment.
        group: The name of the group; default: the user's own.
        output: A file, or a folder that gets the file under the last part of the key.
        no_download: Only print the URL, which is good for a while.
    """
    get_attachment(group, key, output=output, no_download=no_download)


def get_attachment_meta(group: str, key: str, /) -> None:
    """Get the metadata of an attachment.

    Args:
        group: The name of the group.
        key: The key of the attachment.
    """
    view = with_client(lambda client: client.get_attachment_meta(group, key))
    show(view, lambda: [_line(view)])


def attachment_meta(key: str, /, *, group: Group = "") -> None:
    """Get the metadata of an attachment.

    Args:
        key: The key of the attachment.
        group: The name of the group; default: the user's own.
    """
    get_attachment_meta(group, key)


def get_attachments(
    *,
    group: Group = "",
    key: Key = "",
    contains: str = "",
    after: str = "",
    limit: Number = DEFAULT_PAGE,
    offset: Number = 0,
    as_of: Moment = None,
    verbose: VerboseFlag = False,
) -> None:
    """Query a list of attachments subject to the filter, in the order of their keys.

    Args:
        group: The name of the group; default: the user's own.
        key: What the keys begin with, literally.
        contains: What the keys hold anywhere, literally.
        after: Only keys behind this one: the last one that was listed before.
        limit: How many at most.
        offset: How many to leave out.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
        verbose: On a terminal too with exact sizes and times, a line each.
    """
    args = GetAttachmentsArgs(
        group=group, prefix=key, contains=contains, after=after, limit=limit, offset=offset,
        as_of=as_of,
    )  # fmt: skip
    page = with_client(lambda client: client.get_attachments(args))
    if on_terminal() and not verbose:
        _print_table(page)
    else:
        show(page, lambda: [_line(view) for view in page.attachments])
    some = f" ({len(page.attachments)} shown)" if len(page.attachments) != page.total else ""
    note(f"{page.total} attachment{'' if page.total == 1 else 's'}{some}")


def query_attachments(
    *,
    group: Group = "",
    key: Key = "",
    after: str = "",
    limit: Number = DEFAULT_PAGE,
    offset: Number = 0,
    as_of: Moment = None,
    verbose: VerboseFlag = False,
) -> None:
    """Query a list of attachments subject to the filter, in the order of their keys.

    Args:
        group: The name of the group; default: the user's own.
        key: What the keys hold anywhere, literally.
        after: Only keys behind this one: the last one that was listed before.
        limit: How many at most.
        offset: How many to leave out.
        as_of: Show what it was at a time or a position, such as '2h ago', yesterday, '2026-11-20
            14:05', 2026-11-20T14:05:00Z or 4711; default: now.
        verbose: On a terminal too with exact sizes and times, a line each.
    """
    get_attachments(
        group=group, contains=key, after=after, limit=limit, offset=offset, as_of=as_of,
        verbose=verbose,
    )  # fmt: skip


def delete_attachment(key: str, /, *, group: Group = "") -> None:
    """Delete an attachment.

    Args:
        key: The key of the attachment.
        group: The name of the group; default: the user's own.
    """
    done = with_client(lambda client: client.delete_attachment(group, key))
    where = f" of group {group}" if group else ""
    show(done, lambda: [f"Deleted attachment {printable(key)}{where}"])


def _line(view: "AttachmentView") -> str:
    from mitosis.cli.output.texts import moment

    created, updated = moment(view.created_at), moment(view.updated_at)
    return f"{view.key}, {view.size_bytes} B, Created: {created}, Updated: {updated}"


def _print_table(page: "AttachmentPage") -> None:
    from mitosis.cli.output.tables import print_table
    from mitosis.cli.output.texts import age
    from mitosis.domain.durations import format_size

    now = datetime.now(UTC)
    print_table(
        ("KEY", "SIZE", "CREATED", "UPDATED"),
        [
            (v.key, format_size(v.size_bytes), age(v.created_at, now), age(v.updated_at, now))
            for v in page.attachments
        ],
        whole=("SIZE", "CREATED", "UPDATED"),
    )
