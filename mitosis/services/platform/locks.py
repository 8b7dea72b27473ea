"""One owner of a folder at a time, by `flock`, which ends with the last process that holds it."""

import asyncio
import fcntl
import os
import time
from pathlib import Path

from mitosis.services.platform.failures import FolderInUse

_POLL_SECONDS = 0.02


class FolderLock:
    """The right to work in a folder.

    A server gets the descriptor too (`pass_fds`), so the lock also outlives a killed supervisor as
    long as its server does: two nats-servers on one store would damage it without a word.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The descriptor to pass on to a server."""
        if self._descriptor is None:
            raise RuntimeError(f"the lock {self._path} is not held")
        return self._descriptor

    def take(self) -> None:
        """Takes the lock at once.

        Raises:
            FolderInUse: somebody else holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise
            raise FolderInUse(
                f"{self._what} {self._path.parent} is in use by process {owner or 'unknown'}: "
                "stop that one first or give another folder"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor

    async def take_within(self, seconds: float) -> None:
        """Takes the lock, waiting for the servers of a killed supervisor to end.

        Raises:
            FolderInUse: somebody still holds it after that time.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.take()
            except FolderInUse:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Gives the lock back; a server that still runs keeps holding it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
