"""The data folder of `mito up`: its layout, its format version, and who may use it."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mitosis._version import __version__
from mitosis.nats.server_config import write_private
from mitosis.services.platform.failures import FolderRefused
from mitosis.services.platform.locks import FolderLock

FORMAT = 1
"""Raised when an older version could damage or misread what a newer one wrote."""

_LOCK = "supervisor.lock"
MARK = "mitosis.json"


class _Mark(msgspec.Struct):
    """What makes a folder a data folder."""

    format: int
    made_by: str
    made_at: datetime


class DataFolder:
    """One folder with everything of one platform; one supervisor at a time works in it.

    Everything in it is private (0700, 0600): it holds keys, passwords and users' files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.secrets = self.path / "secrets"
        self.config = self.path / "config"
        self.logs = self.path / "logs"
        self.nats = self.path / "nats"
        self.postgres = self.path / "postgres"
        self.s3 = self.path / "s3"
        self.workers = self.path / "workers"
        self._lock = FolderLock(self.path / _LOCK, "the data folder")

    @property
    def ports_file(self) -> Path:
        """The ports of the last run."""
        return self.path / "ports.json"

    def open(self) -> None:
        """Locks the folder, checks that this version may use it, and makes what is missing.

        Raises:
            FolderInUse: another supervisor works in it.
            FolderRefused: it is of a newer version, damaged, or something else than a data folder.
        """
        self._make()
        self._lock.take()
        try:
            self._check()
            for folder in self._parts():
                folder.mkdir(mode=0o700, exist_ok=True)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Lets another supervisor work in the folder."""
        self._lock.release()

    def worker_folder(self, number: int) -> Path:
        """Where the worker of that number (from 1) keeps its work and its identity."""
        folder = self.workers / str(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _parts(self) -> list[Path]:
        parts = [self.secrets, self.config, self.logs, self.workers]
        return [*parts, self.nats, self.postgres, self.s3]

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            strangers = [item.name for item in self.path.iterdir() if item.name != _LOCK]
        except OSError as error:
            raise FolderRefused(
                f"the data folder {self.path} cannot be used ({error.strerror}): "
                "give another by --data"
            ) from error
        mark = self.path / MARK
        # A start that was killed may have left the temporary file of the mark, nothing else.
        others = [name for name in strangers if not name.startswith(f".{MARK}.")]
        if others and not mark.exists():
            raise FolderRefused(
                f"{self.path} is neither empty nor a Mitosis data folder ({MARK} is missing): "
                "give an empty or new folder by --data"
            )

    def _check(self) -> None:
        path = self.path / MARK
        if not path.exists():
            self.path.chmod(0o700)
            mark = _Mark(format=FORMAT, made_by=__version__, made_at=datetime.now(UTC))
            write_private(path, msgspec.json.encode(mark).decode() + "\n")
            return
        try:
            mark = msgspec.json.decode(path.read_bytes(), type=_Mark)
        except (msgspec.DecodeError, OSError) as error:
            raise FolderRefused(
                f"{path} cannot be read ({error}): restore it or give another folder by --data"
            ) from error
        if mark.format > FORMAT:
            raise FolderRefused(
                f"the data folder {self.path} has format {mark.format}, made by Mitosis "
                f"{mark.made_by}; this is Mitosis {__version__}, which knows up to {FORMAT}: "
                f"install Mitosis {mark.made_by} or newer, or give another folder by --data",
                found=mark.format,
                known=FORMAT,
            )
