"""The folder of a backup: its layout, its manifest, and what is checked before it is believed.

    backup.json            what is in it, with a checksum of each file below; written last
    commits/000001.gz ...  every commit of the stream, in order (commits.py)
    objects.jsonl.gz       one line an object: bucket, name, size, checksum
    objects/ab/<sha256>    the bytes of objects; equal ones once
    secrets/               keys, passwords and settings

Everything in it is for its owner only (0700, 0600). It is made under the name `<folder>.partial`
and renamed when it is whole, so that a folder of the wanted name is a whole backup. A second try
finds the objects of the first in the partial folder and does not fetch them again.
"""

import gzip
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from mitosis._version import __version__
from mitosis.artifacts.copies import Copied, digest_of
from mitosis.errors import AlreadyExists, CorruptData, InvalidInput, NotFound
from mitosis.nats.server_config import write_private
from mitosis.services.backup.inventory import NamedObject

FORMAT = 1
MANIFEST = "backup.json"
INDEX = "objects.jsonl.gz"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_SECRET_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 8_192

ABSENT, DAMAGED = "absent", "damaged"

_FILE = re.compile(r"commits/[0-9]{6}\.gz|objects\.jsonl\.gz|secrets/[a-z_]{1,40}(\.[a-z]{1,8})?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class File(msgspec.Struct, frozen=True):
    """One file of the backup, by its path in the folder."""

    path: str
    size_bytes: int
    sha256: str


class Missing(msgspec.Struct, frozen=True):
    """An object that an event names, and that the store does not have as the event says.

    `reason`: `absent`, or `damaged` when its bytes are others than were uploaded.
    """

    bucket: str
    name: str
    reason: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds.

    Attributes:
        format: Of the folder; a newer one is refused.
        made_by: Version of Mitosis.
        made_at: UTC.
        stream: Name of the stream.
        position: It has all commits up to here.
        digest: Of the commit at this position.
        objects, object_bytes: How many objects of S3, and their size together.
        files: All other files.
        missing: Objects that could not be had.
    """

    format: int
    made_by: str
    made_at: datetime
    stream: str
    position: int
    digest: str
    objects: int
    object_bytes: int
    files: tuple[File, ...]
    missing: tuple[Missing, ...] = ()


class StoredCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the index: an object and where its bytes are."""

    bucket: str
    name: str
    size_bytes: int
    sha256: str


_decode_copy = msgspec.json.Decoder(StoredCopy).decode


class NewBackup:
    """A backup that is being made; `finish` gives it its name."""

    def __init__(self, path: Path) -> None:
        """Prepare the partial folder; what an earlier try has fetched stays.

        Raises:
            AlreadyExists: There is something under the wanted name.
            InvalidInput: The folder cannot be made.
        """
        self.path = path.expanduser().absolute()
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        if os.path.lexists(self.path):
            raise AlreadyExists(f"{self.path} exists: a backup gets a folder of its own")
        try:
            self.partial.mkdir(mode=0o700, exist_ok=True)
            mode = self.partial.lstat()
            if not stat.S_ISDIR(mode.st_mode) or mode.st_uid != os.geteuid():
                raise InvalidInput(f"{self.partial} is not a folder of yours: remove it")
            self.partial.chmod(0o700)
            for name in ("commits", "secrets"):
                shutil.rmtree(self.partial / name, ignore_errors=True)
                (self.partial / name).mkdir(mode=0o700)
            (self.partial / "objects").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InvalidInput(
                f"{self.partial} cannot be made: {error.strerror or error}"
            ) from error

    def object_path(self, sha256: str) -> Path:
        """Where the bytes with this checksum lie; the folder is made."""
        folder = self.partial / "objects" / sha256[:2]
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / sha256

    def has_object(self, sha256: str, size_bytes: int) -> bool:
        """Whether an earlier try has fetched these bytes; they are read to be sure."""
        path = self.object_path(sha256)
        try:
            return digest_of(path) == Copied(size_bytes, sha256)
        except OSError:
            return False

    def write_index(self, copies: Iterable[StoredCopy]) -> None:
        """Write where the bytes of each object are."""
        with private_gzip(self.partial / INDEX) as file:
            for copy in copies:
                file.write(msgspec.json.encode(copy) + b"\n")

    def write_secret(self, name: str, content: bytes) -> None:
        """Keep a file that a platform needs and nobody else may read."""
        write_private(self.partial / "secrets" / name, content.decode())

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and give the folder its name.

        Raises:
            AlreadyExists: Somebody else has taken the name meanwhile.
        """
        kept = {copy.sha256 for copy in read_index(self.partial)}
        for path in (self.partial / "objects").glob("*/*"):
            if path.name not in kept:  # of an earlier try, or broken off
                path.unlink()
        files = tuple(self._files())
        whole = msgspec.structs.replace(manifest, files=files)
        write_private(self.partial / MANIFEST, msgspec.json.encode(whole).decode() + "\n")
        if os.path.lexists(self.path):
            raise AlreadyExists(f"{self.path} exists: the backup stays in {self.partial}")
        self.partial.rename(self.path)
        _sync_folder(self.path.parent)

    def _files(self) -> Iterator[File]:
        paths = [*(self.partial / "commits").iterdir(), *(self.partial / "secrets").iterdir()]
        for path in sorted([*paths, self.partial / INDEX]):
            copied = digest_of(path)
            name = path.relative_to(self.partial).as_posix()
            yield File(name, copied.size_bytes, copied.sha256)


class Backup:
    """A backup that is there. Nothing in it is believed before `open` and `check` have passed."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Use `open` instead."""
        self.path, self.manifest = path, manifest

    @classmethod
    def open(cls, path: Path) -> "Backup":
        """Read the manifest and compare every file that it names with its checksum.

        Raises:
            NotFound: There is no backup, or one that was never finished.
            CorruptData: It is damaged, incomplete, or not what `mito backup` writes.
        """
        path = path.expanduser().absolute()
        if not (path / MANIFEST).exists():
            partial = path.name.endswith(".partial") and path.is_dir()
            why = "it was never finished: run `mito backup` again" if partial else "no backup.json"
            raise NotFound(f"{path} is not a backup ({why})")
        manifest = _manifest(_bounded(path / MANIFEST, MAX_MANIFEST_BYTES), path)
        found = cls(path, manifest)
        found._check_files()
        return found

    def _check_files(self) -> None:
        names = [file.path for file in self.manifest.files]
        if len(set(names)) != len(names) or not all(_FILE.fullmatch(name) for name in names):
            raise _damaged(self.path, "its list of files has names that no backup has")
        numbers = sorted(name for name in names if name.startswith("commits/"))
        if numbers != [f"commits/{n:06d}.gz" for n in range(1, len(numbers) + 1)]:
            raise _damaged(self.path, "files of commits are missing in its list")
        if INDEX not in names:
            raise _damaged(self.path, f"its list lacks {INDEX}")
        for file in self.manifest.files:
            self._check_file(file)

    def _check_file(self, file: File) -> None:
        try:
            copied = digest_of(self._inside(file.path))
        except OSError as error:
            raise _damaged(self.path, f"{file.path}: {error.strerror or error}") from error
        if copied != Copied(file.size_bytes, file.sha256):
            raise _damaged(self.path, f"{file.path} is not what it was: another size or checksum")

    def _inside(self, name: str) -> Path:
        """A path in the folder, none of whose parts is a link that leads elsewhere."""
        path = self.path / name
        for folder in path.parents:
            if folder == self.path:
                break
            if folder.is_symlink():
                raise OSError(0, f"{folder} is a link")
        return path

    def commit_files(self) -> list[Path]:
        """The files of commits, in order."""
        names = (file.path for file in self.manifest.files if file.path.startswith("commits/"))
        return [self.path / name for name in sorted(names)]

    def copies(self) -> Iterator[StoredCopy]:
        """Where the bytes of each object are.

        Raises:
            CorruptData: A line that no backup has.
        """
        return read_index(self.path)

    def object_path(self, copy: StoredCopy) -> Path:
        """The file with the bytes of an object."""
        return self._inside(f"objects/{copy.sha256[:2]}/{copy.sha256}")

    def check_object(self, copy: StoredCopy) -> None:
        """Read the bytes of an object.

        Raises:
            CorruptData: They are missing, or not what they were.
        """
        try:
            found = digest_of(self.object_path(copy))
        except OSError as error:
            reason = error.strerror or error
            raise _damaged(self.path, f"the object {copy.name}: {reason}") from error
        if found != Copied(copy.size_bytes, copy.sha256):
            raise _damaged(self.path, f"the bytes of the object {copy.name} are not what they were")

    def secrets(self) -> dict[str, bytes]:
        """Names and contents of the secret files."""
        names = [f.path for f in self.manifest.files if f.path.startswith("secrets/")]
        return {
            name.partition("/")[2]: _bounded(self.path / name, MAX_SECRET_BYTES) for name in names
        }


def new_manifest(
    made_at: datetime, stream: str, position: int, digest: str,
    copies: Iterable[StoredCopy], missing: Iterable[Missing],
) -> Manifest:  # fmt: skip
    """Return the manifest of a backup of this version; its files are added by `finish`."""
    kept = list(copies)
    return Manifest(
        FORMAT, __version__, made_at, stream, position, digest,
        len(kept), sum(copy.size_bytes for copy in kept), (), tuple(missing),
    )  # fmt: skip


def read_index(folder: Path) -> Iterator[StoredCopy]:
    """Yield the lines of the index of objects, each checked."""
    with gzip.open(folder / INDEX) as opened:
        file = cast(BinaryIO, opened)
        try:
            while line := file.readline(_MAX_LINE_BYTES):
                copy = _decode_copy(line)
                NamedObject(copy.bucket, copy.name, copy.size_bytes, copy.sha256).check()
                yield copy
        except (msgspec.MsgspecError, OSError, EOFError, ValueError) as error:
            raise _damaged(folder, f"{INDEX} cannot be read: {error}") from error


@contextmanager
def private_gzip(path: Path) -> Iterator[BinaryIO]:
    """Write a new compressed file for its owner only, synced at the end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0, filename="") as file:
            yield cast(BinaryIO, file)
        raw.flush()
        os.fsync(raw.fileno())


def _manifest(content: bytes, path: Path) -> Manifest:
    try:
        form = msgspec.json.decode(content, type=_Form).format
        if form > FORMAT:
            raise CorruptData(
                f"the backup {path} has format {form}, this version reads up to {FORMAT}: use "
                "the version of Mitosis that made it, or a newer one",
                format=form,
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(path, f"{MANIFEST} cannot be read: {error}") from error
    if manifest.position < 1 or not _SHA256.fullmatch(manifest.digest):
        raise _damaged(path, f"{MANIFEST} names no position")
    return manifest


class _Form(msgspec.Struct):
    format: int


def _bounded(path: Path, limit: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with BufferedReader(os.fdopen(descriptor, "rb", buffering=0)) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _damaged(path.parent, f"{path.name}: {error.strerror or error}") from error
    if len(content) > limit:
        raise _damaged(path.parent, f"{path.name} is longer than {limit} bytes")
    return content


def _damaged(path: Path, why: str) -> CorruptData:
    return CorruptData(
        f"the backup {path} cannot be used: {why}. Nothing was restored; use another backup"
    )


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
