"""Moving bytes by presigned URLs: what worker and SDK do, without keys and without the S3 SDK.

URLs are secrets for as long as they live: no message here shows more of one than its host. Only
the standard library is used, and what of it is heavy is imported when it is needed: every client
command pays for what is imported here.
"""

import contextlib
import hashlib
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from mitosis.artifacts.pieces import (
    Body,
    Digest,
    FileTrouble,
    Receiver,
    TransferStopped,
    digest_of_received,
)
from mitosis.artifacts.signing import ONLY_NEW, is_only_new
from mitosis.errors import InvalidInput, MitosisError, NotAllowed, NotFound, ObjectsUnavailable
from mitosis.tls import Place, Trust, why_refused

if TYPE_CHECKING:
    import http.client
    import socket

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0  # of silence; a slow transfer that moves is not cut
TRIES = 4
FIRST_DELAY_SECONDS = 0.2
CHUNK_BYTES = 1 << 18
SYSTEM_TRUST = Trust("s3_ca")
_MAX_ERROR_BYTES = 4_096
PARTIAL_CONTENT = 206
THERE_ALREADY = 412
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})  # 409: two PUTs at once

T = TypeVar("T")

Progress = Callable[[int], None]
Stop = Callable[[], bool]


def _never() -> bool:
    return False


class Stopper:
    """Ends a transfer from another thread at once, also one that waits for the store."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        """Whether it was stopped."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End what runs, and what begins later."""
        self._stopped.set()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):  # it was closed a moment ago
                    sock.shutdown(2)

    @contextlib.contextmanager
    def watching(self, sock: "socket.socket") -> Iterator[None]:
        """Let this socket be ended too, while inside."""
        with self._lock:
            self._sockets.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(sock)


class Transfers:
    """Uploads and downloads. Blocking: call it in threads.

    Args:
        tries: How often one transfer is begun at most.
        first_delay_seconds: Pause after the first failure; doubled after each.
        read_seconds: Silence of the store after which a try has failed.
        trust: Whose certificates are believed.
    """

    def __init__(
        self,
        *,
        tries: int = TRIES,
        first_delay_seconds: float = FIRST_DELAY_SECONDS,
        read_seconds: float = READ_SECONDS,
        trust: Trust = SYSTEM_TRUST,
    ) -> None:
        self._tries = tries
        self._first_delay = first_delay_seconds
        self._read_seconds = read_seconds
        self._trust = trust

    def upload(
        self,
        url: str,
        path: Path,
        *,
        offset: int = 0,
        length: int | None = None,
        digest: Digest | None = None,
        progress: Progress | None = None,
        stop: Stop = _never,
    ) -> Digest:
        """PUT a file, or a piece of one.

        Repeating is safe: the URL names one object, and the same bytes are sent. A store that
        says that the object is there already has it by a try whose answer was lost: nobody else
        was given the URL.

        Args:
            url: Presigned PUT.
            path: The file.
            offset: Where the piece begins.
            length: How long it is; None: to the end of the file, as it is now.
            digest: Checksum of what comes before the piece; it is not changed.
            progress: Called with the number of bytes that were just read for sending; with a
                negative number when they are to be sent again.
            stop: Asked between chunks; True ends the transfer.

        Returns:
            The checksum (SHA-256) that `digest` would be with the bytes that were sent.

        Raises:
            InvalidInput: The file became shorter meanwhile.
            NotAllowed: The store refuses the URL: expired, or signed for another address.
            ObjectsUnavailable: No success within the tries.
            TransferStopped: `stop` returned True.
            OSError: The file cannot be read.
        """
        before: Digest = digest or hashlib.sha256()
        with path.open("rb", buffering=0) as source:
            size = os.fstat(source.fileno()).st_size - offset if length is None else length

            def put() -> Digest:
                source.seek(offset)
                body = Body(source, size, before.copy(), progress, stop)
                with body.taken_back_on_failure(), self._connection(url, stop) as connection:
                    response = _send(connection, url, body, size)
                    if response.status == THERE_ALREADY and is_only_new(url):
                        body.read_to_the_end()  # it may have refused before it got everything
                    else:
                        _check(response, url, "upload")
                return body.digest

            return self._repeat(put, url, "upload", stop)

    def download(
        self,
        url: str,
        path: Path,
        *,
        sha256: str,
        size_bytes: int,
        progress: Progress | None = None,
        stop: Stop = _never,
    ) -> None:
        """GET an object into a file that appears under its name only when whole and right.

        A file of that name is replaced then, and not touched before. After a broken connection it
        goes on where it stopped.

        Raises:
            CorruptData: The bytes are not those that were stored (size or checksum).
            NotAllowed: The store refuses the URL: expired, or signed for another address.
            NotFound: The object is gone.
            ObjectsUnavailable: No success within the tries.
            TransferStopped: `stop` returned True.
            OSError: The file cannot be written.
        """
        part = path.with_name(f".mito-{secrets.token_hex(8)}.part")  # short: names have limits
        try:
            with part.open("xb") as target, digest_of_received(size_bytes) as digest:
                receiver = Receiver(target, sha256, size_bytes, progress, stop, digest)

                def get() -> None:
                    with self._connection(url, stop) as connection:
                        headers = (
                            {"Range": f"bytes={receiver.received}-"} if receiver.received else {}
                        )
                        connection.request("GET", _target(url), headers=headers)
                        response = connection.getresponse()
                        _check(response, url, "download")
                        if response.status != PARTIAL_CONTENT:
                            receiver.restart()
                        chunks = iter(lambda: response.read(CHUNK_BYTES), b"")
                        receiver.take(chunks, response.length)

                self._repeat(get, url, "download", stop)
            if stop():
                raise TransferStopped
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _connection(self, url: str, stop: Stop) -> Iterator["http.client.HTTPConnection"]:
        import http.client

        parts = urlsplit(url)
        connection: http.client.HTTPConnection
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise InvalidInput("the URL for the transfer cannot be read") from None
        if parts.scheme == "https":
            context = self._trust.context()
            connection = http.client.HTTPSConnection(
                host, port, timeout=CONNECT_SECONDS, context=context, blocksize=CHUNK_BYTES
            )
        else:
            connection = http.client.HTTPConnection(
                host, port, timeout=CONNECT_SECONDS, blocksize=CHUNK_BYTES
            )
        with contextlib.closing(connection), contextlib.ExitStack() as watched:
            connection.connect()
            connection.sock.settimeout(self._read_seconds)
            if isinstance(stop, Stopper):
                watched.enter_context(stop.watching(connection.sock))
            yield connection

    def _repeat(self, attempt: Callable[[], T], url: str, what: str, stop: Stop) -> T:
        delay = self._first_delay
        left = self._tries
        while True:
            left -= 1
            try:
                with _mapped(url, what, stop, self._trust):
                    return attempt()
            except FileTrouble as trouble:
                raise trouble.error from None
            except ObjectsUnavailable as error:
                if not left or not error.details.get("again"):
                    raise
            if stop():
                raise TransferStopped
            time.sleep(delay)
            delay *= 2


def download(
    url: str,
    path: Path,
    *,
    sha256: str,
    size_bytes: int,
    progress: Progress | None = None,
) -> None:
    """`Transfers.download` with the usual limits."""
    Transfers().download(url, path, sha256=sha256, size_bytes=size_bytes, progress=progress)


def _send(
    connection: "http.client.HTTPConnection", url: str, body: Body, size: int
) -> "http.client.HTTPResponse":
    # The length is always sent (some stores answer 411 without, and it is signed), and no header
    # that was not signed (some answer 403): facts on S3, 13 and 14.
    import http.client

    headers = {"Content-Length": str(size), **(ONLY_NEW if is_only_new(url) else {})}
    try:
        connection.request("PUT", _target(url), body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError):
        # The store has refused before it read everything: its answer may be there.
        with contextlib.suppress(OSError, http.client.HTTPException):
            return connection.getresponse()
        raise
    return connection.getresponse()


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


@contextlib.contextmanager
def _mapped(url: str, what: str, stop: Stop, trust: Trust) -> Iterator[None]:
    """Errors of the HTTP library and of the network, as errors of ours."""
    import http.client

    try:
        yield
    except ssl.SSLCertVerificationError as error:
        parts = urlsplit(url)
        reason = why_refused(Place(parts.hostname or "", parts.port or 443), trust)
        raise ObjectsUnavailable(
            f"no secure connection to the S3 store at {_host(url)}: "
            f"{reason or error.verify_message}"
        ) from None
    except (http.client.HTTPException, OSError) as error:
        if stop():
            raise TransferStopped from None
        # The library's text may hold the whole URL: only the kind of the error is shown.
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ObjectsUnavailable(
            f"the {what} failed: no answer from the S3 store at {_host(url)} ({reason}): try again",
            again=True,
        ) from None


def _check(response: "http.client.HTTPResponse", url: str, what: str) -> None:
    if 200 <= response.status < 300:
        return
    raise _refusal(response.status, _s3_code(response.read(_MAX_ERROR_BYTES)), _host(url), what)


def _refusal(status: int, code: str, host: str, what: str) -> MitosisError:
    said = f"{status} {code}".rstrip()
    if status == 404:
        return NotFound(f"the object of this {what} is not in the S3 store at {host} ({said})")
    if status in {401, 403}:
        return NotAllowed(
            f"the S3 store at {host} refused the {what} ({said}): the URL has expired, or it was "
            "signed for another address, for another size or by other keys: ask for a new one, "
            "and check s3_public_url and the clock of the coordinator",
            status=status,
        )
    return ObjectsUnavailable(
        f"the S3 store at {host} did not take the {what} ({said})",
        status=status, again=status in _TRY_AGAIN,
    )  # fmt: skip


def _s3_code(body: bytes) -> str:
    """The `<Code>` of an error document; the rest of it may repeat the signature."""
    _, found, rest = body.partition(b"<Code>")
    code = rest.partition(b"</Code>")[0] if found else b""
    return code[:64].decode("ascii", "replace") if code.isalnum() else ""


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or "?"
