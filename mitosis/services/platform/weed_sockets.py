"""The socket files of SeaweedFS: one for each of its ports, in /tmp, whatever TMPDIR says.

A killed server leaves them behind. In /tmp nobody may remove those of somebody else, so a server
that gets the port of one cannot start.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def _folders() -> set[Path]:
    return {Path("/tmp"), Path(tempfile.gettempdir())}  # noqa: S108


def _sockets() -> Iterator[tuple[int, bool, Path]]:
    """Yield the port of each, whether it is ours, and its path."""
    for folder in _folders():
        for path in folder.glob("seaweedfs-*.sock"):
            port = path.stem.rpartition("-")[2]
            with suppress(FileNotFoundError):  # another server has removed its own meanwhile
                if port.isdecimal():
                    yield int(port), path.lstat().st_uid == os.geteuid(), path


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove what a server of ours at these ports has left."""
    ours = set(ports)
    for port, is_ours, path in _sockets():
        if is_ours and port in ours:
            path.unlink(missing_ok=True)


def ports_of_others() -> set[int]:
    """Return the ports for which a server of ours could not make its sockets."""
    return {port for port, is_ours, _ in _sockets() if not is_ours}
