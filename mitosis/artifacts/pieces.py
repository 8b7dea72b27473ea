"""The two ends of a transfer: a file that is read while it is sent, and one that is written."""

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Protocol, Self

from mitosis.errors import CorruptData, InvalidInput

if TYPE_CHECKING:
    from concurrent.futures import Future

_CHUNK_BYTES = 1 << 18
ASIDE_BYTES = 8 << 20  # a file below that is not worth a thread
_MOST_BEHIND = 4  # chunks


class TransferStopped(Exception):
    """The caller's `stop` said so."""


class FileTrouble(Exception):
    """The local file cannot be read or written: no trouble of the network. `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Digest(Protocol):
    """A checksum that grows (`hashlib.sha256()`)."""

    def update(self, data: bytes, /) -> None:
        """Take bytes in."""

    def hexdigest(self) -> str:
        """The checksum so far."""

    def copy(self) -> Self:
        """Another one that has taken in the same."""


class DigestAside:
    """A checksum (SHA-256) that a thread of its own takes while the next bytes come.

    Use as a context manager: the thread ends with it.
    """

    def __init__(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, "checksum")
        self._behind: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def restart(self) -> None:
        """Begin again."""
        self._settle(0)
        self._digest = hashlib.sha256()

    def update(self, data: bytes, /) -> None:
        """Take bytes in, later; wait when it is too far behind."""
        self._behind.append(self._thread.submit(self._digest.update, data))
        self._settle(_MOST_BEHIND)

    def hexdigest(self) -> str:
        """The checksum of everything."""
        self._settle(0)
        return self._digest.hexdigest()

    def _settle(self, most_behind: int) -> None:
        while len(self._behind) > most_behind:
            self._behind.popleft().result()


class DigestInPlace:
    """The same of what is small, without a thread."""

    def __init__(self) -> None:
        self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def restart(self) -> None:
        """Begin again."""
        self._digest = hashlib.sha256()

    def update(self, data: bytes, /) -> None:
        """Take bytes in."""
        self._digest.update(data)

    def hexdigest(self) -> str:
        """The checksum of everything."""
        return self._digest.hexdigest()


def digest_of_received(size_bytes: int) -> DigestAside | DigestInPlace:
    """Return what takes the checksum of so many bytes that come."""
    return DigestAside() if size_bytes >= ASIDE_BYTES else DigestInPlace()


class Body:
    """What is sent: so many bytes of a file, with their checksum. It can be stopped."""

    def __init__(
        self,
        source: IO[bytes],
        size: int,
        digest: Digest,
        progress: Callable[[int], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.digest = digest
        self._source, self._left = source, size
        self._progress, self._stop = progress, stop
        self._reported = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; the HTTP library asks for them.

        Raises:
            TransferStopped: Somebody wants it to end.
            InvalidInput: The file has become shorter.
        """
        if self._stop():
            raise TransferStopped
        with _file_trouble():
            data = self._source.read(min(size, self._left) if size >= 0 else self._left)
        if not data and self._left:
            raise InvalidInput(
                f"{self._source.name} became shorter while it was uploaded ({self._left} bytes "
                "are missing): upload it when nobody writes to it"
            )
        self._left -= len(data)
        self.digest.update(data)
        self._report(len(data))
        return data

    def read_to_the_end(self) -> None:
        """Take in what nobody has asked for, so that the checksum is that of all.

        Raises:
            TransferStopped, InvalidInput: As by `read`.
        """
        while self._left:
            self.read(_CHUNK_BYTES)

    @contextlib.contextmanager
    def taken_back_on_failure(self) -> Iterator[None]:
        """Take back what was told as progress when an error ends the try."""
        try:
            yield
        except BaseException:
            self._report(-self._reported)
            raise

    def _report(self, count: int) -> None:
        self._reported += count
        if self._progress is not None and count:
            self._progress(count)


class Receiver:
    """What is received, in one try or several, with its checksum."""

    def __init__(
        self,
        target: IO[bytes],
        sha256: str,
        size_bytes: int,
        progress: Callable[[int], None] | None,
        stop: Callable[[], bool],
        digest: DigestAside | DigestInPlace,
    ) -> None:
        self.received = 0
        self._target, self._sha256, self._size = target, sha256, size_bytes
        self._progress, self._stop = progress, stop
        self._digest = digest

    def restart(self) -> None:
        """Begin again: the store does not go on where it stopped."""
        self._report(-self.received)
        self.received = 0
        self._digest.restart()
        with _file_trouble():
            self._target.seek(0)
            self._target.truncate()

    def take(self, chunks: Iterable[bytes], announced: int | None) -> None:
        """Write what comes; `announced`: how many bytes the store said.

        Raises:
            TransferStopped: Somebody wants it to end.
            CorruptData: More bytes came than were stored.
            ConnectionError: Fewer came than the store announced.
        """
        before = self.received
        for chunk in chunks:
            if self._stop():
                raise TransferStopped
            self.received += len(chunk)
            if self.received > self._size:
                self.check()
            self._digest.update(chunk)
            with _file_trouble():
                self._target.write(chunk)
            self._report(len(chunk))
        if self.received < self._size and self.received - before != announced:
            raise ConnectionError(f"it ended after {self.received} of {self._size} bytes")
        self.check()

    def check(self) -> None:
        """Check size and checksum.

        Raises:
            CorruptData: They are not those of what was stored.
        """
        if self.received != self._size or self._digest.hexdigest() != self._sha256:
            raise CorruptData(
                f"the downloaded bytes are not those that were stored: {self.received} bytes with "
                f"SHA-256 {self._digest.hexdigest()}, expected {self._size} with {self._sha256}: "
                "nothing was kept",
                size=self.received, expected_size=self._size, expected_sha256=self._sha256,
            )  # fmt: skip

    def _report(self, count: int) -> None:
        if self._progress is not None and count:
            self._progress(count)


@contextlib.contextmanager
def _file_trouble() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileTrouble(error) from error
