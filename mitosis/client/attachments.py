"""Attachments: files of groups under keys, moved directly between here and the store."""

from collections.abc import AsyncIterator
from pathlib import Path

from mitosis.client.downloads import Downloaded, download, target_path
from mitosis.client.session import Session
from mitosis.client.threads import Progress, transfers
from mitosis.client.uploads import local_file, upload
from mitosis.config.client import GetAttachmentsArgs
from mitosis.contract.commands import (
    BeginAttachment,
    CompleteAttachment,
    DeleteAttachment,
    Done,
    UploadBegun,
    UploadedAttachment,
)
from mitosis.contract.queries import (
    AttachmentLink,
    AttachmentPage,
    AttachmentView,
    GetAttachment,
    ListAttachments,
)
from mitosis.domain.attachment import check_key
from mitosis.domain.limits import MAX_PAGE
from mitosis.domain.moments import checked_moment
from mitosis.domain.names import check_name


class Attachments:
    """Commands and reads about files of groups. `group` empty: the user's own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def upload(
        self, path: Path | str, key: str = "", group: str = "", progress: Progress | None = None
    ) -> UploadedAttachment:
        """Store a file under a key; what was there is replaced, for everybody at once.

        Args:
            path: The file, of any size up to 5 TiB.
            key: Empty: the name of the file. With a slash at its end the name is added.
            group: Needs Write in it.
            progress: Told bytes so far and bytes of all, in a thread.

        Raises:
            InvalidInput: No key can be so, or the file cannot be read or was changed meanwhile.
            NotFound: No such group. NotAllowed: No Write role in it.
            LimitReached: The group's quota has no room for it.
            ObjectsUnavailable: The store does not take it.
        """
        file = local_file(path)
        name = key + file.path.name if not key or key.endswith("/") else key
        _check(group, name)

        async def begin(size_bytes: int) -> UploadBegun:
            body = BeginAttachment(name, size_bytes, group)
            return await self._session.command("attachment", "begin", body, UploadBegun)

        async def complete(begun: UploadBegun, sha256: str) -> UploadedAttachment:
            body = CompleteAttachment(begun.upload, begun.group, name, sha256)
            return await self._session.command("attachment", "complete", body, UploadedAttachment)

        return await upload(self._session, file, begin, complete, progress)

    async def link(self, group: str, key: str) -> AttachmentLink:
        """Return a URL that is good for a while, with size and checksum. The URL is a secret.

        Raises:
            NotFound: No such group, or no such file in it. NotAllowed: No role in the group.
        """
        _check(group, key)
        body = GetAttachment(key, group)
        return await self._session.query("attachment", "get", body, AttachmentLink)

    async def get(
        self,
        group: str,
        key: str,
        output: Path | str | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Download a file.

        Args:
            group: Needs Read in it.
            key: Its key.
            output: A file, or a folder that gets the last part of the key; None: here.
            progress: Told bytes so far and bytes of all, in a thread.

        Returns:
            The file, complete and with the right checksum. An error leaves what was there before.

        Raises:
            NotFound: No such group, or no such file in it. NotAllowed: No role in the group.
            ObjectsUnavailable: The store does not give it.
            CorruptData: What the store gave is not what was uploaded.
            InvalidInput: The file cannot be written.
        """
        done = await self.download(group, key, output, progress)
        return Path(done.path or "")

    async def download(
        self,
        group: str,
        key: str,
        output: Path | str | None = None,
        progress: Progress | None = None,
    ) -> Downloaded:
        """Do the same as `get`; return also size and checksum."""
        _check(group, key)
        target = target_path(output, key.rpartition("/")[2])
        carrier = transfers(self._session.timeout_seconds, self._session.store_trust)
        return await download(carrier, lambda: self.link(group, key), target, progress)

    async def meta(self, group: str, key: str) -> AttachmentView:
        """Return size, checksum and times of a file.

        Raises:
            NotFound: No such group, or no such file in it. NotAllowed: No role in the group.
        """
        _check(group, key)
        body = GetAttachment(key, group)
        return await self._session.query("attachment", "meta", body, AttachmentView)

    async def list(self, args: GetAttachmentsArgs | None = None) -> AttachmentPage:
        """Return files in the order of the bytes of their keys, as many as `limit` says.

        Raises:
            NotFound: No such group. NotAllowed: No role in it.
            InvalidInput: A filter that cannot be. LimitReached: Too much has changed since `as_of`.
        """
        wanted = args or GetAttachmentsArgs()
        page = await self._page(wanted, wanted.after, wanted.limit, wanted.offset)
        while page.next is not None and len(page.attachments) < wanted.limit:
            # One answer is bounded in bytes.
            left = wanted.limit - len(page.attachments)
            more = await self._page(wanted, page.next, left, 0)
            page = AttachmentPage(page.attachments + more.attachments, page.total, more.next)
        return page

    async def each(self, args: GetAttachmentsArgs | None = None) -> AsyncIterator[AttachmentView]:
        """Yield every file that matches, whatever `limit` says.

        None is repeated or left out while others are stored and deleted meanwhile.
        """
        wanted = args or GetAttachmentsArgs()
        page = await self._page(wanted, wanted.after, MAX_PAGE, wanted.offset)
        while True:
            for view in page.attachments:
                yield view
            if page.next is None:
                return
            page = await self._page(wanted, page.next, MAX_PAGE, 0)

    async def delete(self, group: str, key: str) -> Done:
        """Delete a file; its bytes go back to the group's quota.

        Raises:
            NotFound: No such group, or no such file in it. NotAllowed: No Write role in the group.
        """
        _check(group, key)
        return await self._session.command(
            "attachment", "delete", DeleteAttachment(key, group), Done
        )

    async def _page(
        self, wanted: GetAttachmentsArgs, after: str, limit: int, offset: int
    ) -> AttachmentPage:
        body = ListAttachments(
            group=wanted.group, prefix=wanted.prefix, contains=wanted.contains, after=after,
            limit=limit, offset=offset, as_of=checked_moment(wanted.as_of),
        )  # fmt: skip
        return await self._session.query("attachment", "list", body, AttachmentPage)


def _check(group: str, key: str) -> None:
    if group:
        check_name(group, "group")
    check_key(group or "?", key)
