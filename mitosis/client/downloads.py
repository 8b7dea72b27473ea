"""Downloads by presigned URLs: to a file that appears under its name only when whole and right."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from mitosis.artifacts.transfer import Transfers
from mitosis.artifacts.unpack import Unpacked
from mitosis.client.threads import Meter, Progress, in_thread
from mitosis.errors import InvalidInput, NotAllowed, NotFound, ObjectsUnavailable

LINKS = 3  # how many URLs are asked for: one may expire, or its object may be replaced meanwhile


class Downloaded(msgspec.Struct):
    """What came of a download: the file, or only the URL when that was wanted (a secret).

    Attributes:
        size_bytes, sha256: Of what was stored.
        path: The file, or the folder that an archive was unpacked to.
        extracted: What was unpacked, when that was wanted.
    """

    size_bytes: int
    sha256: str
    path: str | None = None
    url: str | None = None
    extracted: Unpacked | None = None

    def __repr__(self) -> str:
        return f"Downloaded(path={self.path!r}, size_bytes={self.size_bytes})"


class Link(Protocol):
    """Where a file is, and what it must be."""

    @property
    def url(self) -> str:
        """Presigned GET."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of all."""
        ...

    @property
    def sha256(self) -> str:
        """Checksum in hexadecimal form."""
        ...


def target_path(output: Path | str | None, filename: str) -> Path:
    """Return the file to write: in a folder under its usual name, else exactly `output`.

    Raises:
        InvalidInput: The folder does not exist, or what is there is no file.
    """
    target = Path(output) if output is not None else Path()
    if target.is_dir():
        target /= filename
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent}: make it first", field="output")
    if target.exists() and not target.is_file():
        raise InvalidInput(f"{target} is no file that could be replaced", field="output")
    return target


async def download(
    transfers: Transfers,
    find: Callable[[], Awaitable[Link]],
    target: Path,
    progress: Progress | None = None,
) -> Downloaded:
    """Fetch a file. The target is replaced at once, only by the right file.

    Args:
        transfers: How hard it is tried.
        find: Asks for a link; asked again when one has expired or its object was replaced.
        target: The file.
        progress: Told bytes so far and bytes of all.

    Raises:
        ObjectsUnavailable: The store does not answer, refuses, or stops half-way; try again.
        CorruptData: Size or checksum differ from what was stored.
        InvalidInput: The file cannot be written.
        MitosisError: Whatever `find` raises.
    """
    for left in reversed(range(LINKS)):
        link = await find()
        try:
            await _fetch(transfers, link, target, progress)
        except (NotAllowed, NotFound) as error:
            if not left:
                raise ObjectsUnavailable(error.message) from error
        except OSError as error:
            raise InvalidInput(
                f"{target} cannot be written: {error.strerror or error}", field="output"
            ) from error
        else:
            return Downloaded(link.size_bytes, link.sha256, str(target))
    raise AssertionError("unreachable")


async def _fetch(transfers: Transfers, link: Link, target: Path, progress: Progress | None) -> None:
    meter = Meter(link.size_bytes, progress)
    await in_thread(
        lambda stop: transfers.download(
            link.url,
            target,
            sha256=link.sha256,
            size_bytes=link.size_bytes,
            progress=meter,
            stop=stop,
        )
    )
