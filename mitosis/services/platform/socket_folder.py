"""A private folder for a unix socket, with a path that is short enough for one."""

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from mitosis.services.platform.failures import FolderRefused

_LONGEST_BYTES = 85
"""Socket paths end at 103 bytes on macOS and 107 on Linux; `/.s.PGSQL.5432` takes 14."""
_MISREAD = set(",\"'\\%@?& ")
"""Postgres and libpq read lists and addresses, and each would have these quoted otherwise."""


class SocketFolder:
    """The wanted folder, or a short one of our own elsewhere when that cannot serve."""

    def __init__(self, wanted: Path) -> None:
        name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
        is_short = len(os.fsencode(wanted)) <= _LONGEST_BYTES
        is_plain = str(wanted).isascii() and not _MISREAD & set(str(wanted))
        self.path = wanted if is_short and is_plain else _base() / f"mito-{name}"

    def make(self) -> Path:
        """Makes the folder, 0700.

        Raises:
            FolderRefused: something else, or somebody else's folder, lies there.
        """
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            info = self.path.lstat()
            if not stat.S_ISDIR(info.st_mode) or info.st_uid not in {os.geteuid(), _lent(info)}:
                raise FolderRefused(
                    f"{self.path} is needed for a socket but belongs to somebody else: remove it"
                ) from None
            self.path.chmod(0o700)
        return self.path

    def remove(self) -> None:
        """Removes the folder with what a killed server left in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _lent(info: os.stat_result) -> int:
    # Root may have handed the folder of an earlier run over to the user of the server.
    return info.st_uid if os.geteuid() == 0 else os.geteuid()


def _base() -> Path:
    """The user's runtime folder when there is one, else the temporary folder."""
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    usable = runtime.is_absolute() and runtime.is_dir() and runtime.stat().st_uid == os.geteuid()
    if usable and len(os.fsencode(runtime)) <= 60:
        return runtime
    shared = Path(tempfile.gettempdir())
    return shared if len(os.fsencode(shared)) <= 60 else Path("/tmp")  # noqa: S108
