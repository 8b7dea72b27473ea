"""Unpacking an archive that somebody else made, so that nothing outside the target is touched.

Written here and not left to `tarfile`'s filter: Python 3.11 before 3.11.4 has none, and it has no
bound on size or number.
"""

import contextlib
import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

import msgspec

from mitosis.artifacts.content import Piece
from mitosis.artifacts.target import Parts, Target
from mitosis.errors import CorruptData, TooLarge

MAX_BYTES = 1 << 40
MAX_MEMBERS = 1_000_000
MAX_SKIPPED = 100
MAX_HELD_BYTES = 256 << 20  # of the names of folders and links, which are known until the end
_CHUNK = 1 << 20
_MAX_HEADER_BYTES = 4 << 20
_MAX_LINK_BYTES = 4_095  # Linux: PATH_MAX, with its final NUL
_MAX_NAME_BYTES = 255  # Linux: NAME_MAX
_MAX_SHOWN = 1_000
_MAX_PADDING_BYTES = 1 << 20


class Unpacked(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        members: Files, folders and links.
        size_bytes: Of the files, without holes.
        skipped: What was left out, the first hundred: links that lead out, hard links, special
            files. Bytes that are no UTF-8 are escaped.
        skipped_count: How many were left out.
    """

    members: int
    size_bytes: int
    skipped: tuple[str, ...] = ()
    skipped_count: int = 0


class UnpackingStopped(Exception):
    """Somebody wants it to end; the caller removes what was unpacked so far."""


def _never() -> bool:
    return False


def unpack(
    archive: Path,
    target: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    stop: Callable[[], bool] = _never,
) -> Unpacked:
    """Unpack a gzip tar into a folder, which is made if needed.

    Files that exist already are not overwritten. Set-uid bits and owners are ignored. Links are
    made last, so no member is ever written through one; those that lead out of the target are
    skipped.

    Raises:
        CorruptData: No such archive, damaged, or with a name that leads out of the target.
        TooLarge: More bytes, members or folders in each other than allowed.
        FileExistsError: A member exists in the target already.
        OSError: The target cannot be written.
        UnpackingStopped: `stop` returned True.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive, "rb") as stream:
            reader = _HeaderBound(stream)
            with tarfile.open(fileobj=reader, mode="r:", errors="surrogateescape") as tar:
                with contextlib.closing(Target(target)) as inside:
                    unpacked = _Unpacking(inside, max_bytes, max_members, stop).run(tar, reader)
                _check_end(tar, reader)
                return unpacked
    # A chain of extended headers is read by recursion, and neither numbers nor lengths are checked.
    except (
        tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RecursionError, ValueError,
        IndexError,
    ) as error:  # fmt: skip
        raise CorruptData(f"{archive} is damaged or no gzip tar: {error}") from error


class _HeaderBound(io.RawIOBase):
    """Refuses reads larger than any honest header, which `tarfile` would hold in memory.

    All that belongs to the header of one member counts together, as its map of holes, which is read
    in small pieces.
    """

    def __init__(self, stream: BinaryIO | gzip.GzipFile) -> None:
        self._stream = stream
        self._left: int | None = _MAX_HEADER_BYTES

    def next_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Read the header of the next member.

        Raises:
            TooLarge: It is larger than any honest one.
        """
        self._left = _MAX_HEADER_BYTES
        member = tar.next()
        self._left = None
        return member

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        left = _MAX_HEADER_BYTES if self._left is None else self._left
        if not 0 <= size <= left:
            raise TooLarge(
                f"a header of the archive has more than {_MAX_HEADER_BYTES} bytes",
                limit=_MAX_HEADER_BYTES,
            )
        if self._left is not None:
            self._left -= size
        return self._stream.read(size)


def _check_end(tar: tarfile.TarFile, reader: _HeaderBound) -> None:
    """Tell an end from damage, for which `tarfile` only stops when it comes after a member.

    Raises:
        CorruptData: The archive does not end as it should.
    """
    reader.seek(tar.offset)
    if reader.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise CorruptData(f"the archive is damaged, or was cut, behind byte {tar.offset}")
    reader.read(_MAX_PADDING_BYTES)  # up to the checksum of gzip, which is looked at there


def pieces_of(member: tarfile.TarInfo) -> list[Piece]:
    """Return where the content of a member is, without its holes."""
    # The published types are wrong about it: it is a list of (offset, length).
    return cast("list[Piece] | None", member.sparse) or [(0, member.size)]


class _Unpacking:
    def __init__(
        self, target: Target, max_bytes: int, max_members: int, stop: Callable[[], bool]
    ) -> None:
        self._stop = stop
        self._left_out = 0
        self._target = target
        self._bytes_left, self._members_left = max_bytes, max_members
        self._held_left = MAX_HELD_BYTES
        self._size, self._members = 0, 0
        self._links: list[tuple[Parts, str]] = []
        self._modes: list[tuple[Parts, int]] = []
        self._skipped: list[str] = []

    def run(self, tar: tarfile.TarFile, reader: _HeaderBound) -> Unpacked:
        while (member := reader.next_member(tar)) is not None:
            tar.members = []  # type: ignore[attr-defined]  # else every header stays in memory
            _check_words_for_all(tar)
            self._one(tar, member)
        # Folders get their modes when nothing is written to them any more, but for links.
        for parts, mode in reversed(self._modes):
            os.fchmod(self._target.make_folder(parts), mode)
        for parts, link in self._links:
            self._target.new_link(parts, link)
        return Unpacked(self._members, self._size, tuple(self._skipped), self._left_out)

    def _one(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        if self._stop():
            raise UnpackingStopped
        # Of a file with holes: `tarfile` takes the name that stands last.
        member.name = member.pax_headers.get("GNU.sparse.name", member.name)
        self._members_left -= 1
        if self._members_left < 0:
            raise TooLarge(f"the archive has more members than allowed ({self._members})")
        if member.size < 0:  # would also have the next header looked for further in front
            raise CorruptData(f"the archive has a member of {member.size} bytes")
        self._bytes_left -= member.size
        if self._bytes_left < 0:
            raise TooLarge(f"the archive has more bytes than allowed, at {_shown(member)}")
        if member.isdir() and not PurePosixPath(member.name).parts:
            return  # the target itself, in archives made by `tar -c .`
        parts = _inside(member)
        mode = (member.mode & 0o755) | 0o600
        if member.isdir():
            self._target.make_folder(parts)
            self._hold(member.name)
            self._modes.append((parts, mode | 0o700))
        elif member.isreg():
            self._write(tar, member, parts, mode)
        elif member.issym() and self._leads_inside(member):
            self._target.make_folder(parts[:-1])
            self._hold(member.name, member.linkname)
            self._links.append((parts, member.linkname))
        else:
            self._left_out += 1
            if len(self._skipped) < MAX_SKIPPED:
                self._skipped.append(_readable(member.name))
            return
        self._members += 1

    def _hold(self, *names: str) -> None:
        self._held_left -= sum(map(len, names))
        if self._held_left < 0:
            raise TooLarge(
                f"the names of folders and links in the archive have more than {MAX_HELD_BYTES} "
                "bytes together",
                limit=MAX_HELD_BYTES,
            )

    @staticmethod
    def _leads_inside(member: tarfile.TarInfo) -> bool:
        if member.linkname.startswith("/") or not member.linkname or "\0" in member.linkname:
            return False
        if len(os.fsencode(member.linkname)) > _MAX_LINK_BYTES:
            return False
        # Counted without resolving: a link on the way could make `..` mean something else, so the
        # way up may not pass through more folders than the member's own name has.
        depth = len(PurePosixPath(member.name).parts) - 1
        seen_name = False
        for part in PurePosixPath(member.linkname).parts:
            if part == "..":
                depth -= 1
                if seen_name or depth < 0:
                    return False
            else:
                seen_name = True
        return True

    def _write(
        self, tar: tarfile.TarFile, member: tarfile.TarInfo, parts: Parts, mode: int
    ) -> None:
        content = tar.extractfile(member)
        if content is None:
            raise CorruptData(f"the archive has no content for {_shown(member)}")
        with content, os.fdopen(self._target.new_file(parts, mode), "wb") as target:
            end = 0
            for offset, length in pieces_of(member):
                if offset < end or length < 0:
                    raise CorruptData(f"the archive has a wrong map of holes: {_shown(member)}")
                end = offset + length
                content.seek(offset)
                target.seek(offset)
                self._copy(content, target, length)
            target.truncate(member.size)  # a hole at the end

    def _copy(self, content: IO[bytes], target: IO[bytes], length: int) -> None:
        while length:
            if self._stop():
                raise UnpackingStopped
            chunk = content.read(min(_CHUNK, length))
            if not chunk:
                raise CorruptData("the archive ends inside a file")
            target.write(chunk)
            length -= len(chunk)
            self._size += len(chunk)


def _check_words_for_all(tar: tarfile.TarFile) -> None:
    """Bound the headers that hold for all members that follow: `tarfile` collects them.

    Raises:
        TooLarge: There is more than any honest archive says.
    """
    words = tar.pax_headers
    if sum(len(word) + len(value) for word, value in words.items()) > _MAX_HEADER_BYTES:
        raise TooLarge(
            f"the archive has headers for all its members of more than {_MAX_HEADER_BYTES} bytes",
            limit=_MAX_HEADER_BYTES,
        )


def _readable(name: str) -> str:
    return os.fsencode(name)[:_MAX_SHOWN].decode(errors="backslashreplace")


def _shown(member: tarfile.TarInfo) -> str:
    return repr(member.name[:_MAX_SHOWN])


def _inside(member: tarfile.TarInfo) -> Parts:
    name = member.name
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise CorruptData(f"the archive has a member named {_shown(member)}, which leads out of it")
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in parts):
        raise CorruptData(
            f"the archive has a member with a name of more than {_MAX_NAME_BYTES} bytes: "
            f"{_shown(member)}"
        )
    return parts
