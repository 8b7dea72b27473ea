"""One download by a presigned URL: streamed beside its target, checked, then renamed."""

import asyncio
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mitosis.errors import CorruptData, InvalidInput, NotFound, ObjectsUnavailable

if TYPE_CHECKING:
    import http.client

SILENCE_SECONDS = 30.0  # longest wait for the next bytes
CHUNK_BYTES = 1024 * 1024
MAX_ERROR_BYTES = 2_000


class _GivenUp(Exception):
    """The one who wanted the file does not want it any more."""


def target_path(output: Path | None, filename: str) -> Path:
    """Return the file to write: in a folder under its usual name, else exactly `output`.

    Raises:
        InvalidInput: The folder does not exist.
    """
    target = output if output is not None else Path()
    if target.is_dir():
        target /= filename
    if not target.parent.is_dir():
        raise InvalidInput(f"there is no folder {target.parent}: make it first", field="output")
    return target


async def download(url: str, target: Path, *, size_bytes: int, sha256: str) -> None:
    """Fetch a file. The target is replaced at once and only by the complete, right file.

    Raises:
        ObjectsUnavailable: The store does not answer, refuses, or stops half-way; try again.
        NotFound: The store has no such object.
        CorruptData: Size or checksum differ from what was stored.
        InvalidInput: The file cannot be written.
    """
    given_up = threading.Event()
    try:
        await asyncio.to_thread(_download, url, target, size_bytes, sha256, given_up)
    finally:
        given_up.set()


def _download(
    url: str, target: Path, size_bytes: int, sha256: str, given_up: threading.Event
) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    digest, received = hashlib.sha256(), 0
    try:
        with temporary.open("xb") as stream:
            for chunk in _chunks(url):
                if given_up.is_set():
                    raise _GivenUp
                digest.update(chunk)
                received += len(chunk)
                if received > size_bytes:
                    break
                stream.write(chunk)
        if received < size_bytes:
            raise ObjectsUnavailable(
                f"the file store stopped after {received} of {size_bytes} bytes of {target.name}: "
                "try again"
            )
        if received != size_bytes or digest.hexdigest() != sha256:
            raise CorruptData(
                f"what the store gave for {target.name} is not what was stored ({received} of "
                f"{size_bytes} bytes): nothing was written",
                size=received,
                expected_size=size_bytes,
            )
        if given_up.is_set():
            raise _GivenUp
        os.replace(temporary, target)  # noqa: PTH105  one name for the whole swap
    except _GivenUp:
        return
    except OSError as error:
        raise InvalidInput(
            f"{target} cannot be written: {error.strerror or error}", field="output"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _chunks(url: str) -> Iterator[bytes]:
    import http.client

    parts = urlsplit(url)
    secure = parts.scheme == "https"
    make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=SILENCE_SECONDS)
    place = f"{parts.scheme}://{parts.netloc}"
    try:
        connection.request("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        response = connection.getresponse()
        _check_status(response, place)
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ObjectsUnavailable(
            f"the file store at {place} does not answer ({reason}): try again"
        ) from error
    finally:
        connection.close()


def _check_status(response: "http.client.HTTPResponse", place: str) -> None:
    if response.status == 200:
        return
    text = response.read(MAX_ERROR_BYTES).decode(errors="replace")
    if response.status == 404:
        raise NotFound(f"the file store at {place} does not have the file any more")
    code = text.partition("<Code>")[2].partition("</Code>")[0]
    raise ObjectsUnavailable(
        f"the file store at {place} refuses: HTTP {response.status} {code}".rstrip()
    )
