"""Moving bytes by presigned URLs: what worker and SDK do, without keys and without the S3 SDK.

URLs are secrets for as long as they live: no message here shows more of one than its host.
"""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError

from mitosis.errors import (
    CorruptData,
    InvalidInput,
    MitosisError,
    NotAllowed,
    NotFound,
    ObjectsUnavailable,
)

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # of silence; a slow transfer that moves is not cut
TRIES = 4
FIRST_DELAY_SECONDS = 0.2
_CHUNK = 1 << 18
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Progress = Callable[[int], None]


class TransferStopped(Exception):
    """The caller's `stop` said so."""


def _never() -> bool:
    return False


class Transfers:
    """Uploads and downloads over one pool of connections. Blocking: call it in threads.

    Args:
        tries: How often one transfer is begun at most.
        first_delay_seconds: Pause after the first failure; doubled after each.
        read_seconds: Silence of the store after which a try has failed.
        connections: Width of the pool; as many as the threads that use it.
    """

    def __init__(
        self,
        *,
        tries: int = TRIES,
        first_delay_seconds: float = FIRST_DELAY_SECONDS,
        read_seconds: float = READ_SECONDS,
        connections: int = 8,
    ) -> None:
        self._tries = tries
        self._first_delay = first_delay_seconds
        self._http = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
            retries=False,  # tries are counted here, since the body must start from its beginning
            blocksize=_CHUNK,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def upload(
        self,
        url: str,
        path: Path,
        *,
        progress: Progress | None = None,
        stop: Callable[[], bool] = _never,
    ) -> None:
        """PUT a whole file.

        Repeating is safe: the URL names one object, and the same bytes are sent.

        Args:
            url: Presigned PUT.
            path: The file; its size is what it is when the transfer begins.
            progress: Called with the number of bytes that were just read for sending.
            stop: Asked between chunks; True ends the transfer.

        Raises:
            NotAllowed: The store refuses the URL: expired, or signed for another address.
            ObjectsUnavailable: No success within the tries.
            TransferStopped: `stop` returned True.
            OSError: The file cannot be read.
        """

        def put() -> None:
            with path.open("rb", buffering=0) as source:
                body = _Body(source, progress, stop)
                # The length is always sent (some stores answer 411 without), and no header that
                # was not signed (some answer 403): facts on S3, 13 and 14.
                headers = {"Content-Length": str(os.fstat(source.fileno()).st_size)}
                response = self._http.request(
                    "PUT", url, body=cast(IO[bytes], body), headers=headers
                )
            _check(response.status, response.data, url, "upload")

        self._repeat(put, url, "upload", stop)

    def download(
        self,
        url: str,
        path: Path,
        *,
        sha256: str,
        size_bytes: int,
        progress: Progress | None = None,
        stop: Callable[[], bool] = _never,
    ) -> None:
        """GET an object into a file that appears under its name only when whole and right.

        A file of that name is replaced then, and not touched before.

        Raises:
            CorruptData: The bytes are not those that were stored (size or checksum).
            NotAllowed: The store refuses the URL: expired, or signed for another address.
            NotFound: The object is gone.
            ObjectsUnavailable: No success within the tries.
            TransferStopped: `stop` returned True.
            OSError: The file cannot be written.
        """
        part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")

        def get() -> None:
            response = self._http.request("GET", url, preload_content=False)
            try:
                if response.status != 200:
                    _check(response.status, response.read(4096), url, "download")
                with part.open("wb") as target:
                    _receive(response, target, sha256, size_bytes, progress, stop)
            finally:
                response.close()

        try:
            self._repeat(get, url, "download", stop)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _repeat(
        self, attempt: Callable[[], None], url: str, what: str, stop: Callable[[], bool]
    ) -> None:
        delay = self._first_delay
        for left in reversed(range(self._tries)):
            try:
                with _mapped(url, what):
                    attempt()
            except ObjectsUnavailable as error:
                if not left or not error.details.get("again"):
                    raise
            else:
                return
            if stop():
                raise TransferStopped
            time.sleep(delay)
            delay *= 2


_shared: list[Transfers] = []


def download(
    url: str,
    path: Path,
    *,
    sha256: str,
    size_bytes: int,
    progress: Progress | None = None,
) -> None:
    """`Transfers.download` over a pool that the process shares."""
    _process_pool().download(url, path, sha256=sha256, size_bytes=size_bytes, progress=progress)


def upload(url: str, path: Path, *, progress: Progress | None = None) -> None:
    """`Transfers.upload` over a pool that the process shares."""
    _process_pool().upload(url, path, progress=progress)


def _process_pool() -> Transfers:
    if not _shared:
        _shared.append(Transfers())
    return _shared[0]


def file_sha256(path: Path) -> str:
    """Checksum of a file in hexadecimal form."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


class _Body:
    """What is sent: a file that reports its progress and can be stopped."""

    def __init__(
        self, source: IO[bytes], progress: Progress | None, stop: Callable[[], bool]
    ) -> None:
        self._source, self._progress, self._stop = source, progress, stop

    def read(self, size: int = -1) -> bytes:
        if self._stop():
            raise TransferStopped
        data = self._source.read(size)
        if self._progress is not None:
            self._progress(len(data))
        return data


def _receive(
    response: urllib3.BaseHTTPResponse,
    target: IO[bytes],
    sha256: str,
    size_bytes: int,
    progress: Progress | None,
    stop: Callable[[], bool],
) -> None:
    digest, size = hashlib.sha256(), 0
    for chunk in response.stream(_CHUNK):
        if stop():
            raise TransferStopped
        size += len(chunk)
        if size > size_bytes:
            break  # whatever else comes, it is not what was stored
        digest.update(chunk)
        target.write(chunk)
        if progress is not None:
            progress(len(chunk))
    if size != size_bytes or digest.hexdigest() != sha256:
        raise CorruptData(
            f"the downloaded bytes are not those that were stored: {size} bytes with SHA-256 "
            f"{digest.hexdigest()}, expected {size_bytes} with {sha256}: nothing was kept",
            size=size, expected_size=size_bytes, expected_sha256=sha256,
        )  # fmt: skip


@contextlib.contextmanager
def _mapped(url: str, what: str) -> Iterator[None]:
    """Errors of the HTTP library, as errors of ours."""
    try:
        yield
    except LocationValueError as error:
        raise InvalidInput(f"the URL for the {what} cannot be read") from error
    except HTTPError as error:
        # The library's text may hold the whole URL: only the kind of the error is shown.
        kind = type(error).__name__
        raise ObjectsUnavailable(
            f"the {what} failed: no answer from the S3 store at {_host(url)} ({kind})", again=True
        ) from None


def _check(status: int, body: bytes, url: str, what: str) -> None:
    if 200 <= status < 300:
        return
    raise _refusal(status, _s3_code(body), _host(url), what)


def _refusal(status: int, code: str, host: str, what: str) -> MitosisError:
    said = f"{status} {code}".rstrip()
    if status == 404:
        return NotFound(f"the object of this {what} is not in the S3 store at {host} ({said})")
    if status in {401, 403}:
        return NotAllowed(
            f"the S3 store at {host} refused the {what} ({said}): the URL has expired, or it was "
            "signed for another address or by other keys: ask for a new one, and check "
            "s3_public_url and the clock of the coordinator",
            status=status,
        )
    return ObjectsUnavailable(
        f"the S3 store at {host} did not take the {what} ({said})",
        status=status, again=status in _TRY_AGAIN,
    )  # fmt: skip


def _s3_code(body: bytes) -> str:
    """The `<Code>` of an error document; the rest of it may repeat the signature."""
    _, found, rest = body[:4096].partition(b"<Code>")
    code = rest.partition(b"</Code>")[0] if found else b""
    return code[:64].decode("ascii", "replace") if code.isalnum() else ""


def _host(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or "?"
