"""The bytes of one packed file: those that are there, without the holes.

A file with much less on disk than its length (a disk image, a preallocated capture) is stored in
the sparse form 1.0 of GNU tar, which `tar` and Python's `tarfile` read: a map of the pieces, then
the pieces. https://www.gnu.org/software/tar/manual/html_node/PAX-1.html
"""

import errno
import io
import os
import tarfile
from collections.abc import Callable
from typing import Protocol

LEAST_HOLES_BYTES = 1 << 20  # below this the plain form costs nothing
LEAST_GAP_BYTES = 64 * 1024  # pieces that lie closer are one
MAX_PIECES = 20_000
_BLOCK = 512

Piece = tuple[int, int]
"""Offset and length, in bytes."""


class PackingStopped(Exception):
    """The caller's `stop` said so; nothing is left on disk."""


def pieces_of(fd: int, size: int, on_disk_bytes: int) -> list[Piece] | None:
    """Return the pieces of a file that has holes worth leaving out, or None.

    Args:
        fd: The open file.
        size: Its length.
        on_disk_bytes: What it takes on disk.
    """
    if size - on_disk_bytes < LEAST_HOLES_BYTES:
        return None
    pieces: list[Piece] = []
    at = 0
    try:
        while at < size:
            begin = os.lseek(fd, at, os.SEEK_DATA) // _BLOCK * _BLOCK
            end = os.lseek(fd, max(at, begin), os.SEEK_HOLE)
            at = min(-(-end // _BLOCK) * _BLOCK, size)
            if pieces and begin - sum(pieces[-1]) < LEAST_GAP_BYTES:
                begin = pieces.pop()[0]
            pieces.append((begin, at - begin))
            if len(pieces) > MAX_PIECES:
                return None
    except OSError as error:
        if error.errno != errno.ENXIO:  # the file system cannot tell
            return None
    if size - sum(length for _, length in pieces) < LEAST_HOLES_BYTES:
        return None
    return [*pieces, (size, 0)]  # how GNU tar learns of a hole at the end


class FileContent(io.RawIOBase):
    """Reads exactly the promised bytes: the header of a member cannot be changed any more.

    A file that grows is cut, one that shrinks or fails is filled with zeros; `short` then says why.

    Attributes:
        size: How many bytes there are.
    """

    def __init__(
        self, fd: int, pieces: list[Piece], stop: Callable[[], bool], head: bytes = b""
    ) -> None:
        """`head` comes before the pieces."""
        self._fd, self._pieces, self._stop, self._head = fd, pieces, stop, head
        self.size = len(head) + sum(length for _, length in pieces)
        self.short = ""

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer only at the end. Raises PackingStopped."""
        if self._stop():
            raise PackingStopped
        left = self.size if size < 0 else size
        parts = [self._head[:left]]
        self._head = self._head[left:]
        left -= len(parts[0])
        while left and self._pieces:
            offset, length = self._pieces[0]
            wanted = min(left, length)
            parts.append(self._read(offset, wanted))
            left -= wanted
            if wanted < length:
                self._pieces[0] = offset + wanted, length - wanted
            else:
                del self._pieces[0]
        return b"".join(parts)

    def _read(self, offset: int, wanted: int) -> bytes:
        data = bytearray()
        while len(data) < wanted and not self.short:
            try:
                part = os.pread(self._fd, wanted - len(data), offset + len(data))
            except OSError as error:
                self.short = f"could not be read to its end ({os.strerror(error.errno or 0)})"
                break
            if not part:
                self.short = "shrank while it was packed"
            data += part
        return bytes(data) + bytes(wanted - len(data))


class Filter(Protocol):
    """What bytes pass on their way into an archive; it gives as many as it gets."""

    def feed(self, data: bytes) -> bytes:
        """Return what is ready."""

    def end(self) -> bytes:
        """Return the rest."""


class Filtered(io.RawIOBase):
    """Content that has passed a filter."""

    def __init__(self, content: FileContent, through: Filter) -> None:
        self._content, self._through = content, through
        self._ready = bytearray()
        self._ended = False

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer only at the end. Raises PackingStopped."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            data = self._content.read(size)
            self._ready += self._through.feed(data) if data else self._through.end()
            self._ended = not data
        count = len(self._ready) if size < 0 else size
        part = bytes(self._ready[:count])
        del self._ready[:count]
        return part


def content_of(
    fd: int, status: os.stat_result, header: tarfile.TarInfo, stop: Callable[[], bool]
) -> FileContent:
    """Return the content of an open file, and complete the header of its member."""
    pieces = pieces_of(fd, status.st_size, status.st_blocks * 512)  # POSIX: in units of 512
    if pieces is None:
        content = FileContent(fd, [(0, status.st_size)], stop)
    else:
        lines = [len(pieces), *(number for piece in pieces for number in piece)]
        head = "".join(f"{number}\n" for number in lines).encode()
        content = FileContent(fd, pieces, stop, head + bytes(-len(head) % _BLOCK))
        folder, _, name = header.name.rpartition("/")
        placeholder = f"{folder}/GNUSparseFile.0/{name}"
        # `tarfile` writes the path behind these where it does not fit, and, as the last one, it
        # would be read as the name.
        fits = placeholder.isascii() and len(placeholder) <= tarfile.LENGTH_NAME
        header.pax_headers = {
            **({} if fits else {"path": placeholder}),
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": header.name,
            "GNU.sparse.realsize": str(status.st_size),
        }
        header.name = placeholder
    header.size = content.size
    return content
