"""One upload: a place is asked for, the bytes go to the store, and the upload is completed.

What is not completed does not exist. An upload that the coordinator has forgotten (it was started
anew) is begun again from the start.
"""

import contextlib
import os
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from mitosis.artifacts.sending import send
from mitosis.client.session import Session
from mitosis.client.threads import Meter, Progress, in_thread, transfers
from mitosis.contract.commands import AbortUpload, Done, GetParts, PartUrls, UploadBegun
from mitosis.errors import InvalidInput, MitosisError, NotAllowed, NotFound, ObjectsUnavailable

T = TypeVar("T")

BEGINNINGS = 3  # how often one upload is begun at most
ABORT_SECONDS = 2.0


class LocalFile(NamedTuple):
    """A file as it is when its upload begins."""

    path: Path
    size_bytes: int
    modified_ns: int

    def check_unchanged(self) -> None:
        """Check that it is still the same.

        Raises:
            InvalidInput: Somebody has written to it.
        """
        if local_file(self.path) != self:
            raise InvalidInput(
                f"{self.path} was changed while it was uploaded: nothing was stored; upload it "
                "when nobody writes to it",
                field="file",
            )


def local_file(path: Path | str) -> LocalFile:
    """Look at a file that is to be uploaded.

    Raises:
        InvalidInput: It is no file, or cannot be read.
    """
    path = Path(path)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise InvalidInput(
                f"{path} is a folder: pack it into one file first, as by tar -czf", field="file"
            )
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"{path} is no regular file: its size is not known", field="file")
        if not os.access(path, os.R_OK):
            raise InvalidInput(f"{path} cannot be read: Permission denied", field="file")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="file") from error
    return LocalFile(path, found.st_size, found.st_mtime_ns)


async def upload(
    session: Session,
    file: LocalFile,
    begin: Callable[[int], Awaitable[UploadBegun]],
    complete: Callable[[UploadBegun, str], Awaitable[T]],
    progress: Progress | None = None,
) -> T:
    """Upload a file.

    Args:
        session: Who uploads.
        file: What.
        begin: Asks for a place for so many bytes.
        complete: Says that all is there, with the checksum.
        progress: Told bytes so far and bytes of all.

    Raises:
        InvalidInput: The file cannot be read, or was changed meanwhile.
        ObjectsUnavailable: The store does not take it.
        MitosisError: Whatever `begin` and `complete` raise.
    """
    sender = transfers(session.timeout_seconds, session.store_trust)
    for left in reversed(range(BEGINNINGS)):
        begun = await begin(file.size_bytes)
        try:
            digest = await send(
                sender, begun, file.path, file.size_bytes,
                partial(_part_urls, session, begun.upload), in_thread,
                Meter(file.size_bytes, progress),
            )  # fmt: skip
            file.check_unchanged()
            return await complete(begun, digest.hexdigest())
        except (NotFound, NotAllowed) as error:
            await _abort(session, begun)
            if not (begun.upload == error.details.get("upload") or "status" in error.details):
                raise  # the coordinator's answer: no such group, no role in it
            if not left:
                raise ObjectsUnavailable(error.message) from error
        except OSError as error:
            await _abort(session, begun)
            raise InvalidInput(
                f"{file.path} cannot be read: {error.strerror or error}", field="file"
            ) from error
        except BaseException:
            await _abort(session, begun)
            raise
    raise AssertionError("unreachable")


async def _part_urls(session: Session, upload: str, first: int) -> list[str]:
    return (await session.command("upload", "parts", GetParts(upload, first), PartUrls)).urls


async def _abort(session: Session, begun: UploadBegun) -> None:
    """Free what the upload reserved; what cannot be freed now is free when it expires."""
    import asyncio

    with contextlib.suppress(MitosisError, TimeoutError):
        async with asyncio.timeout(ABORT_SECONDS):
            await session.command("upload", "abort", AbortUpload(begun.upload), Done)
