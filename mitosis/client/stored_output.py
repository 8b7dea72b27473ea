"""Output of an attempt that has ended, from where it was stored.

The whole of it is in the std-log output, if the task collected it; else the last bytes of each
stream stand with the way it ended.
"""

import asyncio
import logging
import tarfile
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mitosis.client.artifacts import Artifacts
from mitosis.contract.output import MAX_BACKLOG_BYTES
from mitosis.contract.queries import TaskView
from mitosis.domain.task import ArtifactKind
from mitosis.errors import CorruptData, NotFound, ObjectsUnavailable

log = logging.getLogger(__name__)

PIECE_BYTES = MAX_BACKLOG_BYTES
MARK_BYTES = 200  # of the line in a log above its cap that says what is left out
REPLACED = "\ufffd"


class StoredPiece(NamedTuple):
    """Bytes of a stream; `skipped_bytes` before them are not kept."""

    stream: str
    offset: int
    data: bytes
    skipped_bytes: int = 0


async def stored_output(
    artifacts: Artifacts, view: TaskView, begin: Mapping[str, int]
) -> AsyncIterator[StoredPiece]:
    """Yield what is stored of each wanted stream from an offset on.

    A negative offset counts from the end, which is -1; then nothing counts as skipped.

    Args:
        artifacts: To download from.
        view: The task, ended.
        begin: Where each wanted stream begins.
    """
    if view.exit is None:
        return
    usage = view.exit.usage
    sizes = {"stdout": usage.stdout_bytes, "stderr": usage.stderr_bytes}
    wanted = {stream: at for stream, at in begin.items() if at != -1 and at < sizes[stream]}
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="mito-follow-") as folder:
        archive = await _download(artifacts, view, Path(folder))
        for stream, at in wanted.items():
            async for piece in _in_thread(_of_stream(view, archive, stream, at, sizes[stream])):
                yield piece if at >= 0 else piece._replace(skipped_bytes=0)


def last_lines(data: bytes, count: int) -> bytes:
    """Return the last lines of some bytes; one without an end of line counts."""
    end = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(count):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return data
    return data[end + 1 :]


async def _download(artifacts: Artifacts, view: TaskView, folder: Path) -> Path | None:
    """Return the std-log output; None when there is none, or none that can be had."""
    wanted = [one.sha256 for one in view.artifacts if one.kind is ArtifactKind.STD_LOG]
    if not wanted:
        return None
    try:
        done = await artifacts.download(view.uuid, ArtifactKind.STD_LOG, folder)
    except (NotFound, ObjectsUnavailable, CorruptData) as error:
        # How the task ended is known all the same; what is missing is said as skipped.
        log.warning("the stored output of %s cannot be had: %s", view.uuid, error)
        return None
    # A later attempt may have ended meanwhile: that would be its output.
    return Path(done.path or "") if [done.sha256] == wanted else None


def _of_stream(
    view: TaskView, archive: Path | None, stream: str, at: int, size: int
) -> Iterator[StoredPiece]:
    if archive is not None:
        try:
            yield from _of_log(archive, stream, at, size)
        except (tarfile.TarError, EOFError, OSError, zlib.error, KeyError) as error:
            # Users may replace an output by any file.
            log.warning("the stored output of %s cannot be read: %s", view.uuid, error)
        else:
            return
    yield from _of_tail(view, stream, at if at >= 0 else max(0, size + 1 + at), size)


def _of_log(archive: Path, stream: str, at: int, size: int) -> Iterator[StoredPiece]:
    """Read on in the file of a stream. One above its cap says inside what is left out."""
    with tarfile.open(archive) as packed:
        member = packed.getmember(f"std-log/{stream}.log")
        file = packed.extractfile(member)
        if file is None:
            raise KeyError(stream)
        place = at if at >= 0 else max(0, member.size + 1 + at)
        if place >= member.size:
            yield StoredPiece(stream, size, b"", max(0, size - place))
            return
        file.seek(place)
        left = size + MARK_BYTES - place
        while left > 0 and (data := file.read(min(PIECE_BYTES, left))):
            yield StoredPiece(stream, place, data)
            place += len(data)
            left -= len(data)


def _of_tail(view: TaskView, stream: str, offset: int, size: int) -> Iterator[StoredPiece]:
    """Return what is kept of the end. It is text: bytes that were none cannot be counted."""
    assert view.exit is not None  # noqa: S101  asked before
    text = view.exit.stdout_tail if stream == "stdout" else view.exit.stderr_tail
    data = text.encode()
    start = max(0, size - len(data))
    if offset > start and REPLACED not in text:
        data, start = data[offset - start :], offset
    elif offset > start:
        data, start = b"", size
    yield StoredPiece(stream, start, data, start - offset)


async def _in_thread(pieces: Iterator[StoredPiece]) -> AsyncIterator[StoredPiece]:
    """Read a file without holding up the loop."""
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            return
        yield piece
