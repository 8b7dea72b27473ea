"""The commits of a backup: compressed files of at most 100,000 commits, readable with zcat.

One commit is a line `<position> <subject> <bytes of the payload>`, the payload, and a line end.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from mitosis.errors import CorruptData
from mitosis.projections.commit import RawCommit
from mitosis.services.backup.folder import Backup, private_gzip

COMMITS_PER_FILE = 100_000
BYTES_PER_FILE = 512 * 1024 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024  # far above what a NATS server takes
_MAX_HEAD_BYTES = 2_048
_HEAD = re.compile(rb"([1-9][0-9]{0,18}) ([\x21-\x7e]{1,1024}) ([0-9]{1,9})\n")


class CommitFiles:
    """Writes commits, in order; close it, or use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists."""
        self._folder = folder
        self._stack = ExitStack()
        self._file: BinaryIO | None = None
        self._number = self._commits = self._bytes = 0

    def __enter__(self) -> "CommitFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, commits: Iterable[RawCommit]) -> None:
        """Write the next commits."""
        for position, subject, payload in commits:
            file = self._current()
            file.write(b"%d %s %d\n%s\n" % (position, subject.encode(), len(payload), payload))
            self._commits += 1
            self._bytes += len(payload)

    def _current(self) -> BinaryIO:
        full = self._commits >= COMMITS_PER_FILE or self._bytes >= BYTES_PER_FILE
        if self._file is None or full:
            self._stack.close()
            self._number += 1
            self._commits = self._bytes = 0
            path = self._folder / f"{self._number:06d}.gz"
            self._file = self._stack.enter_context(private_gzip(path))
        return self._file


def read_commits(backup: Backup) -> Iterator[RawCommit]:
    """Yield the commits of a backup: all positions from 1 to its last.

    Raises:
        CorruptData: They are not.
    """
    expected = 1
    for path in backup.commit_files():
        try:
            with gzip.open(path) as opened:
                for commit in _frames(cast(BinaryIO, opened)):
                    if commit[0] != expected:
                        raise _bad(path, f"position {commit[0]} stands where {expected} belongs")
                    expected += 1
                    yield commit
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise _bad(path, str(error)) from error
    if expected - 1 != backup.manifest.position:
        raise CorruptData(
            f"the backup {backup.path} has commits up to {expected - 1}, not up to "
            f"{backup.manifest.position}: it is incomplete; use another backup"
        )


def _frames(file: BinaryIO) -> Iterator[RawCommit]:
    while head := file.readline(_MAX_HEAD_BYTES):
        match = _HEAD.fullmatch(head)
        if match is None:
            raise ValueError(f"{head[:80]!r} is not the head of a commit")
        size = int(match[3])
        if size > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a commit of {size} bytes")
        payload = file.read(size)
        if len(payload) != size or file.read(1) != b"\n":
            raise ValueError("a commit breaks off")
        yield int(match[1]), match[2].decode(), payload


def _bad(path: Path, why: str) -> CorruptData:
    return CorruptData(
        f"the backup cannot be used: {path}: {why}. Nothing was restored; use another backup"
    )
