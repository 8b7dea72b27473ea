"""The folder that keeps what there was before a repair, and what is under way.

    repair.json            the survey that the repair began with; `done` when it has ended
    stream/000001.gz ...   every commit that could be read of the damaged stream, as in a backup
    archive/<position>/    rows of the archive that were changed or cut, from there on
    MITO_EVENTS            JetStream's own files, if the server was one of a data folder

For its owner only (0700, 0600). A repair that broke off finds its survey here again.
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from mitosis.errors import AlreadyExists, CorruptData, InvalidInput
from mitosis.nats.server_config import write_private
from mitosis.projections.commit import RawCommit
from mitosis.services.backup.commits import CommitFiles
from mitosis.services.repair.survey import Survey

NOTE = "repair.json"


class Note(msgspec.Struct, frozen=True):
    """What `repair.json` says.

    Attributes:
        survey: What was found first.
        done: The repair has ended.
    """

    survey: Survey
    done: bool = False


class Kept:
    """One such folder.

    Attributes:
        path: The folder.
        note: Of the repair that is under way in it; None: it has not begun.
    """

    def __init__(self, path: Path, note: Note | None) -> None:
        """Use `open` instead."""
        self.path, self.note = path, note

    @classmethod
    def open(cls, path: Path) -> "Kept":
        """Open one of a repair that broke off, or make a new one.

        Raises:
            AlreadyExists: There is something else, or a repair that has ended.
            CorruptData: The note cannot be read.
            InvalidInput: It cannot be made.
        """
        path = path.expanduser().absolute()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (path / NOTE).exists():
                note = msgspec.json.decode((path / NOTE).read_bytes(), type=Note)
            else:
                note = None
                others = {item.name for item in path.iterdir()} - {"stream", "archive"}
                if any(not name.startswith(f".{NOTE}.") for name in others):
                    raise AlreadyExists(f"{path} is not empty: name a new folder by --keep")
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be used: {error.strerror}: --keep another"
            ) from error
        except msgspec.MsgspecError as error:
            raise CorruptData(f"{path / NOTE}: {error}: name another folder by --keep") from error
        if note is not None and note.done:
            raise AlreadyExists(f"{path} has what an earlier repair kept: name a new one by --keep")
        return cls(path, note)

    def begin(self, survey: Survey) -> Survey:
        """Note what was found, unless an earlier try has; return what was found first.

        Raises:
            InvalidInput: It cannot be written.
        """
        if self.note is None:
            self._write(Note(survey))
        if self.note is None:
            raise AssertionError("a note was written")
        return self.note.survey

    def finish(self) -> None:
        """Note the end."""
        if self.note is not None:
            self._write(Note(self.note.survey, done=True))

    async def add_stream(self, pieces: AsyncIterator[Sequence[RawCommit]]) -> None:
        """Keep what could be read of the stream.

        Raises:
            InvalidInput: It cannot be written.
        """
        with self._files("stream") as files:
            async for piece in pieces:
                files.add(piece)

    def add_archive(self, rows: Sequence[RawCommit]) -> None:
        """Keep rows of the archive that are changed or cut next.

        Raises:
            InvalidInput: It cannot be written.
        """
        with self._files(f"archive/{rows[0][0]}") as files:
            files.add(rows)

    def _files(self, name: str) -> CommitFiles:
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be written: {error.strerror}") from error
        return CommitFiles(folder)

    def _write(self, note: Note) -> None:
        try:
            write_private(self.path / NOTE, msgspec.json.encode(note).decode() + "\n")
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be written: {error.strerror}") from error
        self.note = note


def has_begun(path: Path | None) -> bool:
    """Whether a repair has broken off in a folder."""
    if path is None:
        return False
    try:
        note = msgspec.json.decode((path.expanduser() / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return False
    return not note.done


def unfinished(folder: Path) -> Path | None:
    """Return the newest folder in a folder in which a repair has broken off, or None."""
    return next((path for path in sorted(folder.glob("*"), reverse=True) if has_begun(path)), None)
